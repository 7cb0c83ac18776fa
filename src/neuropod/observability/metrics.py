"""Metrics in the Prometheus text format, in a registry of the server's own.

server makes one `Metrics` and passes it down; a part asks it for its counters when it is built. `/metrics` renders
it, for operators only. Label values come from closed sets (routes, statuses, reasons), never from users: a label per
pod would grow without end.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

MetricT = TypeVar("MetricT", Counter, Gauge, Histogram)

SECONDS_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one server. Asking twice for a name gives the same metric."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        """Return the counter `neuropod_<name>`; it only grows."""
        return self._metric(name, Counter, lambda full: Counter(full, documentation, labels, registry=self.registry))

    def gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
        """Return the gauge `neuropod_<name>`."""
        return self._metric(name, Gauge, lambda full: Gauge(full, documentation, labels, registry=self.registry))

    def histogram(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = SECONDS_BUCKETS,
    ) -> Histogram:
        """Return the histogram `neuropod_<name>`, of seconds by default."""
        return self._metric(
            name,
            Histogram,
            lambda full: Histogram(full, documentation, labels, registry=self.registry, buckets=buckets),
        )

    def _metric(self, name: str, kind: type[MetricT], make: Callable[[str], MetricT]) -> MetricT:
        metric = self._made.get(name)
        if metric is None:
            metric = self._made[name] = make(f"neuropod_{name}")
        if not isinstance(metric, kind):
            raise TypeError(f"{name} is a {type(metric).__name__} already")
        return metric

    def render(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self.registry)
