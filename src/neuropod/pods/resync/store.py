"""The SQL that compares rows with the world in bulk, and that makes pods due. Called by reconcile's loops alone.

None of it decides: a difference makes the pod due, and the pass that follows looks and decides.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, case, func, select, update

from neuropod.db.engine import ReadSession, Session, Topic
from neuropod.db.events import Happening, record_events
from neuropod.db.reading import read_values
from neuropod.ids import IncarnationId, PodId, RuntimeId, UserId
from neuropod.pods.guard.store import STATUS_CHANGED
from neuropod.pods.records import IncarnationRow, PodRow
from neuropod.runtimes.contract import Phase, Seen
from neuropod.words import Want

_FREE_AT = case((PodRow.lease_until > PodRow.due_at, PodRow.lease_until), else_=PodRow.due_at)
_NEXT_DUE_AT = (  # built once: the loop asks it at each turn
    select(_FREE_AT)
    .where(
        PodRow.due_at.is_not(None),
        PodRow.closed_at.is_(None),
        PodRow.runtime_id.in_(bindparam("runtime_ids", expanding=True)),
    )
    .order_by(_FREE_AT)
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Expected:
    """An incarnation of which something may stand on the runtime: open, or ended and not removed."""

    pod_id: PodId
    incarnation_id: IncarnationId
    number: int
    open: bool
    phase: Phase | None
    identity: str | None


async def expected_on(session: ReadSession, runtime_id: RuntimeId) -> Sequence[Expected]:
    """Return what the rows know of a runtime: every incarnation that is not removed."""
    query = (
        select(
            IncarnationRow.pod_id,
            IncarnationRow.id,
            IncarnationRow.number,
            IncarnationRow.ended_at,
            IncarnationRow.phase,
            IncarnationRow.identity,
        )
        .join(PodRow, PodRow.id == IncarnationRow.pod_id)
        .where(PodRow.runtime_id == runtime_id, PodRow.closed_at.is_(None), IncarnationRow.removed_at.is_(None))
    )
    return [
        Expected(
            PodId(row.pod_id),
            IncarnationId(row.id),
            row.number,
            row.ended_at is None,
            Phase(row.phase) if row.phase is not None else None,
            row.identity,
        )
        for row in await session.execute(query)
    ]


async def newest_numbers(session: ReadSession, pod_ids: Collection[PodId]) -> dict[PodId, int]:
    """Return the newest incarnation's number (0: none) of those of the pods that have a row which is not closed."""
    query = (
        select(PodRow.id, func.coalesce(func.max(IncarnationRow.number), 0))
        .join(IncarnationRow, IncarnationRow.pod_id == PodRow.id, isouter=True)
        .where(PodRow.id.in_(pod_ids), PodRow.closed_at.is_(None))
        .group_by(PodRow.id)
    )
    return {PodId(pod_id): int(number) for pod_id, number in await session.execute(query)}


async def without_row(session: ReadSession, seen: Sequence[Seen]) -> Sequence[Seen]:
    """Return what belongs to no row: of no pod that is there, or newer than any of its incarnations.

    Newer ones come about by a restore alone: a row is written before its runtime is asked. All others are the loop's.
    """
    newest = await newest_numbers(session, {one.id.pod for one in seen})
    return [one for one in seen if one.id.incarnation > newest.get(one.id.pod, -1)]


async def mark_seen(session: Session, incarnation_ids: Collection[IncarnationId], *, now: datetime) -> None:
    """Record that a bulk list showed these open incarnations as the rows have them."""
    if not incarnation_ids:
        return
    rows = IncarnationRow.id.in_(incarnation_ids) & IncarnationRow.ended_at.is_(None)
    back = await session.scalars(
        update(IncarnationRow)
        .where(rows & IncarnationRow.unavailable_since.is_not(None))
        .values(unavailable_since=None)
        .returning(IncarnationRow.pod_id)
    )
    pod_ids = back.all()
    if pod_ids:
        session.nudge(Topic.ROUTES)
    await session.execute(update(IncarnationRow).where(rows).values(last_seen_at=now))
    await tell_of_pods(session, pod_ids, "The machine or cluster that runs it answers again.", now=now)


async def open_pods_of(session: ReadSession, runtime_ids: Collection[str]) -> Sequence[str]:
    """Return the pods of these runtimes that are not closed."""
    query = select(PodRow.id).where(PodRow.runtime_id.in_(list(runtime_ids)), PodRow.closed_at.is_(None))
    return (await session.scalars(query)).all()


async def tell_of_pods(session: Session, pod_ids: Collection[str], message: str, *, now: datetime) -> None:
    """Write down that these pods are shown as something else, for the same reason; the last thing of a transaction."""
    if pod_ids:
        owners = await session.execute(select(PodRow.id, PodRow.owner_id).where(PodRow.id.in_(pod_ids)))
        await record_events(
            session,
            [Happening(STATUS_CHANGED, message, now, UserId(owner), PodId(pod_id)) for pod_id, owner in owners],
        )


async def mark_unavailable(session: Session, runtime_id: RuntimeId, *, now: datetime) -> None:
    """Record that a runtime gives no answer, on all its open incarnations, as long as it is so."""
    pods = select(PodRow.id).where(PodRow.runtime_id == runtime_id, PodRow.closed_at.is_(None))
    away = await session.scalars(
        update(IncarnationRow)
        .where(
            IncarnationRow.pod_id.in_(pods),
            IncarnationRow.ended_at.is_(None),
            IncarnationRow.unavailable_since.is_(None),
        )
        .values(unavailable_since=now)
        .returning(IncarnationRow.pod_id)
        .execution_options(synchronize_session=False)
    )
    pod_ids = away.all()
    session.nudge(Topic.ROUTES)
    await tell_of_pods(session, pod_ids, "The machine or cluster that runs it does not answer.", now=now)


async def make_due(session: Session, pod_ids: Collection[PodId], *, now: datetime) -> None:
    """Let these pods be looked at now, also when a worker is at them already."""
    await session.execute(
        update(PodRow)
        .where(PodRow.id.in_(pod_ids), PodRow.closed_at.is_(None))
        .values(due_at=now, generation=PodRow.generation + 1)
        .execution_options(synchronize_session=False)
    )
    session.nudge(Topic.PODS)


async def make_all_due(session: Session, runtime_id: RuntimeId, *, now: datetime) -> None:
    """Let all pods of a runtime that shall run, or have something left, be looked at: at start, after an outage."""
    left = select(IncarnationRow.pod_id).where(IncarnationRow.removed_at.is_(None))
    await session.execute(
        update(PodRow)
        .where(
            PodRow.runtime_id == runtime_id,
            PodRow.closed_at.is_(None),
            (PodRow.want != Want.STOPPED) | PodRow.id.in_(left),
        )
        .values(due_at=now, generation=PodRow.generation + 1)
        .execution_options(synchronize_session=False)
    )
    session.nudge(Topic.PODS)


async def next_due_at(session: ReadSession, runtime_ids: Collection[RuntimeId]) -> datetime | None:
    """Return when the next pod of these runtimes is due or free: until then the loop may sleep."""
    rows = await read_values(session, _NEXT_DUE_AT, {"runtime_ids": list(runtime_ids)})
    return rows[0][0] if rows else None
