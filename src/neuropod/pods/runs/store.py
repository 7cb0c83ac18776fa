"""The loop's SQL: claim pods with their facts, record what a pass found and did. Called by reconcile.pods alone.

Every function is one short piece of a writing transaction of the caller. Each that records is guarded by the pod's id
and the lease's token: None means that another worker has taken over, and the caller drops what it has. `due_at` never
moves into the future when the wish moved meanwhile (`generation`).

Order of locks: the runtime (queue.lock_runtime), then the pod's row, then others, events last. A transaction on
PostgreSQL therefore records one pod; on SQLite, where writers are alone, several may share one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, insert, literal, select, update

from neuropod.db.engine import Session, Topic
from neuropod.db.events import record_event
from neuropod.db.leases import claim
from neuropod.db.record import UtcDateTime
from neuropod.ids import IncarnationId, PodId, RuntimeId, UserId
from neuropod.kit.identifiers import new_id
from neuropod.pods.lifecycle import (
    Close,
    IncarnationFacts,
    Kill,
    PodFacts,
    Policy,
    Rest,
    Room,
    Stop,
    Wait,
    closed,
    observed,
    opening,
    wait_for,
)
from neuropod.pods.queue.store import (
    QUEUE_REASONS,
    at_the_counter,
    lock_runtime,
    needs_of,
    room,
    rooms_of,
    wake_next,
)
from neuropod.pods.records import AllocationRow, IncarnationRow, PodRow
from neuropod.pods.room import Need, free_devices, shortage
from neuropod.pods.status import status_of
from neuropod.pods.store import newest_incarnations, pod_facts
from neuropod.runtimes.contract import Capacity, Seen
from neuropod.words import JupyterMode, Reason, Want

_MAX_ERROR_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Lease:
    """A pod's lease as it was claimed."""

    pod_id: PodId
    owner_id: UserId
    pod_name: str
    token: str
    generation: int
    jupyter: JupyterMode


@dataclass(frozen=True, slots=True)
class Claimed:
    """A pod that this worker may work on: its lease and its facts, renewed by what is recorded."""

    lease: Lease
    facts: PodFacts


async def claim_pods(
    session: Session,
    *,
    capacities: Mapping[RuntimeId, Capacity],
    nudged: Collection[PodId] = (),
    policy: Policy,
    now: datetime,
    lease_seconds: float,
    limit: int,
) -> Sequence[Claimed]:
    """Claim due (or nudged) pods of the runtimes in `capacities`, with all that `decide` reads; few queries for all."""
    rows = await claim(
        session,
        PodRow,
        now=now,
        lease_seconds=lease_seconds,
        limit=limit,
        where=PodRow.runtime_id.in_(list(capacities)) & PodRow.closed_at.is_(None),
        nudged=nudged,
    )
    if not rows:
        return []
    incarnations = await newest_incarnations(session, [row.id for row in rows])
    may_open = [row for row in rows if row.want == Want.RUNNING and not _is_open(incarnations.get(PodId(row.id)))]
    rooms = await rooms_of(session, may_open, capacities)
    return [
        Claimed(
            Lease(
                PodId(row.id),
                UserId(row.owner_id),
                row.name,
                row.lease_token or "",
                row.generation,
                JupyterMode(row.jupyter),
            ),
            pod_facts(row, incarnations.get(PodId(row.id)), policy=policy, room=rooms.get(PodId(row.id))),
        )
        for row in rows
    ]


def _is_open(row: IncarnationRow | None) -> bool:
    return row is not None and row.ended_at is None


async def open_incarnation(
    session: Session, claimed: Claimed, capacity: Capacity, *, now: datetime
) -> Claimed | Wait | None:
    """Make the pod's next incarnation with its price and its allocations, or let it wait, in order of request.

    Called for `Open` and for `Wait`, with nothing of an earlier incarnation left on the runtime. Claimed: opened, and
    the lease goes on. Wait: recorded, the lease given back. None: not ours any more, or the wish has changed (then the
    pod is due at once).
    """
    lease, facts = claimed.lease, claimed.facts
    await lock_runtime(session, facts.runtime_id)
    if _not_given_back(facts.incarnation):
        if await _guarded_row(session, lease) is None:
            return None
        await _give_back(session, facts, now)
    turn = await at_the_counter(session, _ours(lease))
    if turn is None:
        return None
    row = turn.pod
    if row.want != Want.RUNNING or row.run_revision != facts.run_revision:
        await _release(session, lease, now=now, due_at=now)
        return None
    need = (await needs_of(session, [row]))[lease.pod_id]
    found = room(shortage(need, capacity, turn.taken), turn.earlier, need)
    if not found.free:
        return await _wait(session, claimed, wait_for(found, now), now)
    current = await _insert_incarnation(session, row, facts, now)
    await session.execute(
        insert(AllocationRow),
        _allocations(current.id, facts.runtime_id, need, free_devices(need, capacity, turn.taken)),
    )
    if row.waiting_reason is not None:
        await session.execute(_update_pod(lease).values(waiting_reason=None, waiting_since=None))
        await wake_next(session, facts.runtime_id, now)
    session.nudge(Topic.ROUTES)
    return Claimed(lease, replace(facts, incarnation=current, waiting_reason=None, waiting_since=None))


async def record_pass(
    session: Session,
    claimed: Claimed,
    seen: Seen | None,
    *,
    now: datetime,
    due_at: datetime | None,
    step: Rest | Stop | Kill | None = None,
    hold: bool = False,
) -> Claimed | None:
    """Record what a pass saw last (None: looked live, nothing there) and what it did; give the lease back.

    `step`: a Stop or Kill that was sent, or the Rest that ended the pass. `hold`: the lease goes on, `due_at` stays. A
    look that finds nothing of an ended incarnation gives back what it had taken, and wakes who waits for that.
    """
    lease, facts = claimed.lease, claimed.facts
    gives_back = seen is None and _not_given_back(facts.incarnation)
    leaves_queue = facts.waiting_reason in QUEUE_REASONS
    if gives_back or leaves_queue:
        await lock_runtime(session, facts.runtime_id)
    blocked = step.reason if isinstance(step, Rest) else None
    changes: dict[str, Any] = {}
    if blocked != facts.waiting_reason:
        changes = {"waiting_reason": blocked, "waiting_since": None if blocked is None else now}
    if not await _guard(session, lease, now=now, due_at=due_at, hold=hold, changes=changes):
        return None
    current = facts.incarnation
    if gives_back:
        await _give_back(session, facts, now)
        current = current and replace(current, removed_at=now)
    if gives_back or leaves_queue:
        await wake_next(session, facts.runtime_id, now)
    if current is not None and current.open:
        current = await _record_look(session, current, seen, step, now)
    return await _after(session, claimed, replace(facts, incarnation=current, **changes), now)


async def close_incarnation(
    session: Session, claimed: Claimed, close: Close, seen: Seen | None, *, now: datetime
) -> Claimed | None:
    """Record the end of the open incarnation, with its times; the lease goes on, so that what is left is removed."""
    current = claimed.facts.incarnation
    if current is None or not await _guard(session, claimed.lease, now=now, due_at=now, hold=True, changes={}):
        return None
    if seen is not None and seen.id.incarnation == current.number:
        current = observed(current, seen, now)
    after = closed(current, close)
    await _write_facts(session, after, seen)
    return await _after(session, claimed, replace(claimed.facts, incarnation=after), now)


async def forget_pod(session: Session, claimed: Claimed, *, now: datetime) -> bool:
    """Close the row of a deleted pod of which nothing is left; its secrets go, its history stays. False: not ours."""
    lease, facts = claimed.lease, claimed.facts
    await lock_runtime(session, facts.runtime_id)
    changes = {
        "closed_at": now,
        "env_sealed": None,
        "jupyter_token_sealed": None,
        "waiting_reason": None,
        "waiting_since": None,
    }
    row_gone = _update_pod(lease).where(PodRow.want == Want.GONE)
    released = {"due_at": None, "lease_token": None, "lease_until": None, "failures": 0, "last_error": None}
    if not (await session.scalars(row_gone.values(**released, **changes).returning(PodRow.id))).all():
        return False
    await _give_back(session, facts, now)
    await session.execute(
        update(IncarnationRow).where(IncarnationRow.pod_id == facts.id).values(jupyter_token_sealed=None)
    )
    await wake_next(session, facts.runtime_id, now)
    session.nudge(Topic.ROUTES)
    await record_event(
        session,
        "pod.closed",
        f"Pod {lease.pod_name} is deleted; nothing of it is left but its volume.",
        at=now,
        owner_id=lease.owner_id,
        pod_id=lease.pod_id,
    )
    return True


async def record_unavailable(session: Session, claimed: Claimed, *, now: datetime, due_at: datetime) -> bool:
    """Record that the runtime gave no answer; the facts stay as last seen. False: not ours any more."""
    failures = claimed.facts.failures + 1
    if not await _guard(session, claimed.lease, now=now, due_at=due_at, changes={"failures": failures}):
        return False
    current = claimed.facts.incarnation
    if current is not None and current.open and current.unavailable_since is None:
        await session.execute(
            update(IncarnationRow).where(IncarnationRow.id == current.id).values(unavailable_since=now)
        )
        session.nudge(Topic.ROUTES)
    return True


async def record_failure(session: Session, claimed: Claimed, error: str, *, now: datetime, due_at: datetime) -> bool:
    """Record that a pass failed by a defect or a timeout: the row's own error, which stops nothing else."""
    changes = {"failures": claimed.facts.failures + 1, "last_error": error[:_MAX_ERROR_CHARACTERS]}
    return await _guard(session, claimed.lease, now=now, due_at=due_at, changes=changes)


async def release(session: Session, claimed: Claimed, *, now: datetime, due_at: datetime | None) -> bool:
    """Give the lease back with nothing to record. False: it was not ours any more."""
    return await _release(session, claimed.lease, now=now, due_at=due_at)


def _ours(lease: Lease) -> ColumnElement[bool]:
    return and_(PodRow.id == lease.pod_id, PodRow.lease_token == lease.token)


def _update_pod(lease: Lease) -> Any:
    return update(PodRow).where(_ours(lease)).execution_options(synchronize_session=False)


async def _guarded_row(session: Session, lease: Lease) -> PodRow | None:
    query = select(PodRow).where(_ours(lease)).with_for_update().execution_options(populate_existing=True)
    row: PodRow | None = await session.scalar(query)
    return row


async def _guard(
    session: Session,
    lease: Lease,
    *,
    now: datetime,
    due_at: datetime | None,
    hold: bool = False,
    changes: Mapping[str, Any],
) -> bool:
    """Write the pod's own columns if the lease is still ours; tell whether it was."""
    values: dict[str, Any] = dict(changes)
    if not hold:
        schedule: ColumnElement[Any] = case(
            (PodRow.generation != lease.generation, literal(now, UtcDateTime())),
            else_=literal(due_at, UtcDateTime()),
        )
        values = {
            "due_at": schedule,
            "lease_token": None,
            "lease_until": None,
            "failures": 0,
            "last_error": None,
        } | values
    elif not values:
        return await _guarded_row(session, lease) is not None
    return bool((await session.scalars(_update_pod(lease).values(**values).returning(PodRow.id))).all())


async def _release(session: Session, lease: Lease, *, now: datetime, due_at: datetime | None) -> bool:
    return await _guard(session, lease, now=now, due_at=due_at, changes={})


def _not_given_back(current: IncarnationFacts | None) -> bool:
    return current is not None and not current.open and current.removed_at is None


async def _give_back(session: Session, facts: PodFacts, now: datetime) -> None:
    """Give back what ended incarnations of the pod had taken: nothing of them is left."""
    if not _not_given_back(facts.incarnation):
        return
    ended = (
        update(IncarnationRow)
        .where(
            IncarnationRow.pod_id == facts.id,
            IncarnationRow.ended_at.is_not(None),
            IncarnationRow.removed_at.is_(None),
        )
        .values(removed_at=now)
        .returning(IncarnationRow.id)
        .execution_options(synchronize_session=False)
    )
    ids = (await session.scalars(ended)).all()
    await session.execute(delete(AllocationRow).where(AllocationRow.incarnation_id.in_(ids)))


async def _insert_incarnation(session: Session, row: PodRow, facts: PodFacts, now: datetime) -> IncarnationFacts:
    step = opening(facts)
    current = IncarnationFacts(
        id=IncarnationId(new_id("inc")),
        number=step.incarnation,
        run_revision=row.run_revision,
        crashes=step.crashes,
        opened_at=now,
        reason=Reason.SCHEDULING,
    )
    await session.execute(
        insert(IncarnationRow).values(
            id=current.id,
            pod_id=row.id,
            number=current.number,
            run_revision=current.run_revision,
            crashes=current.crashes,
            price_micros_per_hour=row.price_micros_per_hour,
            opened_at=now,
            reason=current.reason,
        )
    )
    return current


def _allocations(
    incarnation_id: IncarnationId, runtime_id: RuntimeId, need: Need, devices: Sequence[str]
) -> list[dict[str, Any]]:
    def row(device: str | None, cpu_cores: int, memory_bytes: int, disk_bytes: int) -> dict[str, Any]:
        return {
            "id": new_id("all"),
            "incarnation_id": incarnation_id,
            "runtime_id": runtime_id,
            "device": device,
            "cpu_cores": cpu_cores,
            "memory_bytes": memory_bytes,
            "disk_bytes": disk_bytes,
        }

    amounts = row(None, need.cpu_cores, need.memory_bytes, need.disk_bytes)
    return [amounts, *(row(device, 0, 0, 0) for device in devices[: need.gpus])]


async def _wait(session: Session, claimed: Claimed, wait: Wait, now: datetime) -> Wait:
    facts = claimed.facts
    newly = facts.waiting_reason not in QUEUE_REASONS
    since = now if newly else facts.waiting_since
    changes = {"waiting_reason": wait.reason, "waiting_since": since}
    await _guard(session, claimed.lease, now=now, due_at=wait.until, changes=changes)
    if newly:
        place = Room(free=False, reason=wait.reason, place=wait.place)
        waiting = replace(facts, waiting_reason=wait.reason, waiting_since=since, room=place)
        await _tell(session, claimed.lease, "pod.waiting", waiting, now)
        session.nudge(Topic.ROUTES)
    return wait


async def _record_look(
    session: Session, current: IncarnationFacts, seen: Seen | None, step: Rest | Stop | Kill | None, now: datetime
) -> IncarnationFacts:
    after = current
    if seen is not None and seen.id.incarnation == current.number:
        after = observed(current, seen, now)
    else:
        seen = None
    if isinstance(step, Stop) and step.incarnation == current.number:
        after = replace(after, stop_sent_at=after.stop_sent_at or now, stop_reason=step.reason)
    if after != current:
        await _write_facts(session, after, seen)
    return after


async def _write_facts(session: Session, after: IncarnationFacts, seen: Seen | None) -> None:
    values: dict[str, Any] = {
        "phase": after.phase,
        "reason": after.reason,
        "message": after.message,
        "progress": asdict(after.progress) if after.progress is not None else None,
        "exit_code": after.exit_code,
        "pending_seconds": after.pending_seconds,
        "first_seen_at": after.first_seen_at,
        "last_seen_at": after.last_seen_at,
        "unavailable_since": after.unavailable_since,
        "started_at": after.started_at,
        "ready_at": after.ready_at,
        "stop_sent_at": after.stop_sent_at,
        "stop_reason": after.stop_reason,
        "ended_at": after.ended_at,
    }
    if seen is not None:
        values |= {"identity": seen.identity, "address": seen.address}
    await session.execute(
        update(IncarnationRow)
        .where(IncarnationRow.id == after.id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


async def _after(session: Session, claimed: Claimed, facts: PodFacts, now: datetime) -> Claimed:
    """Tell what has changed: the gateway by a nudge, people by an event where it is a turn in the pod's life."""
    before, current = claimed.facts.incarnation, facts.incarnation
    if current is not None and before is not None:
        if (before.phase, before.reason, before.message) != (current.phase, current.reason, current.message):
            session.nudge(Topic.ROUTES)
        if current.ready_at is not None and before.ready_at is None:
            await _tell(session, claimed.lease, "pod.ready", facts, now)
        if not current.open and before.open:
            await _tell(session, claimed.lease, "pod.ended", facts, now)
    return Claimed(claimed.lease, facts)


async def _tell(session: Session, lease: Lease, kind: str, facts: PodFacts, now: datetime) -> None:
    shown = status_of(facts, now)
    current = facts.incarnation
    await record_event(
        session,
        kind,
        shown.message,
        at=now,
        owner_id=lease.owner_id,
        pod_id=lease.pod_id,
        reason=shown.reason,
        incarnation=current.number if current is not None else None,
        exit_code=current.exit_code if current is not None else None,
    )
