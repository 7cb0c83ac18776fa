"""The SQL of Open and Wait: number, price and allocations in one transaction, in order of request.

Called by reconcile.pods for one pod or a batch of one runtime's; a batch takes as many statements as one pod. The
runtime's lock is held, so that nothing is given twice and no wake-up is lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from neuropod.db.engine import Session, Topic
from neuropod.db.events import record_events
from neuropod.db.reading import columns_of, read_rows
from neuropod.db.writing import execute_now
from neuropod.ids import IncarnationId, PodId, RuntimeId
from neuropod.kit.identifiers import new_id
from neuropod.pods.claims import Claimed, not_given_back
from neuropod.pods.guard.store import STATUS_CHANGED, give_back, release_many, turn_of
from neuropod.pods.lifecycle import IncarnationFacts, PodFacts, Room, Wait, opening, wait_for
from neuropod.pods.queue.store import (
    QUEUE_REASONS,
    WAITING_REASONS,
    earlier_waiting,
    lock_runtime,
    needs_of,
    room,
    taken_of,
    wake_next,
)
from neuropod.pods.records import OF_WORKLOADS, AllocationRow, IncarnationRow, PodRow
from neuropod.pods.room import Need, Taken, free_devices, shortage, with_opened
from neuropod.runtimes.contract import Capacity
from neuropod.words import Reason, Want

Opened = Claimed | Wait | None

_LOCKED = (
    select(*columns_of(PodRow, OF_WORKLOADS))
    .where(PodRow.id.in_(bindparam("pod_ids", expanding=True)))
    .order_by(PodRow.id)
    .with_for_update()
)
_INSERT_INCARNATIONS = insert(IncarnationRow)
_INSERT_ALLOCATIONS = insert(AllocationRow)


async def open_incarnations(
    session: Session, claims: Sequence[Claimed], capacity: Capacity, *, now: datetime
) -> list[Opened]:
    """Make the next incarnation of each pod with its price and allocations, or let it wait, in order of request.

    For pods of one runtime, on `Open` and on `Wait`, with nothing of an earlier incarnation left there. Claimed:
    opened, and the lease goes on. Wait: recorded, the lease given back. None: not ours any more, or the wish has
    changed (then the pod is due at once). Answers stand in the order of `claims`.
    """
    runtime_id = claims[0].facts.runtime_id
    await lock_runtime(session, runtime_id)
    rows = await _our_rows(session, claims)
    counter = _Counter(runtime_id, capacity)
    as_asked = []
    for claimed in sorted(claims, key=_asked):
        row = rows.get(claimed.lease.pod_id)
        if row is None:
            continue
        if row.want == Want.RUNNING and row.run_revision == claimed.facts.run_revision:
            as_asked.append((claimed, row))
        else:
            counter.dropped.append((claimed, row))
    if as_asked:
        await give_back(
            session, [claimed.lease.pod_id for claimed, _ in as_asked if not_given_back(claimed.facts.incarnation)], now
        )
        counter.taken = (await taken_of(session, [runtime_id]))[runtime_id]
        needs = await needs_of(session, [row for _, row in as_asked])
        earlier = await earlier_waiting(session, [row.id for _, row in as_asked])
        for claimed, row in as_asked:
            counter.serve(claimed, row, needs[claimed.lease.pod_id], earlier.get(claimed.lease.pod_id, 0), now)
    await counter.write(session, now)
    return [counter.answers.get(claimed.lease.pod_id) for claimed in claims]


def _asked(claimed: Claimed) -> tuple[datetime, PodId]:
    return claimed.facts.requested_at, claimed.facts.id


async def _our_rows(session: Session, claims: Sequence[Claimed]) -> dict[PodId, PodRow]:
    tokens = {claimed.lease.pod_id: claimed.lease.token for claimed in claims}
    rows = await read_rows(session, PodRow, _LOCKED, {"pod_ids": list(tokens)}, OF_WORKLOADS)
    return {PodId(row.id): row for row in rows if row.lease_token == tokens[PodId(row.id)]}


@dataclass(slots=True)
class _Counter:
    """One runtime's counter: who is served in turn, and what has to be written for it."""

    runtime_id: RuntimeId
    capacity: Capacity
    taken: Taken = field(default_factory=Taken)
    answers: dict[PodId, Opened] = field(default_factory=dict)
    dropped: list[tuple[Claimed, PodRow]] = field(default_factory=list)
    waiting: list[tuple[Claimed, PodRow, Wait]] = field(default_factory=list)
    incarnations: list[dict[str, Any]] = field(default_factory=list)
    allocations: list[dict[str, Any]] = field(default_factory=list)
    left_queue: list[PodId] = field(default_factory=list)
    _left: dict[str, int] = field(default_factory=dict)  # by type: who waited before and was opened here
    _joined: dict[str, int] = field(default_factory=dict)  # by type: who waits from here on

    def serve(self, claimed: Claimed, row: PodRow, need: Need, earlier: int, now: datetime) -> None:
        """Open the pod or let it wait; called in order of request."""
        pod_id, waited = claimed.lease.pod_id, row.waiting_reason in QUEUE_REASONS
        before = earlier - self._left.get(row.gpu_type, 0) + self._joined.get(row.gpu_type, 0)
        found = room(shortage(need, self.capacity, self.taken), before, need)
        if not found.free:
            wait = wait_for(found, now)
            queues = wait.reason in QUEUE_REASONS
            if queues and not waited:
                self._joined[row.gpu_type] = self._joined.get(row.gpu_type, 0) + 1
            elif waited and not queues:
                self._left[row.gpu_type] = self._left.get(row.gpu_type, 0) + 1
            self.waiting.append((claimed, row, wait))
            self.answers[pod_id] = wait
            return
        if waited:
            self._left[row.gpu_type] = self._left.get(row.gpu_type, 0) + 1
        if row.waiting_reason is not None:
            self.left_queue.append(pod_id)
        current = self._incarnation(claimed, row, now)
        self._allocate(current.id, need, row.gpu_type)
        facts = replace(claimed.facts, incarnation=current, waiting_reason=None, waiting_since=None)
        self.answers[pod_id] = Claimed(claimed.lease, facts)

    def _incarnation(self, claimed: Claimed, row: PodRow, now: datetime) -> IncarnationFacts:
        step = opening(claimed.facts)
        current = IncarnationFacts(
            id=IncarnationId(new_id("inc")),
            number=step.incarnation,
            run_revision=row.run_revision,
            crashes=step.crashes,
            opened_at=now,
            reason=Reason.STARTING,
        )
        self.incarnations.append(
            {
                "id": current.id,
                "pod_id": row.id,
                "number": current.number,
                "run_revision": current.run_revision,
                "crashes": current.crashes,
                "price_micros_per_hour": row.price_micros_per_hour,
                "opened_at": now,
                "reason": current.reason,
                "message": "",
                "pending_seconds": 0.0,
            }
        )
        return current

    def _allocate(self, incarnation_id: IncarnationId, need: Need, gpu_type: str) -> None:
        devices = free_devices(need, self.capacity, self.taken) if need.gpus else ()
        self.taken = replace(
            self.taken,
            cpu_cores=self.taken.cpu_cores + need.cpu_cores,
            memory_bytes=self.taken.memory_bytes + need.memory_bytes,
            disk_bytes=self.taken.disk_bytes + need.disk_bytes,
            devices=self.taken.devices | frozenset(devices),
        )
        self.capacity = with_opened(self.capacity, need, devices)

        def row(device: str | None, cpu_cores: int, memory_bytes: int, disk_bytes: int) -> dict[str, Any]:
            return {
                "id": new_id("all"),
                "incarnation_id": incarnation_id,
                "runtime_id": self.runtime_id,
                "device": device,
                "gpu_type": None if device is None else gpu_type,
                "cpu_cores": cpu_cores,
                "memory_bytes": memory_bytes,
                "disk_bytes": disk_bytes,
            }

        self.allocations.append(row(None, need.cpu_cores, need.memory_bytes, need.disk_bytes))
        self.allocations.extend(row(device, 0, 0, 0) for device in devices)

    async def write(self, session: Session, now: datetime) -> None:
        """Write what was decided, many rows in one statement."""
        if self.incarnations:
            await execute_now(session, _INSERT_INCARNATIONS, self.incarnations)
            await execute_now(session, _INSERT_ALLOCATIONS, self.allocations)
            session.nudge(Topic.ROUTES)
        await release_many(
            session,
            [
                *((claimed.lease, row.generation, claimed.facts, now) for claimed, row in self.dropped),
                *(
                    (claimed.lease, row.generation, _waiting_facts(claimed, wait, now), wait.until)
                    for claimed, row, wait in self.waiting
                ),
            ],
            now,
        )
        await self._leave_queue(session, now)
        newly = [one for one in self.waiting if one[0].facts.waiting_reason not in WAITING_REASONS]
        if newly:
            session.nudge(Topic.ROUTES)
        opened = [answer for answer in self.answers.values() if isinstance(answer, Claimed)]
        await record_events(
            session,
            [
                *(turn_of(claimed.lease, STATUS_CHANGED, claimed.facts, now) for claimed in opened),
                *(
                    turn_of(claimed.lease, "pod.waiting", _waiting_facts(claimed, wait, now), now)
                    for claimed, _, wait in newly
                ),
            ],
        )

    async def _leave_queue(self, session: Session, now: datetime) -> None:
        if not self.left_queue:
            return
        left = update(PodRow).where(PodRow.id.in_(self.left_queue)).values(waiting_reason=None, waiting_since=None)
        await session.execute(left.execution_options(synchronize_session=False))
        await wake_next(session, self.runtime_id, now)


def _waiting_facts(claimed: Claimed, wait: Wait, now: datetime) -> PodFacts:
    facts = claimed.facts
    newly = facts.waiting_reason not in WAITING_REASONS
    return replace(
        facts,
        waiting_reason=wait.reason,
        waiting_since=now if newly else facts.waiting_since,
        room=Room(free=False, reason=wait.reason, place=wait.place),
    )
