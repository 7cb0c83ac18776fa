"""The SQL of leases on pods: who still holds one, giving it back, what a failed pass leaves.

Called by opening.store and runs.store first of all in a transaction: a pod whose lease went to another worker is left
as it is. `due_at` never moves into the future when the wish moved meanwhile (`generation`).

Order of locks: runtimes (queue.lock_runtime), then pods by id, then other rows, events last.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, case, delete, literal, select, update

from neuropod.db.engine import Session, Topic
from neuropod.db.events import Happening, record_events
from neuropod.db.reading import read_values
from neuropod.db.record import UtcDateTime
from neuropod.db.writing import execute_now
from neuropod.ids import PodId
from neuropod.pods.claims import Claimed, Lease
from neuropod.pods.lifecycle import PodFacts
from neuropod.pods.records import AllocationRow, IncarnationRow, PodRow
from neuropod.pods.status import status_of

STATUS_CHANGED = "pod.status_changed"  # what is shown has changed, and no other event says so

_MAX_ERROR_CHARACTERS = 2000
_PODS = PodRow.__table__
_RELEASED: Mapping[str, Any] = {"lease_token": None, "lease_until": None, "failures": 0, "last_error": None}
_LOCK = (
    select(_PODS.c.id, _PODS.c.lease_token, _PODS.c.generation)
    .where(PodRow.id.in_(bindparam("pod_ids", expanding=True)))
    .order_by(PodRow.id)
    .with_for_update()
)
_RELEASE_MANY = (
    update(PodRow)
    .where(_PODS.c.id == bindparam("pod"))
    .values(
        **_RELEASED,
        due_at=bindparam("due"),
        waiting_reason=bindparam("blocked"),
        waiting_since=bindparam("blocked_since"),
    )
)
_MARK_REMOVED = (
    update(IncarnationRow)
    .where(
        IncarnationRow.pod_id.in_(bindparam("pod_ids", expanding=True)),
        IncarnationRow.ended_at.is_not(None),
        IncarnationRow.removed_at.is_(None),
    )
    .values(removed_at=bindparam("now"))
    .returning(IncarnationRow.id)
)
_GIVE_BACK = delete(AllocationRow).where(AllocationRow.incarnation_id.in_(bindparam("incarnation_ids", expanding=True)))


def ours(lease: Lease) -> ColumnElement[bool]:
    """Return the condition under which the pod is still this worker's."""
    return and_(PodRow.id == lease.pod_id, PodRow.lease_token == lease.token)


async def lock_ours(session: Session, leases: Iterable[Lease]) -> dict[PodId, int]:
    """Lock the pods whose leases are still held, and return the generation of each as it is now."""
    by_id = {lease.pod_id: lease for lease in leases}
    rows = await read_values(session, _LOCK, {"pod_ids": list(by_id)})
    return {PodId(pod_id): generation for pod_id, token, generation in rows if token == by_id[PodId(pod_id)].token}


async def write_ours(session: Session, lease: Lease, changes: Mapping[str, Any], *also: ColumnElement[bool]) -> bool:
    """Write columns of the pod if its lease is still held (and all of `also` is true); tell whether it was."""
    statement = update(PodRow).where(ours(lease), *also).values(**changes).returning(PodRow.id)
    return bool((await session.scalars(statement.execution_options(synchronize_session=False))).all())


async def release_many(
    session: Session, pods: Iterable[tuple[Lease, int, PodFacts, datetime | None]], now: datetime
) -> None:
    """Give back the leases of locked pods: (lease, generation now, facts, when it is due), all in one statement."""
    rows = [
        {
            "pod": lease.pod_id,
            "due": due_at if generation == lease.generation else now,
            "blocked": facts.waiting_reason,
            "blocked_since": facts.waiting_since,
        }
        for lease, generation, facts, due_at in pods
    ]
    if rows:
        await execute_now(session, _RELEASE_MANY, rows)


async def release(session: Session, claimed: Claimed, *, now: datetime, due_at: datetime | None) -> bool:
    """Give the lease back with nothing to record. False: it was not ours any more."""
    return await _give_lease_back(session, claimed.lease, now=now, due_at=due_at)


async def record_unavailable(session: Session, claimed: Claimed, *, now: datetime, due_at: datetime) -> bool:
    """Record that the runtime gave no answer; the facts stay as last seen. False: not ours any more."""
    failures = claimed.facts.failures + 1
    if not await _give_lease_back(session, claimed.lease, now=now, due_at=due_at, failures=failures):
        return False
    current = claimed.facts.incarnation
    if current is not None and current.open and current.unavailable_since is None:
        await session.execute(
            update(IncarnationRow).where(IncarnationRow.id == current.id).values(unavailable_since=now)
        )
        session.nudge(Topic.ROUTES)
        facts = replace(claimed.facts, incarnation=replace(current, unavailable_since=now))
        await record_events(session, [turn_of(claimed.lease, STATUS_CHANGED, facts, now)])
    return True


async def record_failure(session: Session, claimed: Claimed, error: str, *, now: datetime, due_at: datetime) -> bool:
    """Record that a pass failed by a defect or a timeout: the row's own error, which stops nothing else."""
    failures = claimed.facts.failures + 1
    if not await _give_lease_back(
        session,
        claimed.lease,
        now=now,
        due_at=due_at,
        failures=failures,
        last_error=error[:_MAX_ERROR_CHARACTERS],
    ):
        return False
    after = replace(claimed.facts, failures=failures)
    if _looks(claimed.facts, now) != _looks(after, now):
        session.nudge(Topic.ROUTES)
        await record_events(session, [turn_of(claimed.lease, STATUS_CHANGED, after, now)])
    return True


async def _give_lease_back(
    session: Session, lease: Lease, *, now: datetime, due_at: datetime | None, **changes: Any
) -> bool:
    schedule: ColumnElement[Any] = case(
        (PodRow.generation != lease.generation, literal(now, UtcDateTime())), else_=literal(due_at, UtcDateTime())
    )
    return await write_ours(session, lease, {**_RELEASED, "due_at": schedule, **changes})


async def give_back(session: Session, pod_ids: Iterable[PodId], now: datetime) -> None:
    """Give back what ended incarnations of these pods had taken: nothing of them is left."""
    pods = list(pod_ids)
    if not pods:
        return
    removed = await read_values(session, _MARK_REMOVED, {"pod_ids": pods, "now": now})
    if removed:
        await execute_now(session, _GIVE_BACK, {"incarnation_ids": [incarnation_id for (incarnation_id,) in removed]})


def shows_more(before: PodFacts, after: PodFacts, now: datetime) -> bool:
    """Tell whether a pod is shown as something else after a pass that ended well, its place and progress aside."""
    return _looks(before, now) != _looks(replace(after, failures=0), now)


def _looks(facts: PodFacts, now: datetime) -> tuple[object, ...]:
    shown, run = status_of(facts, now), facts.incarnation
    of_run = () if run is None else (
        run.number, run.started_at, run.ready_at, run.ended_at, run.exit_code, run.reason, run.message
    )  # fmt: skip
    return shown.status, shown.reason, shown.message, *of_run


def turn_of(lease: Lease, kind: str, facts: PodFacts, now: datetime) -> Happening:
    """Return the event of a turn in a pod's life."""
    shown = status_of(facts, now)
    current = facts.incarnation
    data = {
        "status": shown.status,
        "reason": shown.reason,
        "incarnation": current.number if current is not None else None,
        "exit_code": current.exit_code if current is not None else None,
    }
    return Happening(kind, shown.message, now, lease.owner_id, lease.pod_id, data)
