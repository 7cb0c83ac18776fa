"""Points of usage: made of two readings, packed into 25 bytes each, unpacked again. Pure.

Called by reconcile.limits, which keeps an hour of them per row, and by the API's answer. A packed point rounds: CPU to
a thousandth of a core, sizes to pages of 4,096 bytes, the time to a second.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import inf
from struct import Struct

from neuropod.ids import PodId
from neuropod.runtimes.contract import WorkloadId
from neuropod.runtimes.usage import Usage

KEPT = timedelta(hours=6)
CHUNK = timedelta(hours=1)  # of points in one row, so that a new one rewrites no more than that
_PAGE_BYTES = 4096
_NONE, _NO_PERCENT = 2**32 - 1, 255
_PACKED = Struct("<IIIIIIB")


@dataclass(frozen=True, slots=True)
class Point:
    """What a pod used at a time; None: not known. `cpu_cores` is the average since the reading before."""

    at: datetime
    cpu_cores: float | None
    memory_bytes: int | None
    container_disk_bytes: int | None
    volume_bytes: int | None
    gpu_percent: int | None  # the average of its GPUs
    gpu_memory_bytes: int | None  # of all of them together


class Meter:
    """Makes rates of what counts up: remembers the last reading of each workload, of the `most` last read.

    A rate is made of two readings that are `least_seconds` apart, and no more than `greatest_seconds`.
    """

    def __init__(self, *, least_seconds: float = 0.5, greatest_seconds: float = inf, most: int = 10_000) -> None:
        self._least_seconds = least_seconds
        self._greatest_seconds = greatest_seconds
        self._most = most
        self._readings: dict[WorkloadId, tuple[datetime, float, float | None]] = {}

    def point(self, workload_id: WorkloadId, usage: Usage, at: datetime, *, otherwise: float | None = None) -> Point:
        """Return the point of a reading; where it is a workload's first its CPU rate is `otherwise`."""
        cpu_cores = self._cpu_cores(workload_id, usage.cpu_seconds, at)
        percents = [gpu.percent for gpu in usage.gpus if gpu.percent is not None]
        memories = [gpu.memory_bytes for gpu in usage.gpus if gpu.memory_bytes is not None]
        return Point(
            at,
            otherwise if cpu_cores is None else cpu_cores,
            usage.memory_bytes,
            usage.container_disk_bytes,
            usage.volume_bytes,
            round(sum(percents) / len(percents)) if percents else None,
            sum(memories) if memories else None,
        )

    def _cpu_cores(self, workload_id: WorkloadId, cpu_seconds: float | None, at: datetime) -> float | None:
        if cpu_seconds is None:
            return None
        before = self._readings.get(workload_id)
        seconds = 0.0 if before is None else (at - before[0]).total_seconds()
        if before is None or seconds > self._greatest_seconds:
            self._remember(workload_id, (at, cpu_seconds, None))
            return None
        if seconds < self._least_seconds:
            return before[2]
        # A count that went back (a process left that nobody waited for) makes no rate below zero.
        rate = max(0.0, cpu_seconds - before[1]) / seconds
        self._remember(workload_id, (at, cpu_seconds, rate))
        return rate

    def _remember(self, workload_id: WorkloadId, reading: tuple[datetime, float, float | None]) -> None:
        self._readings.pop(workload_id, None)  # so that the first is the one that was read longest ago
        self._readings[workload_id] = reading
        if len(self._readings) > self._most:
            del self._readings[next(iter(self._readings))]

    def keep(self, workload_ids: Iterable[WorkloadId]) -> None:
        """Forget all others."""
        kept = frozenset(workload_ids)
        self._readings = {one: reading for one, reading in self._readings.items() if one in kept}


def pack(point: Point) -> bytes:
    """Return the point as bytes."""
    return _PACKED.pack(
        int(point.at.timestamp()),
        _NONE if point.cpu_cores is None else min(round(point.cpu_cores * 1000), _NONE - 1),
        _pages(point.memory_bytes),
        _pages(point.container_disk_bytes),
        _pages(point.volume_bytes),
        _pages(point.gpu_memory_bytes),
        _NO_PERCENT if point.gpu_percent is None else max(0, min(point.gpu_percent, 100)),
    )


def _pages(size: int | None) -> int:
    return _NONE if size is None else min(-(-size // _PAGE_BYTES), _NONE - 1)


def unpack(packed: bytes) -> list[Point]:
    """Return the points of a row."""
    whole = len(packed) - len(packed) % _PACKED.size
    points = []
    for at, cpu, memory, disk, volume, gpu_memory, gpu in _PACKED.iter_unpack(packed[:whole]):
        points.append(
            Point(
                datetime.fromtimestamp(at, UTC),
                None if cpu == _NONE else cpu / 1000,
                _bytes(memory),
                _bytes(disk),
                _bytes(volume),
                None if gpu == _NO_PERCENT else gpu,
                _bytes(gpu_memory),
            )
        )
    return points


def _bytes(pages: int) -> int | None:
    return None if pages == _NONE else pages * _PAGE_BYTES


def joined(chunks: Sequence[bytes], *, since: datetime, apart: timedelta) -> list[Point]:
    """Return the points of all rows in order, from `since` on; of two that are too close (two servers) the first."""
    points = sorted((point for chunk in chunks for point in unpack(chunk)), key=lambda point: point.at)
    late = [point for point in points if point.at >= since]
    return late[:1] + [after for before, after in pairwise(late) if after.at - before.at >= apart / 2]


@dataclass(slots=True)
class Chunk:
    """A row that is being filled."""

    began_at: datetime
    points: bytearray


class Recorder:
    """The chunks that one server fills, a row each."""

    def __init__(self) -> None:
        self._chunks: dict[PodId, Chunk] = {}

    def add(self, points: Mapping[PodId, Point]) -> None:
        """Add a point for each of these pods; the others are over, and forgotten."""
        chunks = {}
        for pod_id, point in points.items():
            chunk = self._chunks.get(pod_id)
            if chunk is None or point.at - chunk.began_at >= CHUNK:
                chunk = Chunk(point.at, bytearray())
            chunk.points += pack(point)
            chunks[pod_id] = chunk
        self._chunks = chunks

    @property
    def chunks(self) -> Mapping[PodId, Chunk]:
        """By pod; each got a point with the last `add`."""
        return self._chunks
