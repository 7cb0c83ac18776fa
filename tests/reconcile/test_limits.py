"""The limits loop: deadlines and idleness on a virtual clock, warned of, enforced also after the server was down."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from neuropod.db.audit import AuditRow
from neuropod.db.engine import Database
from neuropod.db.events import EventRow
from neuropod.gateway.traffic import Traffic
from neuropod.pods.launch import EditRequest, LaunchRequest
from neuropod.pods.limits.idleness import IdleView
from neuropod.pods.usage.series import KEPT, Point, joined
from neuropod.pods.usage.store import packed_points
from neuropod.pods.views import PodView
from neuropod.reconcile.limits import LimitsLoop
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.fake.world import Script, Uses
from neuropod.runtimes.opened import Runtimes
from neuropod.words import Activity, Reason, Status, Want
from reconcile.plant import Plant, Server

# What only the clock decides; the SQL is the same in tests on both.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Limited(Server):
    """A server with its limits loop."""

    def __init__(self, plant: Plant) -> None:
        super().__init__(plant)
        self.plant = plant
        self.traffic = Traffic()
        self.limits = LimitsLoop(self.loop._world, plant.settings.limits, self.traffic)

    async def pass_time(self, minutes: float) -> None:
        """Turn the limits loop whenever it wants to, for so long; the pods loop does what follows."""
        end = self.plant.clock.now() + timedelta(minutes=minutes)
        await self.turn()
        while True:
            turn = await self.limits.turn()
            left = (end - self.plant.clock.now()).total_seconds()
            if turn.report["stopped"] or left <= 0:
                await self.turn()
            if left <= 0:
                return
            await self.plant.clock.advance(min(max(turn.again_in_seconds, 0.01), left))

    async def aclose(self) -> None:
        await self.limits.aclose()
        await super().aclose()


@pytest.fixture
async def limited(plant: Plant) -> AsyncIterator[Limited]:
    server = Limited(plant)
    yield server
    await server.aclose()


async def launch(plant: Plant, server: Server, name: str = "lab", **limits: Any) -> PodView:
    pod = await plant.ask(server.pods.launch_pod, LaunchRequest(name=name, image="plain", volume=None, **limits))
    await server.turn()
    return pod


def use(plant: Plant, **uses: Any) -> None:
    """Let everything that runs use that from now on."""
    for standing in plant.world.standing.values():
        standing.use(Uses(**uses), plant.clock.now())


async def events(plant: Plant, kind: str) -> list[EventRow]:
    async with plant.database.read() as session:
        return list(await session.scalars(select(EventRow).where(EventRow.kind == kind).order_by(EventRow.id)))


async def seen(plant: Plant, server: Server, pod: str = "lab") -> tuple[Status, Reason]:
    shown = (await plant.show(server, pod)).shown
    return shown.status, shown.reason


async def idle_of(plant: Plant, server: Server, pod: str = "lab") -> IdleView:
    idle = (await plant.show(server, pod)).outlook.idle
    assert idle is not None
    return idle


# ---- the deadline


async def test_a_pod_is_stopped_at_its_deadline_to_the_second_and_can_be_started_again(plant: Plant, limited: Limited):
    await launch(plant, limited, stop_after_seconds=1200)
    began = plant.clock.now()
    use(plant, cpu_cores=4)

    await limited.pass_time(19.9)
    running = await plant.show(limited)
    await limited.pass_time(0.1)
    stopped = await plant.show(limited)

    assert running.shown.status is Status.RUNNING
    assert running.outlook.stops_at == began + timedelta(minutes=20)
    assert await seen(plant, limited) == (Status.STOPPED, Reason.DEADLINE)
    assert "its time was up" in stopped.shown.message
    assert stopped.outlook.stops_at is None

    await plant.ask(limited.pods.start_pod, "lab")
    await limited.pass_time(19)
    assert await plant.status(limited) is Status.RUNNING
    await limited.pass_time(1)
    assert await plant.status(limited) is Status.STOPPED


async def test_the_owner_is_warned_once_before_it_by_an_event_and_in_the_status(plant: Plant, limited: Limited):
    pod = await launch(plant, limited, stop_after_seconds=1500)

    await limited.pass_time(14)
    before = await events(plant, "pod.stop_warned")
    await limited.pass_time(10)

    (warned,) = await events(plant, "pod.stop_warned")
    assert before == []
    assert warned.at == plant.clock.now() - timedelta(minutes=9)
    assert (warned.pod_id, warned.owner_id) == (pod.id, plant.actor.user_id)
    assert warned.data["reason"] == "deadline"
    assert "it will be stopped unless" in (await plant.show(limited)).shown.message


async def test_the_stop_is_the_systems_act_with_its_reason(plant: Plant, limited: Limited):
    pod = await launch(plant, limited, stop_after_seconds=60)

    await limited.pass_time(1)

    (stopped,) = await events(plant, "pod.stopped")
    async with plant.database.read() as session:
        (act,) = await session.scalars(select(AuditRow).where(AuditRow.verb == "stop_pod"))
    assert stopped.data["reason"] == "deadline"
    assert (act.via, act.actor_id, act.subject) == ("system", None, f"pod/{pod.id}")


@on_sqlite
async def test_a_deadline_that_passed_while_the_server_was_down_stops_at_once(plant: Plant, limited: Limited):
    await launch(plant, limited, stop_after_seconds=3600)
    await limited.pass_time(5)

    await plant.clock.advance(2 * 3600)
    again = Limited(plant)
    await again.limits.turn()
    await again.turn()

    assert await seen(plant, again) == (Status.STOPPED, Reason.DEADLINE)
    await again.aclose()


@on_sqlite
async def test_more_time_takes_no_restart_and_holds_at_once(plant: Plant, limited: Limited):
    pod = await launch(plant, limited, stop_after_seconds=1500)
    await limited.pass_time(20)

    async with plant.database.write() as session:
        await limited.pods.edit_pod(session, "lab", EditRequest(stop_after_seconds=3000), actor=plant.actor)
    await limited.pass_time(10)
    message = (await plant.show(limited)).shown.message
    await limited.pass_time(20)

    assert plant.running() == []
    assert message == "Running."
    assert len(await events(plant, "pod.stop_warned")) == 2  # of the first deadline, and of the later one
    assert plant.world.highest[pod.id] == 1


@on_sqlite
async def test_less_time_wakes_the_loop_and_none_is_for_ever(plant: Plant, limited: Limited):
    await launch(plant, limited, stop_after_seconds=1200)
    await launch(plant, limited, "free", stop_after_seconds=1200)
    heard = []
    plant.database.listen(lambda topics: heard.append(topics & limited.limits.topics))
    await limited.pass_time(2)

    for name, seconds in (("lab", 60), ("free", None)):
        async with plant.database.write() as session:
            await limited.pods.edit_pod(session, name, EditRequest(stop_after_seconds=seconds), actor=plant.actor)
    await limited.limits.turn()
    await limited.turn()
    await limited.pass_time(21)

    assert [one for one in heard if one] == [limited.limits.topics] * 2
    assert await seen(plant, limited) == (Status.STOPPED, Reason.DEADLINE)
    assert await plant.status(limited, "free") is Status.RUNNING


@on_sqlite
async def test_a_pod_that_never_becomes_ready_has_its_deadline_too(plant: Plant, limited: Limited):
    plant.world.default_script = Script(ready_seconds=None)
    await launch(plant, limited, stop_after_seconds=300)

    await limited.pass_time(5)

    assert await seen(plant, limited) == (Status.STOPPED, Reason.DEADLINE)


@on_sqlite
async def test_a_pod_that_was_started_anew_meanwhile_is_not_stopped_for_the_run_before(plant: Plant, limited: Limited):
    await launch(plant, limited, stop_after_seconds=600)
    await limited.pass_time(9)
    await plant.ask(limited.pods.restart_pod, "lab")
    await limited.turn()
    await limited.pass_time(5)

    assert await plant.status(limited) is Status.RUNNING
    await limited.pass_time(5)
    assert await plant.status(limited) is Status.STOPPED


# ---- idleness


async def test_an_idle_pod_is_warned_of_and_stopped_with_its_data_kept(plant: Plant, limited: Limited):
    await launch(plant, limited, idle_stop_after_seconds=1800)
    began = plant.clock.now()
    await limited.pass_time(2)
    idle = await idle_of(plant, limited)
    since = began + timedelta(minutes=1)  # the first look measures, the second one sees a rate

    await limited.pass_time(28.5)
    before = await plant.show(limited)
    await limited.pass_time(1)

    assert idle == IdleView(since, since + timedelta(minutes=30))
    assert "It is idle and will be stopped at" in before.shown.message
    assert [event.data["reason"] for event in await events(plant, "pod.stop_warned")] == ["idle"]
    assert await seen(plant, limited) == (Status.STOPPED, Reason.IDLE)
    assert "it was idle" in (await plant.show(limited)).shown.message


@on_sqlite
@pytest.mark.parametrize(
    ("uses", "activity"), [({"cpu_cores": 0.5}, Activity.CPU), ({"gpu_percent": 80}, Activity.GPU)]
)
async def test_work_keeps_a_pod_and_its_end_lets_it_be_idle(
    plant: Plant, limited: Limited, uses: dict[str, Any], activity: Activity
):
    await launch(plant, limited, idle_stop_after_seconds=1800)
    (standing,) = plant.world.standing.values()
    standing.workload = replace(standing.workload, resources=replace(standing.workload.resources, devices=("GPU-1",)))
    use(plant, **uses)

    await limited.pass_time(45)
    busy = await idle_of(plant, limited)
    use(plant)
    await limited.pass_time(29)
    idle = await idle_of(plant, limited)
    await limited.pass_time(2)

    assert busy == IdleView(kept_by=(activity,))
    assert idle.since == plant.clock.now() - timedelta(minutes=31)
    assert await seen(plant, limited) == (Status.STOPPED, Reason.IDLE)


@on_sqlite
async def test_nobody_is_stopped_for_being_idle_who_was_not_warned(plant: Plant, limited: Limited):
    await launch(plant, limited, idle_stop_after_seconds=60)
    await launch(plant, limited, "long", idle_stop_after_seconds=36_000)
    await limited.pass_time(2)
    await plant.clock.advance(1)
    warned = [event.message for event in await events(plant, "pod.stop_warned")]
    running = await plant.status(limited)
    async with plant.database.write() as session:
        await limited.pods.edit_pod(session, "long", EditRequest(idle_stop_after_seconds=60), actor=plant.actor)
    await limited.pass_time(1)
    shorter = await plant.status(limited, "long")
    await limited.pass_time(1)

    assert len(warned) == 1
    assert "Pod lab: It is idle and will be stopped in a moment" in warned[0]
    assert (running, shorter) == (Status.RUNNING, Status.RUNNING)
    assert await seen(plant, limited) == (Status.STOPPED, Reason.IDLE)
    assert await seen(plant, limited, "long") == (Status.STOPPED, Reason.IDLE)
    assert len(await events(plant, "pod.stop_warned")) == 2


@on_sqlite
async def test_use_through_a_gateway_keeps_a_pod(plant: Plant, limited: Limited):
    pod = await launch(plant, limited, idle_stop_after_seconds=600)
    for _ in range(20):
        limited.traffic.used([pod.id])
        await limited.pass_time(3)

    kept = await plant.status(limited)
    await limited.pass_time(12)

    assert kept is Status.RUNNING
    assert await seen(plant, limited) == (Status.STOPPED, Reason.IDLE)


@on_sqlite
async def test_idle_time_counts_only_while_somebody_watches(plant: Plant, limited: Limited):
    await launch(plant, limited, idle_stop_after_seconds=1800)
    await limited.pass_time(21)
    await limited.aclose()

    await plant.clock.advance(10 * 3600)
    again = Limited(plant)
    await again.pass_time(8)
    running = await plant.status(again)
    await again.pass_time(4)

    assert running is Status.RUNNING
    assert await seen(plant, again) == (Status.STOPPED, Reason.IDLE)
    await again.aclose()


async def test_a_server_that_was_killed_knows_all_but_the_last_minutes_of_what_it_watched(
    plant: Plant, limited: Limited
):
    await launch(plant, limited, idle_stop_after_seconds=1800)
    await limited.pass_time(24)

    again = Limited(plant)  # the old one wrote nothing at its end
    await again.pass_time(5)
    running = await plant.status(again)
    await again.pass_time(8)

    assert running is Status.RUNNING
    assert await seen(plant, again) == (Status.STOPPED, Reason.IDLE)
    await again.aclose()


@on_sqlite
async def test_a_runtime_that_gives_no_answer_makes_nobody_idle(plant: Plant, limited: Limited):
    await launch(plant, limited, idle_stop_after_seconds=600)
    await limited.pass_time(3)

    async def away(verb: str) -> None:
        if verb == "usage":
            raise RuntimeUnavailableError("unplugged")

    plant.world.before = away
    await limited.pass_time(30)
    running = await plant.status(limited)
    plant.world.before = None
    await limited.pass_time(5)
    still = await plant.status(limited)
    await limited.pass_time(8)

    assert (running, still) == (Status.RUNNING, Status.RUNNING)
    assert await seen(plant, limited) == (Status.STOPPED, Reason.IDLE)


@on_sqlite
async def test_a_run_that_begins_anew_begins_to_be_watched_anew(plant: Plant, limited: Limited):
    await launch(plant, limited, idle_stop_after_seconds=600)
    await limited.pass_time(9)
    await plant.ask(limited.pods.restart_pod, "lab")
    await limited.turn()

    fresh = await idle_of(plant, limited)
    await limited.pass_time(9)

    assert fresh == IdleView()
    assert await plant.status(limited) is Status.RUNNING


@on_sqlite
async def test_a_pod_without_limits_runs_on_and_tells_of_none(plant: Plant, limited: Limited):
    await launch(plant, limited)

    await limited.pass_time(60)

    pod = await plant.show(limited)
    assert pod.shown.status is Status.RUNNING
    assert (pod.outlook.stops_at, pod.outlook.idle) == (None, None)


@on_sqlite
async def test_a_wish_of_the_owner_is_not_overwritten(plant: Plant, limited: Limited):
    await launch(plant, limited, stop_after_seconds=60)
    plant.world.default_script = Script(stop_seconds=None)
    (standing,) = plant.world.standing.values()
    standing.script = plant.world.default_script
    await plant.ask(limited.pods.delete_pod, "lab")
    await plant.clock.advance(120)

    await limited.limits.turn()

    assert Want((await plant.show(limited)).pod.want) is Want.GONE
    assert await events(plant, "pod.stopped") == []


# ---- usage


async def points_of(plant: Plant, pod: PodView) -> list[Point]:
    since = plant.clock.now() - KEPT
    async with plant.database.read() as session:
        packed = await packed_points(session, pod.id, since=since)
    return joined(packed, since=since, apart=timedelta(minutes=1))


@pytest.fixture
async def seldom(database: Database) -> AsyncIterator[Plant]:
    """A plant that is looked at every ten minutes, for what takes many hours."""
    plant = Plant(database, reconcile={"look_seconds": 600})
    await plant.set_up()
    yield plant
    await plant.world.aclose()


async def test_points_are_kept_for_six_hours_and_over_a_restart(seldom: Plant):
    plant, server = seldom, Limited(seldom)
    plant.world.default_script = Script(usage=Uses(cpu_cores=0.25, memory_bytes=8192))
    pod = await launch(plant, server)
    await server.pass_time(8 * 60)
    again = Limited(plant)  # the old one wrote nothing at its end
    await again.pass_time(30)

    points = await points_of(plant, pod)

    assert 36 <= len(points) <= 37
    assert points[-1].at >= plant.clock.now() - timedelta(minutes=10)
    assert {point.memory_bytes for point in points} == {8192}
    assert {point.cpu_cores for point in points[-2:]} == {0.25}
    await again.aclose()
    await server.aclose()


async def test_old_points_and_those_of_deleted_pods_go(seldom: Plant):
    plant, server = seldom, Limited(seldom)
    pod = await launch(plant, server, idle_stop_after_seconds=36_000)
    await server.pass_time(30)
    await plant.ask(server.pods.delete_pod, "lab")
    await server.turn()

    await server.pass_time(9 * 60)

    async with plant.database.read() as session:
        assert await packed_points(session, pod.id, since=plant.clock.now() - timedelta(days=30)) == []
    await server.aclose()


async def test_an_idle_server_writes_nothing_and_one_with_pods_one_transaction_a_minute(plant: Plant, limited: Limited):
    await limited.limits.turn()
    before = plant.database.write_transactions
    for _ in range(10):
        await plant.clock.advance(60)
        await limited.limits.turn()
    idle = plant.database.write_transactions - before
    for number in range(10):
        await launch(plant, limited, f"lab{number}", idle_stop_after_seconds=36_000)
    await limited.limits.turn()
    before = plant.database.write_transactions
    for _ in range(10):
        await plant.clock.advance(60)
        await limited.limits.turn()

    assert idle == 0
    assert plant.database.write_transactions - before == 10


async def test_two_servers_that_watch_the_same_pod_warn_once_and_stop_once(plant: Plant, limited: Limited):
    other = Limited(plant)
    await launch(plant, limited, stop_after_seconds=1200, idle_stop_after_seconds=60_000)
    while plant.running():
        await asyncio.gather(limited.limits.turn(), other.limits.turn())
        await limited.turn()
        await plant.clock.advance(60)

    assert len(await events(plant, "pod.stop_warned")) == 1
    assert len(await events(plant, "pod.stopped")) == 1
    await other.aclose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_use_through_a_server_that_does_not_serve_the_pods_runtime_keeps_it_too(plant: Plant, limited: Limited):
    pod = await launch(plant, limited, idle_stop_after_seconds=600)
    gateway = Limited(plant)
    gateway.limits._world = replace(gateway.limits._world, runtimes=Runtimes())
    await limited.pass_time(2)
    for _ in range(10):
        gateway.traffic.used([pod.id])
        await plant.clock.advance(60)
        await gateway.limits.turn()
        await limited.limits.turn()
        await limited.turn()

    kept = await plant.status(limited)
    why = (await idle_of(plant, limited)).kept_by
    await limited.pass_time(13)

    assert (kept, why) == (Status.RUNNING, (Activity.CONNECTIONS,))
    assert await seen(plant, limited) == (Status.STOPPED, Reason.IDLE)
    await gateway.aclose()
