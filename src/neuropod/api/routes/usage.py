"""`/api/v1/pods/{pod}/usage`: what a pod uses now, measured for the answer, and the points of the last hours.

The rate of CPU needs two measurements: the first answer about a pod takes the last point's, the next ones measure from
answer to answer, so that who watches sees what happens. No session is open while a runtime is asked.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from neuropod.api.deps import Caller, Reader
from neuropod.ids import RuntimeId
from neuropod.pods.room import BYTES_PER_GB
from neuropod.pods.usage.series import KEPT, Point, joined
from neuropod.pods.usage.store import packed_points
from neuropod.pods.views import PodView
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.usage import usage_reader
from neuropod.wire.usage import PodUsage, UsagePoint, UsageSize

router = APIRouter(prefix="/pods/{pod}/usage", tags=["usage"])

_MEASURE_SECONDS = 5.0
_HOURS = int(KEPT / timedelta(hours=1))


@router.get("", operation_id="showUsage")
async def show_usage(
    pod: str,
    caller: Reader,
    hours: Annotated[
        int, Query(ge=0, le=_HOURS, description="How many hours back points are wanted; 0: none.")
    ] = _HOURS,
) -> PodUsage:
    """Return what a pod uses now and used in the last hours."""
    parts = caller.parts
    now = parts.clock.now()
    step = timedelta(seconds=parts.settings.reconcile.look_seconds)
    recent = now - 3 * step  # what is good for "now" where nothing can be measured
    since = now - timedelta(hours=hours)
    async with caller.reading() as session:
        view = await parts.pods.show_pod(session, pod, actor=caller.actor)
        packed = await packed_points(session, view.id, since=min(since, recent))
    points = joined(packed, since=min(since, recent), apart=step)
    last = points[-1] if points and points[-1].at >= recent else None
    return PodUsage(
        pod_id=view.id,
        size=_size(view),
        now=_answer(await _now(caller, view, last, now)),
        step_seconds=round(step.total_seconds()),
        points=[point for point in map(_answer, points) if point is not None and point.at >= since],
    )


async def _now(caller: Caller, view: PodView, last: Point | None, now: datetime) -> Point | None:
    """Measure; where that cannot be, return the last point of the present run."""
    run, parts = view.incarnation, caller.parts
    if run is None or run.started_at is None or run.ended_at is not None:
        return None
    last = last if last is not None and last.at >= run.started_at else None
    runtime = parts.runtimes.get(RuntimeId(view.runtime_id))
    reader = None if runtime is None else usage_reader(runtime)
    if reader is None:
        return last
    workload_id = parts.pods.workloads.id_of(view.id, run.number)
    try:
        async with asyncio.timeout(_MEASURE_SECONDS):
            measured = await reader.usage([workload_id])
    except (RuntimeUnavailableError, TimeoutError):
        return last
    if workload_id not in measured:
        return None
    return parts.meter.point(
        workload_id, measured[workload_id], now, otherwise=last.cpu_cores if last is not None else None
    )


def _size(view: PodView) -> UsageSize:
    pod = view.pod
    return UsageSize(
        cpu_cores=pod.cpu_cores,
        memory_bytes=pod.memory_gb * BYTES_PER_GB,
        container_disk_bytes=pod.container_disk_gb * BYTES_PER_GB,
        volume_bytes=None if view.volume is None else view.volume.size_gb * BYTES_PER_GB,
    )


def _answer(point: Point | None) -> UsagePoint | None:
    if point is None:
        return None
    return UsagePoint(
        at=point.at,
        cpu_cores=None if point.cpu_cores is None else round(point.cpu_cores, 3),
        memory_bytes=point.memory_bytes,
        container_disk_bytes=point.container_disk_bytes,
        volume_bytes=point.volume_bytes,
        gpu_percent=point.gpu_percent,
        gpu_memory_bytes=point.gpu_memory_bytes,
    )
