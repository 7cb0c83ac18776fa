"""The SQL of GPUs: who holds which, how many wait for a type, how many pods are of it, and what befell a held one.

Called by api (what is free, and who has the rest), by showing and quoting (whom a pod waits for) and by reconcile's
devices loop. Giving and giving back is opening.store's and guard.store's.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select, update

from neuropod.accounts.records import UserRow
from neuropod.db.engine import ReadSession, Session
from neuropod.db.events import Happening, record_events
from neuropod.ids import IncarnationId, PodId, RuntimeId, UserId
from neuropod.pods.gpus.health import Held
from neuropod.pods.queue.store import QUEUE_REASONS
from neuropod.pods.records import AllocationRow, IncarnationRow, PodRow
from neuropod.words import Reason, Want


async def held_devices(session: ReadSession, runtime_ids: Collection[RuntimeId]) -> Sequence[Held]:
    """Return every GPU of the runtimes that is given to somebody; one query."""
    query = (
        select(
            AllocationRow.runtime_id,
            AllocationRow.device,
            AllocationRow.gpu_type,
            IncarnationRow.id,
            IncarnationRow.number,
            IncarnationRow.device_trouble,
            PodRow.id.label("pod_id"),
            PodRow.name,
            UserRow.id.label("owner_id"),
            UserRow.email,
        )
        .join(IncarnationRow, IncarnationRow.id == AllocationRow.incarnation_id)
        .join(PodRow, PodRow.id == IncarnationRow.pod_id)
        .join(UserRow, UserRow.id == PodRow.owner_id)
        .where(AllocationRow.runtime_id.in_(runtime_ids), AllocationRow.device.is_not(None))
        .order_by(AllocationRow.runtime_id, AllocationRow.device)
    )
    return [
        Held(
            runtime_id=RuntimeId(row.runtime_id),
            device=row.device,
            gpu_type=row.gpu_type or "",
            pod_id=PodId(row.pod_id),
            pod_name=row.name,
            owner_id=UserId(row.owner_id),
            owner_email=row.email,
            incarnation_id=IncarnationId(row.id),
            number=row.number,
            trouble=row.device_trouble,
        )
        for row in await session.execute(query)
    ]


async def waiting_counts(session: ReadSession, runtime_ids: Collection[RuntimeId]) -> dict[tuple[RuntimeId, str], int]:
    """Return how many pods wait on each runtime for each type; one query."""
    query = (
        select(PodRow.runtime_id, PodRow.gpu_type, func.count(PodRow.id))
        .where(
            PodRow.runtime_id.in_(runtime_ids),
            PodRow.waiting_reason.in_(QUEUE_REASONS),
            PodRow.want == Want.RUNNING,
        )
        .group_by(PodRow.runtime_id, PodRow.gpu_type)
    )
    return {(RuntimeId(runtime_id), name): count for runtime_id, name, count in await session.execute(query)}


async def pods_of_type(session: ReadSession, gpu_type: str) -> int:
    """Return how many pods are of a type, stopped ones included; those that are gone for good are history."""
    query = select(func.count(PodRow.id)).where(PodRow.gpu_type == gpu_type, PodRow.closed_at.is_(None))
    return await session.scalar(query) or 0


async def record_troubles(session: Session, troubles: Mapping[IncarnationId, tuple[Held, str]], now: datetime) -> None:
    """Write down what befell the GPUs of incarnations (empty: they are well again), and tell their owners."""
    for incarnation_id, (_, trouble) in troubles.items():
        changed = update(IncarnationRow).where(IncarnationRow.id == incarnation_id).values(device_trouble=trouble)
        await session.execute(changed.execution_options(synchronize_session=False))
    await record_events(
        session,
        [
            Happening(
                kind="pod.gpu_lost" if trouble else "pod.gpu_back",
                message=f"{held.pod_name}: {trouble}." if trouble else f"{held.pod_name}: its GPUs are well again.",
                at=now,
                owner_id=held.owner_id,
                pod_id=held.pod_id,
                data={"reason": Reason.GPU_LOST if trouble else Reason.READY, "incarnation": held.number},
            )
            for held, trouble in troubles.values()
        ],
    )
