"""Which pods are used through gateways, for who judges whether a pod is idle: this process's own, and others'.

`Traffic` is the server's: its own gateway and those that run as processes of their own (`/internal/traffic`) tell it,
reconcile.limits takes it. `TrafficReport` is the other end in such a process. Nothing is told while nothing is used.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from neuropod.gateway.gate import DoorkeeperUnavailableError
from neuropod.ids import PodId
from neuropod.kit.clock import Clock

log = structlog.get_logger(__name__)

REPORT_SECONDS = 10.0
_MOST_PODS = 100_000  # more are not remembered


class Traffic:
    """The pods that were used since somebody asked last."""

    def __init__(self, own: Callable[[], set[PodId]] | None = None) -> None:
        self._own = own  # what this process's own gateway saw since it was asked last
        self._told: set[PodId] = set()

    def used(self, pods: Iterable[PodId]) -> None:
        """Learn that these were used a moment ago: told by other gateways, and by terminals."""
        for pod_id in pods:
            if len(self._told) < _MOST_PODS:
                self._told.add(pod_id)

    def take(self) -> set[PodId]:
        """Return which were used since this was asked last."""
        told, self._told = self._told, set()
        return told if self._own is None else told | self._own()


class Listens(Protocol):
    """The server, as a gateway's end of its socket (remote.ServerSocket)."""

    async def tell_traffic(self, pods: Iterable[PodId]) -> None:
        """Tell it which pods were used. Raises DoorkeeperUnavailableError."""
        ...


class TrafficReport:
    """Tells a server now and then what a gateway of its own carried; `run` is its loop."""

    def __init__(self, used: Callable[[], set[PodId]], server: Listens, clock: Clock) -> None:
        self._used = used
        self._server = server
        self._clock = clock
        self._untold: set[PodId] = set()

    async def run(self) -> None:
        """Report until cancelled; what cannot be told is told when the server is back."""
        while True:
            await self._clock.sleep(REPORT_SECONDS)
            self._untold |= self._used()
            if not self._untold:
                continue
            try:
                await self._server.tell_traffic(self._untold)
            except DoorkeeperUnavailableError as error:
                log.debug("the traffic cannot be told now", error=str(error))
            else:
                self._untold = set()
