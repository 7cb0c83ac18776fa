"""The loop's SQL: claim pods with their facts, record what passes found and did. Called by reconcile.pods alone.

This is the loop's one door; what it needs of guard.store and opening.store is named here too. Every function is one
short piece of a writing transaction of the caller. Each that records is guarded by the pod's id and the lease's token:
None means that another worker has taken over, and the caller drops what it has. Those that take several pods take as
many statements as for one, so that passes which end together can share a transaction.

Order of locks: runtimes, then pods by id, then other rows, events last.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select, update

from neuropod.accounts.records import UserRow
from neuropod.db.engine import ReadSession, Session, Topic
from neuropod.db.events import record_events
from neuropod.db.leases import Claims
from neuropod.db.writing import execute_now
from neuropod.ids import PodId, RuntimeId, UserId, VolumeId
from neuropod.pods.claims import Claimed, Closing, Lease, Outcome, facts_after
from neuropod.pods.guard.store import (
    STATUS_CHANGED,
    give_back,
    lock_ours,
    record_failure,
    record_unavailable,
    release,
    release_many,
    shows_more,
    turn_of,
    write_ours,
)
from neuropod.pods.lifecycle import (
    IncarnationFacts,
    PodFacts,
    Policy,
)
from neuropod.pods.opening.store import open_incarnations
from neuropod.pods.queue.store import QUEUE_REASONS, lock_runtime, rooms_of, wake_next
from neuropod.pods.records import OF_WORKLOADS, IncarnationRow, PodRow
from neuropod.pods.store import newest_incarnations, pod_facts
from neuropod.runtimes.contract import Capacity, Place, Seen
from neuropod.volumes.records import VolumeRow
from neuropod.words import JupyterMode, Want

__all__ = [
    "Claimed",
    "Lease",
    "Outcome",
    "claim_pods",
    "close_incarnations",
    "forget_pod",
    "open_incarnations",
    "place_of",
    "record_failure",
    "record_passes",
    "record_unavailable",
    "release",
]

_CLAIMS = Claims(
    PodRow,
    PodRow.runtime_id.in_(bindparam("runtime_ids", expanding=True)) & PodRow.closed_at.is_(None),
    without=OF_WORKLOADS,
)
_FACTS = (
    "phase",
    "reason",
    "message",
    "exit_code",
    "pending_seconds",
    "first_seen_at",
    "last_seen_at",
    "unavailable_since",
    "started_at",
    "ready_at",
    "stop_sent_at",
    "stop_reason",
    "ended_at",
)
_INCARNATIONS = IncarnationRow.__table__
_WRITE_FACTS = (
    update(IncarnationRow)
    .where(_INCARNATIONS.c.id == bindparam("incarnation"))
    .values(progress=bindparam("progress_"), **{name: bindparam(f"{name}_") for name in _FACTS})
)
_WRITE_FACTS_SEEN = _WRITE_FACTS.values(identity=bindparam("identity_"), address=bindparam("address_"))


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
    rows = await _CLAIMS.take(
        session, now=now, lease_seconds=lease_seconds, limit=limit, nudged=nudged, runtime_ids=list(capacities)
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
                VolumeId(row.volume_id) if row.volume_id is not None else None,
            ),
            pod_facts(row, incarnations.get(PodId(row.id)), policy=policy, room=rooms.get(PodId(row.id))),
        )
        for row in rows
    ]


def _is_open(row: IncarnationRow | None) -> bool:
    return row is not None and row.ended_at is None


async def place_of(session: ReadSession, pod_id: PodId) -> Place:
    """Return where a pod's workloads are made; its row is there."""
    query = select(UserRow.hash, PodRow.name).join(UserRow, UserRow.id == PodRow.owner_id).where(PodRow.id == pod_id)
    owner_hash, name = (await session.execute(query)).one()
    return Place(owner_hash, name)


async def record_passes(session: Session, outcomes: Sequence[Outcome], *, now: datetime) -> list[Claimed | None]:
    """Record what passes saw and did, and give their leases back unless they hold on.

    A look that finds nothing of an ended incarnation gives back what it had taken, and wakes who waits for that. The
    answers stand in the order of `outcomes`, each with its facts as they are now; None: not ours any more.
    """
    moved = {one.claimed.facts.runtime_id for one in outcomes if one.gives_back or _leaves_queue(one)}
    for runtime_id in sorted(moved):
        await lock_runtime(session, runtime_id)
    generations = await lock_ours(session, [one.claimed.lease for one in outcomes])
    ours = [(one, facts_after(one, now)) for one in outcomes if one.claimed.lease.pod_id in generations]
    await release_many(
        session,
        [
            (one.claimed.lease, generations[one.claimed.lease.pod_id], facts, one.due_at)
            for one, facts in ours
            if not one.hold
        ],
        now,
    )
    await give_back(session, [one.claimed.lease.pod_id for one, _ in ours if one.gives_back], now)
    await _write_facts(session, [(one.seen, facts) for one, facts in ours if _has_news(one, facts)])
    await _mark_made(session, [(one.claimed, facts) for one, facts in ours], now)
    for runtime_id in sorted(moved & {one.claimed.facts.runtime_id for one, _ in ours}):
        await wake_next(session, runtime_id, now)
    await _tell(session, [(one.claimed, facts) for one, facts in ours], now)
    after = {one.claimed.lease.pod_id: Claimed(one.claimed.lease, facts) for one, facts in ours}
    return [after.get(one.claimed.lease.pod_id) for one in outcomes]


async def close_incarnations(session: Session, closings: Sequence[Closing], *, now: datetime) -> list[Claimed | None]:
    """Record the ends of open incarnations, with their times; the leases go on.

    The answers stand in the order of `closings`, each with its facts as they are now; None: not ours any more.
    """
    still_ours = await lock_ours(session, [one.claimed.lease for one in closings])
    ended = [
        (one, facts)
        for one in closings
        if one.claimed.lease.pod_id in still_ours and (facts := one.facts(now)) is not None
    ]
    await _write_facts(session, [(one.seen, facts) for one, facts in ended])
    await _mark_made(session, [(one.claimed, facts) for one, facts in ended], now)
    await _tell(session, [(one.claimed, facts) for one, facts in ended], now)
    after = {one.claimed.lease.pod_id: Claimed(one.claimed.lease, facts) for one, facts in ended}
    return [after.get(one.claimed.lease.pod_id) for one in closings]


async def forget_pod(session: Session, claimed: Claimed, *, now: datetime) -> bool:
    """Close the row of a deleted pod of which nothing is left; its secrets go, its history stays. False: not ours."""
    lease, facts = claimed.lease, claimed.facts
    await lock_runtime(session, facts.runtime_id)
    changes = {
        "closed_at": now,
        "due_at": None,
        "lease_token": None,
        "lease_until": None,
        "failures": 0,
        "last_error": None,
        "env_sealed": None,
        "env_secrets": None,
        "jupyter_token_sealed": None,
        "waiting_reason": None,
        "waiting_since": None,
    }
    if not await write_ours(session, lease, changes, PodRow.want == Want.GONE):
        return False
    await give_back(session, [lease.pod_id], now)
    await session.execute(
        update(IncarnationRow)
        .where(IncarnationRow.pod_id == facts.id)
        .values(jupyter_token_sealed=None)
        .execution_options(synchronize_session=False)
    )
    await wake_next(session, facts.runtime_id, now)
    session.nudge(Topic.ROUTES)
    await record_events(session, [turn_of(lease, "pod.closed", facts, now)])
    return True


def _leaves_queue(outcome: Outcome) -> bool:
    return outcome.claimed.facts.waiting_reason in QUEUE_REASONS


def _has_news(outcome: Outcome, facts: PodFacts) -> bool:
    current = facts.incarnation
    return current is not None and current.open and current != outcome.claimed.facts.incarnation


def _has_begun(before: PodFacts, after: PodFacts) -> bool:
    was, now = before.incarnation, after.incarnation
    return now is not None and now.started_at is not None and (was is None or was.started_at is None)


async def _mark_made(session: Session, pods: Sequence[tuple[Claimed, PodFacts]], now: datetime) -> None:
    """Write down that the volumes of pods whose process has begun are there."""
    begun = [claimed.lease.volume_id for claimed, facts in pods if _has_begun(claimed.facts, facts)]
    volume_ids = [volume_id for volume_id in begun if volume_id is not None]
    if not volume_ids:
        return
    await session.execute(
        update(VolumeRow)
        .where(VolumeRow.id.in_(volume_ids), VolumeRow.made_at.is_(None))
        .values(made_at=now)
        .execution_options(synchronize_session=False)
    )


async def _write_facts(session: Session, changes: Sequence[tuple[Seen | None, PodFacts]]) -> None:
    """Write incarnations' facts, all in one statement (two where some were not seen)."""
    seen_rows, unseen_rows = [], []
    for seen, facts in changes:
        current = facts.incarnation
        if current is None:
            continue
        row = _columns(current)
        if seen is not None and seen.id.incarnation == current.number:
            seen_rows.append(row | {"identity_": seen.identity, "address_": seen.address})
        else:
            unseen_rows.append(row)
    if seen_rows:
        await execute_now(session, _WRITE_FACTS_SEEN, seen_rows)
    if unseen_rows:
        await execute_now(session, _WRITE_FACTS, unseen_rows)


def _columns(current: IncarnationFacts) -> dict[str, Any]:
    progress = None if current.progress is None else asdict(current.progress)
    row = {f"{name}_": getattr(current, name) for name in _FACTS}
    return {"incarnation": current.id, "progress_": progress} | row


async def _tell(session: Session, changes: Sequence[tuple[Claimed, PodFacts]], now: datetime) -> None:
    """Tell what has changed: people by an event, so that a list can be kept right by events; the gateway with it.

    A route says what is shown (`gateway.routes`), so what shows as before has the same one: no nudge without an event.
    """
    turns = []
    for claimed, facts in changes:
        before, current = claimed.facts.incarnation, facts.incarnation
        if current is None or before is None:
            if facts.waiting_reason != claimed.facts.waiting_reason:
                turns.append(turn_of(claimed.lease, STATUS_CHANGED, facts, now))
            continue
        told = len(turns)
        if current.ready_at is not None and before.ready_at is None:
            turns.append(turn_of(claimed.lease, "pod.ready", facts, now))
        if not current.open and before.open:
            turns.append(turn_of(claimed.lease, "pod.ended", facts, now))
        if len(turns) == told and shows_more(claimed.facts, facts, now):
            turns.append(turn_of(claimed.lease, STATUS_CHANGED, facts, now))
    if turns:
        session.nudge(Topic.ROUTES)
    await record_events(session, turns)
