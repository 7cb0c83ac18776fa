"""The SQL of room: what is taken of a runtime, who waits before whom, and who is woken when something is given back.

Used by opening.store and runs.store (under `lock_runtime`, so that nothing is given twice and no wake-up is lost) and
by store (for a pod's place in its queue). Whoever takes the lock takes it before any row, which rules out deadlocks
with wake-ups.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, func, or_, select, text, update
from sqlalchemy.orm import aliased

from neuropod.catalogue.devices import Finder
from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.engine import ReadSession, Session, Topic
from neuropod.db.reading import read_values
from neuropod.ids import PodId, RuntimeId
from neuropod.pods.lifecycle import Room
from neuropod.pods.records import AllocationRow, PodRow
from neuropod.pods.room import BYTES_PER_GB, Need, Taken, need_of, shortage
from neuropod.runtimes.contract import Capacity
from neuropod.volumes.records import VolumeRow
from neuropod.words import Reason, Want

QUEUE_REASONS = (Reason.NO_CAPACITY.value, Reason.NO_GPU.value)
# Who waits for its volume's machine stands in no queue: what is free elsewhere is for the others.
WAITING_REASONS = (*QUEUE_REASONS, Reason.VOLUME_ELSEWHERE.value)


async def lock_runtime(session: Session, runtime_id: RuntimeId) -> None:
    """Let nobody else give or take anything of the runtime until this transaction ends. SQLite's writers are alone."""
    if session.get_bind().dialect.name == "postgresql":
        key = int.from_bytes(sha256(f"runtime {runtime_id}".encode()).digest()[:8], "big", signed=True)
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


_RUNTIME_IDS: BindParameter[Any] = bindparam("runtime_ids", expanding=True)
_AMOUNTS = (
    select(
        AllocationRow.runtime_id,
        func.sum(AllocationRow.cpu_cores).label("cpu_cores"),
        func.sum(AllocationRow.memory_bytes).label("memory_bytes"),
        func.sum(AllocationRow.disk_bytes).label("disk_bytes"),
        func.count(AllocationRow.device).label("devices"),
    )
    .where(AllocationRow.runtime_id.in_(_RUNTIME_IDS))
    .group_by(AllocationRow.runtime_id)
)
_VOLUMES = (
    select(VolumeRow.runtime_id, func.sum(VolumeRow.size_gb).label("gb"))
    .where(VolumeRow.runtime_id.in_(_RUNTIME_IDS))
    .group_by(VolumeRow.runtime_id)
)


async def taken_of(session: ReadSession, runtime_ids: Collection[RuntimeId]) -> dict[RuntimeId, Taken]:
    """Return what is taken of each runtime."""
    of_these = {"runtime_ids": list(runtime_ids)}
    volume_gb = {runtime_id: int(gb) for runtime_id, gb in await read_values(session, _VOLUMES, of_these)}
    amounts = {runtime_id: amount for runtime_id, *amount in await read_values(session, _AMOUNTS, of_these)}
    devices = await _devices(session, [runtime_id for runtime_id, (*_, devices) in amounts.items() if devices])
    taken = {}
    for runtime_id in runtime_ids:
        cpu_cores, memory_bytes, disk_bytes, _ = amounts.get(runtime_id, (0, 0, 0, 0))
        taken[runtime_id] = Taken(
            cpu_cores=int(cpu_cores),
            memory_bytes=int(memory_bytes),
            disk_bytes=int(disk_bytes),
            volume_bytes=volume_gb.get(runtime_id, 0) * BYTES_PER_GB,
            devices=devices.get(runtime_id, frozenset()),
        )
    return taken


async def _devices(session: ReadSession, runtime_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    if runtime_ids:
        query = select(AllocationRow.runtime_id, AllocationRow.device).where(
            AllocationRow.runtime_id.in_(runtime_ids), AllocationRow.device.is_not(None)
        )
        for runtime_id, device in await session.execute(query):
            found.setdefault(runtime_id, set()).add(str(device))
    return {runtime_id: frozenset(names) for runtime_id, names in found.items()}


async def needs_of(session: ReadSession, pods: Collection[PodRow]) -> dict[PodId, Need]:
    """Return what each pod needs; the catalogue is asked only for types with GPUs."""
    types = {pod.gpu_type for pod in pods if pod.gpus}
    finders: dict[str, Finder] = {}
    if types:
        rows = await session.scalars(select(GpuTypeRow).where(GpuTypeRow.name.in_(types)))
        finders = {row.name: row.finder for row in rows}
    return {
        PodId(pod.id): need_of(
            cpu_cores=pod.cpu_cores,
            memory_gb=pod.memory_gb,
            container_disk_gb=pod.container_disk_gb,
            gpus=pod.gpus,
            finder=finders.get(pod.gpu_type),
            volume_id=pod.volume_id,
        )
        for pod in pods
    }


def _waits_before(waiting: Any) -> ColumnElement[bool]:
    """Whether `waiting` stands before PodRow: same runtime, same type, asked earlier."""
    return and_(
        waiting.runtime_id == PodRow.runtime_id,
        waiting.gpu_type == PodRow.gpu_type,
        waiting.waiting_reason.in_(QUEUE_REASONS),
        waiting.want == Want.RUNNING,
        waiting.id != PodRow.id,
        or_(
            waiting.requested_at < PodRow.requested_at,
            and_(waiting.requested_at == PodRow.requested_at, waiting.id < PodRow.id),
        ),
    )


_WAITING = aliased(PodRow)
_EARLIER_WAITING = (
    select(PodRow.id, func.count(_WAITING.id))
    .join(_WAITING, _waits_before(_WAITING), isouter=True)
    .where(PodRow.id.in_(bindparam("pod_ids", expanding=True)))
    .group_by(PodRow.id)
)


async def earlier_waiting(session: ReadSession, pod_ids: Collection[str]) -> dict[PodId, int]:
    """Return how many wait on the same runtime for the same type and asked before each pod; one query."""
    rows = await read_values(session, _EARLIER_WAITING, {"pod_ids": list(pod_ids)})
    return {PodId(pod_id): count for pod_id, count in rows}


async def rooms_of(
    session: ReadSession, pods: Collection[PodRow], capacities: Mapping[RuntimeId, Capacity]
) -> dict[PodId, Room]:
    """Return for each pod whether it could be opened now; at most five queries for any number of pods."""
    if not pods:
        return {}
    runtime_ids = {RuntimeId(pod.runtime_id) for pod in pods} & capacities.keys()
    taken = await taken_of(session, runtime_ids)
    needs = await needs_of(session, pods)
    earlier = await earlier_waiting(session, [pod.id for pod in pods])
    rooms = {}
    for pod in pods:
        pod_id, runtime_id = PodId(pod.id), RuntimeId(pod.runtime_id)
        need = needs[pod_id]
        missing: Reason | None = Reason.NO_CAPACITY
        if runtime_id in taken:
            missing = shortage(need, capacities[runtime_id], taken[runtime_id])
        rooms[pod_id] = room(missing, earlier.get(pod_id, 0), need)
    return rooms


def room(missing: Reason | None, earlier: int, need: Need) -> Room:
    """Return the room of a pod: nothing is missing and nobody of its queue asked before it."""
    reason = missing or (Reason.NO_GPU if need.gpus else Reason.NO_CAPACITY)
    return Room(free=missing is None and earlier == 0, reason=reason, place=earlier + 1)


_PLACE = func.row_number().over(partition_by=PodRow.gpu_type, order_by=(PodRow.requested_at, PodRow.id)).label("place")
_QUEUES = (
    select(PodRow.id, _PLACE)
    .where(
        PodRow.runtime_id == bindparam("runtime"),
        PodRow.waiting_reason.in_(QUEUE_REASONS),
        PodRow.want == Want.RUNNING,
    )
    .subquery()
)
_WAKE_FIRST = (
    update(PodRow)
    .where(PodRow.id.in_(select(_QUEUES.c.id).where(_QUEUES.c.place == 1)))
    .values(due_at=bindparam("now"), generation=PodRow.generation + 1)
    .returning(PodRow.id)
)


async def wake_next(session: Session, runtime_id: RuntimeId, now: datetime) -> None:
    """Let the first pod of each queue of the runtime look again; each that opens wakes the next."""
    if await read_values(session, _WAKE_FIRST, {"runtime": runtime_id, "now": now}):
        session.nudge(Topic.PODS)
