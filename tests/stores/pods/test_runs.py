"""What the loop records: guarded by lease, one transaction each, and nothing of a wish is lost."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from neuropod.accounts.access import SYSTEM
from neuropod.db.engine import Database, Topic
from neuropod.db.events import EventRow
from neuropod.kit.secrets import Secret
from neuropod.pods.guard.store import STATUS_CHANGED
from neuropod.pods.launch import VolumeRequest
from neuropod.pods.lifecycle import Close, Ensure, Kill, Open, Rest, Stop, Wait, decide
from neuropod.pods.records import AllocationRow, IncarnationRow, PodRow
from neuropod.pods.runs.store import (
    Claimed,
    Outcome,
    forget_pod,
    open_incarnations,
    record_failure,
    record_passes,
    record_unavailable,
    release,
)
from neuropod.pods.views import PodView
from neuropod.runtimes.contract import Amounts, Capacity, HostRoom, Phase, Progress
from neuropod.words import Reason, Status, Want
from support.alone import close_incarnation, open_incarnation, record_pass
from support.pod_world import BIG, RUNTIME, World, actor_of, make_world, seen
from support.statements import statements


@pytest.fixture
async def world(database: Database) -> World:
    return await make_world(database)


async def _pod(world: World, pod: PodView) -> PodRow:
    async with world.database.read() as session:
        return (await session.scalars(select(PodRow).where(PodRow.id == pod.id))).one()


async def _incarnations(world: World, pod: PodView) -> list[IncarnationRow]:
    async with world.database.read() as session:
        query = select(IncarnationRow).where(IncarnationRow.pod_id == pod.id).order_by(IncarnationRow.number)
        return list(await session.scalars(query))


async def _allocations(world: World) -> list[AllocationRow]:
    async with world.database.read() as session:
        return list(await session.scalars(select(AllocationRow)))


async def _kinds(world: World, pod: PodView) -> list[str]:
    """The turns in a pod's life; what it was shown as in between is told too (tests/reconcile/test_told.py)."""
    async with world.database.read() as session:
        query = select(EventRow.kind).where(EventRow.pod_id == pod.id, EventRow.kind != STATUS_CHANGED)
        return list(await session.scalars(query.order_by(EventRow.id)))


async def _record(world: World, claimed: Claimed, told: Any, **values: Any) -> Claimed | None:
    async with world.database.write() as session:
        return await record_pass(session, claimed, told, **({"now": world.clock.now(), "due_at": None} | values))


async def _close(world: World, claimed: Claimed, close: Close, told: Any = None) -> Claimed | None:
    async with world.database.write() as session:
        return await close_incarnation(session, claimed, close, told, now=world.clock.now())


async def test_a_launched_pod_is_due_and_its_first_step_is_to_open(world: World):
    pod = await world.launch()

    (claimed,) = await world.claim()

    assert claimed.lease.pod_id == pod.id
    assert decide(claimed.facts, None, world.clock.now()) == Open(1, crashes=0)


async def test_opening_makes_number_price_and_allocation_at_once(world: World):
    pod = await world.launch()

    opened = await world.open(pod)

    (row,) = await _incarnations(world, pod)
    (allocation,) = await _allocations(world)
    assert (row.number, row.run_revision, row.price_micros_per_hour) == (1, 1, 400_000)
    assert (allocation.incarnation_id, allocation.cpu_cores, allocation.memory_bytes) == (row.id, 2, 4 * 10**9)
    assert allocation.disk_bytes == 10 * 10**9
    assert decide(opened.facts, None, world.clock.now()) == Ensure(1)


async def test_the_facts_that_recording_returns_are_those_that_the_next_claim_reads(world: World):
    pod = await world.launch()
    opened = await world.open(pod)
    told = seen(
        pod.id,
        Phase.PENDING,
        Reason.PREPARING,
        message="m",
        progress=Progress("install", 1, 2, "packages"),
    )

    recorded = await _record(world, opened, told, due_at=world.clock.now())
    (claimed,) = await world.claim()

    assert recorded is not None
    assert claimed.facts == recorded.facts


async def test_what_is_shown_as_before_wakes_no_reader_of_routes(world: World):
    """Reading all routes costs the more the more pods there are, and in a burst most looks show nothing new."""
    pod = await world.launch()
    opened = await world.open(pod)
    topics: set[Topic] = set()
    world.database.listen(topics.update)

    assert await _record(world, opened, seen(pod.id, Phase.PENDING, Reason.STARTING)) is not None

    assert not topics & {Topic.ROUTES, Topic.EVENTS}


async def test_a_ready_run_is_told_once(world: World):
    pod = await world.launch()
    opened = await world.open(pod)
    topics: set[Topic] = set()
    world.database.listen(topics.update)

    ready = await _record(world, opened, seen(pod.id, Phase.READY, started_at=world.clock.now()), hold=True)
    assert ready is not None
    await _record(world, ready, seen(pod.id, Phase.READY))

    assert await _kinds(world, pod) == ["pod.launched", "pod.ready"]
    assert Topic.ROUTES in topics
    assert (await world.show(pod.id)).shown.status is Status.RUNNING


async def test_compute_counts_from_the_process_not_from_ready(world: World):
    """SECURITY 26: a pod that never becomes ready has a start and an end all the same."""
    pod = await world.launch()
    opened = await world.open(pod)
    began = world.clock.now()
    pending = await _record(world, opened, seen(pod.id, Phase.PENDING, Reason.NOT_READY, started_at=began), hold=True)
    await world.clock.advance(100)
    told = seen(pod.id, Phase.EXITED, Reason.CRASHED, exit_code=1, finished_at=world.clock.now())
    assert pending is not None
    close = decide(pending.facts, told, world.clock.now())
    assert isinstance(close, Close)

    await _close(world, pending, close, told)

    (row,) = await _incarnations(world, pod)
    assert row.ready_at is None
    assert (row.started_at, row.ended_at) == (began, began + timedelta(seconds=100))


async def test_a_stop_is_recorded_with_its_time_and_reason(world: World):
    pod = await world.launch()
    opened = await world.open(pod)
    running = await _record(world, opened, seen(pod.id, Phase.READY), hold=True)
    assert running is not None

    await _record(world, running, seen(pod.id, Phase.READY), step=Stop(1, Reason.START_TIMEOUT, 30))

    (row,) = await _incarnations(world, pod)
    assert (row.stop_sent_at, row.stop_reason) == (world.clock.now(), Reason.START_TIMEOUT)


async def test_an_end_gives_back_only_when_nothing_is_left(world: World):
    pod = await world.launch()
    opened = await world.open(pod)
    told = seen(pod.id, Phase.EXITED, Reason.EXITED, exit_code=0, finished_at=world.clock.now())

    closed = await _close(world, opened, Close(1, Reason.EXITED, "", world.clock.now(), 0), told)
    assert closed is not None
    assert len(await _allocations(world)) == 1
    await _record(world, closed, None)

    assert await _allocations(world) == []
    (row,) = await _incarnations(world, pod)
    assert (row.ended_at, row.removed_at) == (world.clock.now(), world.clock.now())
    assert await _kinds(world, pod) == ["pod.launched", "pod.ended"]
    assert (await world.show(pod.id)).shown.status is Status.FINISHED


async def test_the_next_run_gets_what_its_last_one_had(world: World):
    world.capacities = {RUNTIME: Capacity(cpu_cores=2, memory_bytes=4 * 10**9, disk_bytes=10**12)}
    pod = await world.launch()
    opened = await world.open(pod)
    closed = await _close(world, opened, Close(1, Reason.CRASHED, "", world.clock.now(), 1))
    assert closed is not None

    again = await world.try_open(closed)

    assert isinstance(again, Claimed)
    assert again.facts.incarnation is not None
    assert (again.facts.incarnation.number, again.facts.incarnation.crashes) == (2, 1)
    assert [row.incarnation_id for row in await _allocations(world)] == [again.facts.incarnation.id]


async def test_who_lost_the_lease_records_nothing(world: World):
    pod = await world.launch()
    stale = await world.open(pod)
    await world.clock.advance(31)
    fresh = await world.claim_one(pod)
    before = (await _pod(world, pod), await _incarnations(world, pod), await _allocations(world))
    now = world.clock.now()

    async with world.database.write() as session:
        assert await record_pass(session, stale, seen(pod.id, Phase.READY), now=now, due_at=None) is None
        assert await close_incarnation(session, stale, Close(1, Reason.LOST, "", now), None, now=now) is None
        assert await open_incarnation(session, stale, BIG, now=now) is None
        assert await record_unavailable(session, stale, now=now, due_at=now) is False
        assert await record_failure(session, stale, "error", now=now, due_at=now) is False
        assert await release(session, stale, now=now, due_at=now) is False
        assert await forget_pod(session, stale, now=now) is False

    after = (await _pod(world, pod), await _incarnations(world, pod), await _allocations(world))
    assert [_columns(row) for rows in before for row in _list(rows)] == [
        _columns(row) for rows in after for row in _list(rows)
    ]
    assert await _record(world, fresh, seen(pod.id, Phase.READY)) is not None


def _list(rows: Any) -> list[Any]:
    return rows if isinstance(rows, list) else [rows]


def _columns(row: Any) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in row.__table__.columns}


async def test_a_wish_that_moved_meanwhile_makes_the_pod_due_at_once(world: World):
    pod = await world.launch()
    opened = await world.open(pod)
    async with world.database.write() as session:
        await world.pods.stop_pod(session, pod.id, actor=actor_of(world.alice))

    await _record(world, opened, seen(pod.id, Phase.READY), due_at=None)

    assert (await _pod(world, pod)).due_at == world.clock.now()
    (claimed,) = await world.claim()
    told = seen(pod.id, Phase.READY)
    assert decide(claimed.facts, told, world.clock.now()) == Stop(1, Reason.REQUESTED, 30)


@pytest.mark.parametrize("verb", ["stop_pod", "restart_pod", "delete_pod"])
async def test_nothing_is_opened_for_a_wish_that_is_gone(world: World, verb: str):
    pod = await world.launch()
    claimed = await world.claim_one(pod)
    async with world.database.write() as session:
        await getattr(world.pods, verb)(session, pod.id, actor=actor_of(world.alice))

    assert await world.try_open(claimed) is None

    assert await _incarnations(world, pod) == []
    assert [one.lease.pod_id for one in await world.claim()] == [pod.id]


async def test_a_runtime_without_an_answer_shows_since_when_and_the_facts_stay(world: World):
    pod = await world.launch()
    opened = await world.open(pod)
    ready = await _record(world, opened, seen(pod.id, Phase.READY), due_at=world.clock.now())
    assert ready is not None
    claimed = await world.claim_one(pod)
    now = world.clock.now()

    async with world.database.write() as session:
        await record_unavailable(session, claimed, now=now, due_at=now + timedelta(seconds=5))

    shown = (await world.show(pod.id)).shown
    assert (shown.status, shown.since) == (Status.UNREACHABLE, now)
    await world.clock.advance(5)
    back = await world.claim_one(pod)
    assert back.facts.failures == 1
    await _record(world, back, seen(pod.id, Phase.READY))
    assert (await world.show(pod.id)).shown.status is Status.RUNNING
    assert (await _pod(world, pod)).failures == 0


async def test_a_defect_is_that_rows_own_error(world: World):
    pod = await world.launch()
    claimed = await world.claim_one(pod)
    now = world.clock.now()

    async with world.database.write() as session:
        await record_failure(session, claimed, "x" * 5000, now=now, due_at=now)

    row = await _pod(world, pod)
    assert (row.failures, row.lease_token, len(row.last_error or "")) == (1, None, 2000)


async def test_a_deleted_pod_is_forgotten_with_its_secrets_and_its_name_is_free(world: World):
    pod = await world.launch(env={"A": Secret("b")})
    opened = await world.open(pod)
    async with world.database.write() as session:
        await world.pods.delete_pod(session, pod.id, actor=actor_of(world.alice))
    closed = await _close(world, opened, Close(1, Reason.REQUESTED, "", world.clock.now()))
    assert closed is not None

    async with world.database.write() as session:
        assert await forget_pod(session, closed, now=world.clock.now())

    row = await _pod(world, pod)
    assert (row.closed_at, row.env_sealed, row.due_at, row.lease_token) == (world.clock.now(), None, None, None)
    assert await _allocations(world) == []
    assert (await _kinds(world, pod))[-2:] == ["pod.ended", "pod.closed"]
    assert await world.claim(nudged=[pod.id]) == []
    assert (await world.launch(pod.pod.name)).id != pod.id


async def test_a_pod_is_not_forgotten_that_is_wanted(world: World):
    pod = await world.launch()
    claimed = await world.claim_one(pod)

    async with world.database.write() as session:
        assert not await forget_pod(session, claimed, now=world.clock.now())

    assert (await _pod(world, pod)).closed_at is None


async def test_a_blocked_pod_says_so(world: World):
    pod = await world.launch()
    claimed = await world.claim_one(pod)
    stranger = seen(pod.id, Phase.READY, incarnation=7)
    step = decide(claimed.facts, stranger, world.clock.now())
    assert isinstance(step, Rest)

    await _record(world, claimed, stranger, step=step, due_at=step.until)

    shown = (await world.show(pod.id)).shown
    assert (shown.status, shown.reason) == (Status.WAITING, Reason.PLACE_OCCUPIED)


async def test_a_kill_changes_no_fact_of_another_run(world: World):
    pod = await world.launch()
    opened = await world.open(pod)

    await _record(world, opened, seen(pod.id, Phase.READY, incarnation=0), step=Kill(0, Reason.LOST))

    (row,) = await _incarnations(world, pod)
    assert (row.first_seen_at, row.phase, row.stop_sent_at) == (None, None, None)


async def test_a_launch_costs_four_write_transactions_at_most(world: World):
    before = world.database.write_transactions

    pod = await world.launch()  # 1
    claimed = await world.claim_one(pod)  # one for the whole batch
    opened = await world.try_open(claimed)  # 2
    pending = seen(pod.id, Phase.PENDING, Reason.NOT_READY)
    await _record(world, opened, pending, due_at=None)  # 3, after ensure and observe under the same lease
    again = await world.claim_one(pod)  # a nudge inside the process needs no write of its own
    await _record(world, again, seen(pod.id, Phase.READY))  # 4

    claims = 2
    assert world.database.write_transactions - before - claims == 4
    assert (await world.show(pod.id)).shown.status is Status.RUNNING


# Room and order

SMALL = {RUNTIME: Capacity(cpu_cores=4, memory_bytes=8 * 10**9, disk_bytes=10**12)}  # two pods of type cpu


async def _end(world: World, pod: PodView, reason: Reason = Reason.EXITED) -> None:
    """Let the pod's open run end and be taken away."""
    claimed = await world.claim_one(pod)
    current = claimed.facts.incarnation
    assert current is not None
    closed = await _close(world, claimed, Close(current.number, reason, "", world.clock.now(), 0))
    assert closed is not None
    assert await _record(world, closed, None) is not None


async def test_who_finds_no_room_waits_in_order_of_request_and_is_woken_in_order(world: World):
    world.capacities = SMALL
    pods = []
    for number in range(5):
        pods.append(await world.launch(f"p{number}"))
        await world.clock.advance(1)
    claimed = {one.lease.pod_id: one for one in await world.claim()}
    outcomes = [await world.try_open(claimed[pod.id]) for pod in pods]

    assert [type(outcome) for outcome in outcomes] == [Claimed, Claimed, Wait, Wait, Wait]
    assert [outcome.place for outcome in outcomes[2:]] == [1, 2, 3]
    shown = [(await world.show(pod.id)).shown for pod in pods[2:]]
    assert [(one.status, one.reason, one.place) for one in shown] == [
        (Status.WAITING, Reason.NO_CAPACITY, place) for place in (1, 2, 3)
    ]
    for index in (0, 1):
        await _record(world, outcomes[index], seen(pods[index].id, Phase.READY))
    assert await world.claim() == []

    await _end(world, pods[0])

    (woken,) = await world.claim()
    assert woken.lease.pod_id == pods[2].id
    assert isinstance(await world.try_open(woken), Claimed)
    (next_one,) = await world.claim()
    assert next_one.lease.pod_id == pods[3].id
    assert decide(next_one.facts, None, world.clock.now()) == Wait(
        Reason.NO_CAPACITY, 1, world.clock.now() + timedelta(seconds=60)
    )
    assert await _kinds(world, pods[2]) == ["pod.launched", "pod.waiting"]


async def test_nobody_overtakes_who_waits_for_the_same_type(world: World):
    world.capacities = {RUNTIME: Capacity(cpu_cores=2, memory_bytes=10**12, disk_bytes=10**13)}
    first = await world.launch("first")
    await world.clock.advance(1)
    second = await world.launch("second")
    await world.clock.advance(1)
    claimed = {one.lease.pod_id: one for one in await world.claim()}
    running = await world.try_open(claimed[first.id])
    assert isinstance(await world.try_open(claimed[second.id]), Wait)
    await _record(world, running, seen(first.id, Phase.READY))
    late = await world.launch("late")
    late_claim = await world.claim_one(late)

    world.capacities = {RUNTIME: Capacity(cpu_cores=4, memory_bytes=10**12, disk_bytes=10**13)}
    outcome = await world.try_open(late_claim)

    assert isinstance(outcome, Wait)
    assert outcome.place == 2
    assert isinstance(await world.try_open(await world.claim_one(second)), Claimed)


async def test_who_leaves_the_queue_wakes_the_next(world: World):
    world.capacities = {RUNTIME: Capacity(cpu_cores=1, memory_bytes=1, disk_bytes=1)}
    pods = []
    for name in ("a", "b"):
        pods.append(await world.launch(name))
        await world.clock.advance(1)
    for one in sorted(await world.claim(), key=lambda claimed: claimed.facts.requested_at):
        assert isinstance(await world.try_open(one), Wait)
    async with world.database.write() as session:
        await world.pods.stop_pod(session, pods[0].id, actor=actor_of(world.alice))
    (stopped,) = await world.claim()

    await _record(world, stopped, None, step=Rest())

    (woken,) = await world.claim()
    assert woken.lease.pod_id == pods[1].id
    assert woken.facts.room.place == 1
    assert (await world.show(pods[0].id)).shown.status is Status.STOPPED


async def test_a_wake_up_is_not_lost_on_who_is_being_worked_on(world: World):
    world.capacities = {RUNTIME: Capacity(cpu_cores=2, memory_bytes=10**12, disk_bytes=10**13)}
    first = await world.launch("first")
    second = await world.launch("second")
    running = await world.open(first)
    await _record(world, running, seen(first.id, Phase.READY))
    waiting = await world.claim_one(second)
    assert isinstance(await world.try_open(waiting), Wait)
    busy = await world.claim_one(second)

    await _end(world, first)
    async with world.database.write() as session:
        await release(session, busy, now=world.clock.now(), due_at=None)

    (again,) = await world.claim()
    assert again.lease.pod_id == second.id


async def test_twenty_workers_never_promise_more_than_there_is(world: World):
    world.capacities = {RUNTIME: Capacity(cpu_cores=10, memory_bytes=10**12, disk_bytes=10**13)}
    pods = [await world.launch(f"p{number}") for number in range(20)]
    claimed = await world.claim()
    assert len(claimed) == len(pods)

    outcomes = await asyncio.gather(*(world.try_open(one) for one in claimed))

    assert [isinstance(outcome, Claimed) for outcome in outcomes].count(True) == 5
    assert sum(row.cpu_cores for row in await _allocations(world)) == 10


async def test_a_batch_is_served_in_order_of_request_whatever_its_order(world: World):
    world.capacities = SMALL
    pods = []
    for number in range(4):
        pods.append(await world.launch(f"p{number}"))
        await world.clock.advance(1)
    claimed = {one.lease.pod_id: one for one in await world.claim()}
    backwards = [claimed[pod.id] for pod in reversed(pods)]

    async with world.database.write() as session:
        outcomes = await open_incarnations(session, backwards, SMALL[RUNTIME], now=world.clock.now())

    assert [type(one) for one in reversed(outcomes)] == [Claimed, Claimed, Wait, Wait]
    assert [one.place for one in reversed(outcomes) if isinstance(one, Wait)] == [1, 2]
    assert len(await _allocations(world)) == 2


async def test_a_batch_counts_on_each_machine_what_its_earlier_pods_take_there(world: World):
    each = Amounts(cpu_cores=3, memory_bytes=10**12, disk_bytes=10**13)  # one pod of type cpu, and half of another
    whole = HostRoom(each, each)
    two = Capacity(6, 2 * 10**12, 2 * 10**13, hosts={"one": whole, "other": whole})
    world.capacities = {RUNTIME: two}
    for number in range(3):
        await world.launch(f"p{number}")
        await world.clock.advance(1)
    claims = await world.claim()

    async with world.database.write() as session:
        outcomes = await open_incarnations(session, claims, two, now=world.clock.now())

    assert sorted(type(one).__name__ for one in outcomes) == ["Claimed", "Claimed", "Wait"]


async def test_who_waited_goes_before_who_comes_in_the_same_batch(world: World):
    world.capacities = {RUNTIME: Capacity(cpu_cores=1, memory_bytes=10**12, disk_bytes=10**13)}
    first = await world.launch("first")
    await world.clock.advance(1)
    second = await world.launch("second")
    await world.clock.advance(1)
    for pod in (first, second):
        assert isinstance(await world.try_open(await world.claim_one(pod)), Wait)
    third = await world.launch("third")
    claims = [await world.claim_one(pod) for pod in (third, second, first)]
    bigger = Capacity(cpu_cores=4, memory_bytes=10**12, disk_bytes=10**13)

    async with world.database.write() as session:
        outcomes = await open_incarnations(session, claims, bigger, now=world.clock.now())

    assert [type(one) for one in outcomes] == [Wait, Claimed, Claimed]
    assert isinstance(outcomes[0], Wait)
    assert outcomes[0].place == 1


async def test_a_batch_of_outcomes_leaves_those_alone_that_are_another_workers(world: World):
    pods = [await world.launch(f"p{number}") for number in range(3)]
    claims = {one.lease.pod_id: one for one in await world.claim()}
    opened = [await world.try_open(claims[pod.id]) for pod in pods]
    await world.clock.advance(31)
    (taken_over,) = await world.claim(limit=1)
    taken = [pod.id for pod in pods].index(taken_over.lease.pod_id)
    told = [Outcome(one, seen(one.lease.pod_id, Phase.READY), None) for one in opened]

    async with world.database.write() as session:
        recorded = await record_passes(session, told, now=world.clock.now())

    assert [one is None for one in recorded] == [index == taken for index in range(3)]
    phases = [(await _incarnations(world, pod))[0].phase for pod in pods]
    assert [phase is None for phase in phases] == [index == taken for index in range(3)]
    assert await _record(world, taken_over, seen(pods[taken].id, Phase.READY)) is not None


async def test_a_batch_takes_as_many_statements_as_one_pod(world: World):
    async def statements_for(names: list[str]) -> int:
        for name in names:
            await world.launch(name)
        claims = await world.claim()
        with statements(world.database) as seen_statements:
            async with world.database.write() as session:
                opened = await open_incarnations(session, claims, BIG, now=world.clock.now())
            told = [
                Outcome(one, seen(one.lease.pod_id, Phase.PENDING, Reason.NOT_READY), None)
                for one in opened
                if isinstance(one, Claimed)
            ]
            async with world.database.write() as session:
                assert None not in await record_passes(session, told, now=world.clock.now())
        return len(seen_statements)

    one = await statements_for(["a"])
    many = await statements_for([f"p{number}" for number in range(15)])

    assert many == one


async def test_a_volume_is_taken_from_the_disk_once_and_for_all(world: World):
    request = {"template": "jupyterlab", "image": None}
    world.capacities = {RUNTIME: Capacity(cpu_cores=99, memory_bytes=10**12, disk_bytes=29 * 10**9)}
    pods = [
        await world.launch(name, volume=VolumeRequest(), **request) for name in ("a", "b")
    ]  # one volume of 10 GB, two container disks of 10 GB

    claimed = {one.lease.pod_id: one for one in await world.claim()}

    assert isinstance(await world.try_open(claimed[pods[0].id]), Claimed)
    assert isinstance(await world.try_open(claimed[pods[1].id]), Wait)


async def test_a_restart_by_the_system_counts_the_wish(world: World):
    pod = await world.launch()
    await world.open(pod)

    async with world.database.write() as session:
        await world.pods.stop_pod(session, pod.id, actor=SYSTEM, reason=Reason.IDLE)

    row = await _pod(world, pod)
    assert (row.want, row.want_reason, row.generation) == (Want.STOPPED, Reason.IDLE, 2)
