"""Rows and the world in bulk: what is expected, what was seen, who becomes due."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from neuropod.accounts.access import SYSTEM
from neuropod.db.engine import Database
from neuropod.ids import PodId, RuntimeId
from neuropod.pods.lifecycle import Close
from neuropod.pods.records import IncarnationRow
from neuropod.pods.resync import store as resync
from neuropod.pods.views import PodView
from neuropod.runtimes.contract import Phase
from neuropod.words import Reason, Status
from support.alone import close_incarnation, record_pass
from support.pod_world import RUNTIME, World, make_world, seen


@pytest.fixture
async def world(database: Database) -> World:
    return await make_world(database)


async def _running(world: World, name: str) -> PodView:
    pod = await world.launch(name)
    opened = await world.open(pod)
    async with world.database.write() as session:
        await record_pass(session, opened, seen(pod.id, Phase.READY), now=world.clock.now(), due_at=None)
    return pod


async def test_expected_is_what_is_not_removed(world: World):
    running = await _running(world, "running")
    ended = await _running(world, "ended")
    await world.launch("new")
    claimed = await world.claim_one(ended)
    async with world.database.write() as session:
        await close_incarnation(
            session, claimed, Close(1, Reason.LOST, "", world.clock.now()), None, now=world.clock.now()
        )

    async with world.database.read() as session:
        expected = await resync.expected_on(session, RUNTIME)
        elsewhere = await resync.expected_on(session, RuntimeId("other:one"))

    assert {(one.pod_id, one.number, one.open) for one in expected} == {
        (running.id, 1, True),
        (ended.id, 1, False),
    }
    assert elsewhere == []


async def test_a_runtime_that_falls_silent_and_answers_again(world: World):
    pod = await _running(world, "lab")
    await world.clock.advance(10)
    async with world.database.write() as session:
        await resync.mark_unavailable(session, RUNTIME, now=world.clock.now())
    silent = (await world.show(pod.id)).shown
    await world.clock.advance(10)
    async with world.database.write() as session:
        await resync.mark_unavailable(session, RUNTIME, now=world.clock.now())
    still = (await world.show(pod.id)).shown

    async with world.database.write() as session:
        (one,) = await resync.expected_on(session, RUNTIME)
        await resync.mark_seen(session, [one.incarnation_id], now=world.clock.now())

    assert (silent.status, silent.since) == (Status.UNREACHABLE, world.clock.now() - timedelta(seconds=10))
    assert still == silent
    assert (await world.show(pod.id)).shown.status is Status.RUNNING
    async with world.database.read() as session:
        row = (await session.scalars(select(IncarnationRow))).one()
    assert row.last_seen_at == world.clock.now()


async def test_pods_are_made_due_even_while_somebody_works_on_them(world: World):
    pod = await _running(world, "lab")
    busy = await world.claim_one(pod)

    async with world.database.write() as session:
        await resync.make_due(session, [pod.id], now=world.clock.now())
        await record_pass(session, busy, seen(pod.id, Phase.READY), now=world.clock.now(), due_at=None)

    assert [one.lease.pod_id for one in await world.claim()] == [pod.id]


async def test_at_start_all_that_may_need_something_is_due(world: World):
    running = await _running(world, "running")
    left = await _running(world, "left")
    resting = await world.launch("resting")
    for pod in (left, resting):
        async with world.database.write() as session:
            await world.pods.stop_pod(session, pod.id, actor=SYSTEM)
    for claimed in await world.claim():
        told = seen(left.id, Phase.READY) if claimed.lease.pod_id == left.id else None
        async with world.database.write() as session:
            await record_pass(session, claimed, told, now=world.clock.now(), due_at=None)
    assert await world.claim() == []

    async with world.database.write() as session:
        await resync.make_all_due(session, RUNTIME, now=world.clock.now())

    assert {one.lease.pod_id for one in await world.claim()} == {running.id, left.id}


async def test_the_loop_sleeps_until_the_next_pod_is_due_or_free(world: World):
    pod = await _running(world, "lab")
    async with world.database.read() as session:
        assert await resync.next_due_at(session, [RUNTIME]) is None
    claimed = await world.claim_one(pod)
    now = world.clock.now()
    async with world.database.write() as session:
        due_at = now + timedelta(seconds=20)
        await record_pass(session, claimed, seen(pod.id, Phase.READY), now=now, due_at=due_at)

    async with world.database.read() as session:
        assert await resync.next_due_at(session, [RUNTIME]) == due_at
        assert await resync.next_due_at(session, []) is None
    await world.clock.advance(20)
    await world.claim()
    async with world.database.read() as session:
        assert await resync.next_due_at(session, [RUNTIME]) == world.clock.now() + timedelta(seconds=30)


async def test_workloads_of_pods_with_a_row_are_known(world: World):
    pod = await world.launch()

    async with world.database.read() as session:
        assert await resync.newest_numbers(session, [pod.id, PodId("pod_unknown")]) == {pod.id: 0}
