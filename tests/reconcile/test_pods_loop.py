"""The pods loop on the fake runtime: wishes become facts."""

import asyncio

import pytest

from neuropod.db.engine import Database
from neuropod.pods.launch import LaunchRequest
from neuropod.runtimes.contract import RuntimeUnavailableError, Seen, WorkloadId
from neuropod.runtimes.fake.world import Script
from neuropod.words import Reason, Status
from reconcile.plant import Plant, Server


async def test_a_launched_pod_runs(plant: Plant, server: Server):
    pod = await plant.launch(server)

    await server.turn()

    assert await plant.status(server) is Status.RUNNING
    assert plant.running() == [f"{pod.id}.1"]


async def test_a_launch_writes_four_times_at_most(plant: Plant, server: Server):
    before = plant.database.write_transactions

    await plant.launch(server)
    await server.turn()

    assert await plant.status(server) is Status.RUNNING
    assert plant.database.write_transactions - before <= 4


async def test_pods_that_end_together_are_recorded_together(plant: Plant, server: Server):
    names = [f"lab-{number}" for number in range(10)]
    for name in names:
        await plant.launch(server, name)
    await server.turn()
    for name in names:
        await plant.ask(server.pods.stop_pod, name)
    before = plant.database.write_transactions

    await server.turn()

    assert [await plant.status(server, name) for name in names] == [Status.STOPPED] * len(names)
    assert plant.database.write_transactions - before < 2 * len(names)


async def test_while_a_runtime_is_at_work_on_many_the_loop_rests_longer_between_turns(plant: Plant, server: Server):
    plant.world.default_script = Script(prepare_seconds=600)
    alone = (await server.loop.turn()).pause_seconds
    for number in range(20):
        await plant.launch(server, f"lab-{number}")
    await server.turn()

    many = (await server.loop.turn()).pause_seconds
    await plant.clock.advance(31)  # who takes that long is waited for by nobody
    await server.turn()
    late = (await server.loop.turn()).pause_seconds

    assert alone == late < many < 0.5  # seconds


async def test_what_is_launched_while_a_claim_stands_in_line_is_claimed_with_the_rest(sqlite_url: str):
    database = Database(sqlite_url)
    plant = Plant(database)
    await plant.set_up()
    server = Server(plant)
    await server.turn()
    request = LaunchRequest(name="lab-1", image="plain", volume=None)

    await plant.launch(server, "lab-0")
    async with database.write() as session:
        turning = asyncio.create_task(server.loop.turn())
        await asyncio.sleep(0.05)
        await plant.clock.advance(1)
        await server.pods.launch_pod(session, request, actor=plant.actor)
    turn = await turning

    assert turn.report["claimed"] == 2
    await server.aclose()
    await plant.world.aclose()
    await database.aclose()


async def test_what_happens_while_the_loop_looks_whether_there_is_news_is_not_lost(
    plant: Plant, server: Server, monkeypatch: pytest.MonkeyPatch
):
    plant.world.default_script = Script(prepare_seconds=5)
    pod = await plant.launch(server)
    await server.turn()
    before = await plant.status(server)
    observe = server.runtime.observe

    async def observe_slowly(workload_id: WorkloadId) -> Seen | None:
        monkeypatch.undo()
        seen = await observe(workload_id)
        await plant.clock.advance(5)  # it begins to run, and the watch tells so, before the answer is there
        return seen

    plant.world.nudge(pod.id)
    await asyncio.sleep(0)
    monkeypatch.setattr(server.runtime, "observe", observe_slowly)
    await server.loop.turn()
    asked = server.runtime.observe == observe
    await server.turn()

    assert asked
    assert (before, await plant.status(server)) == (Status.STARTING, Status.RUNNING)


async def test_a_stopped_pod_starts_again_as_its_next_incarnation(plant: Plant, server: Server):
    pod = await plant.launch(server)
    await server.turn()

    await plant.ask(server.pods.stop_pod, "lab")
    await server.turn()
    stopped = await plant.status(server)
    await plant.ask(server.pods.start_pod, "lab")
    await server.turn()

    assert stopped is Status.STOPPED
    assert await plant.status(server) is Status.RUNNING
    assert plant.running() == [f"{pod.id}.2"]


async def test_a_restarted_pod_is_stopped_first(plant: Plant, server: Server):
    pod = await plant.launch(server)
    await server.turn()

    await plant.ask(server.pods.restart_pod, "lab")
    await server.turn()

    assert plant.running() == [f"{pod.id}.2"]


async def test_nothing_of_a_deleted_pod_is_left_and_its_name_is_free(plant: Plant, server: Server):
    first = await plant.launch(server)
    await server.turn()

    await plant.ask(server.pods.delete_pod, "lab")
    await server.turn()
    second = await plant.launch(server)

    assert plant.running() == []
    assert plant.world.kept_lines == {}
    assert second.id != first.id


async def test_what_ignores_sigterm_is_killed_after_its_grace(plant: Plant, server: Server):
    plant.world.default_script = Script(stop_seconds=None)
    await plant.launch(server)
    await server.turn()
    await plant.ask(server.pods.stop_pod, "lab")
    await server.turn()
    within_grace = await plant.status(server)

    await plant.clock.advance(plant.settings.reconcile.stop_grace_seconds)
    await server.turn()

    assert within_grace is Status.STOPPING
    assert await plant.status(server) is Status.STOPPED
    assert plant.running() == []


async def test_a_crash_starts_again_with_a_growing_wait_and_ends_as_failed(plant: Plant, server: Server):
    plant.world.default_script = Script(exit_seconds=1, exit_code=3)
    pod = await plant.launch(server)
    await server.turn()

    waits = []
    for _ in range(20):
        await plant.clock.advance(1)
        await server.turn()
        shown = (await plant.show(server)).shown
        if shown.status is Status.FAILED:
            break
        waited = 0
        while not plant.running():
            await plant.clock.advance(1)
            waited += 1
            await server.turn()
        waits.append(waited)

    assert waits == [5, 10, 20, 40, 80]
    assert shown.reason is Reason.CRASHED_TOO_OFTEN
    assert plant.world.highest[pod.id] == 6


async def test_exit_zero_is_an_end(plant: Plant, server: Server):
    plant.world.default_script = Script(exit_seconds=1)
    await plant.launch(server)
    await server.turn()

    await plant.clock.advance(600)
    await server.turn()

    assert await plant.status(server) is Status.FINISHED
    assert plant.running() == []


async def test_what_the_runtime_rejects_is_not_tried_again(plant: Plant, server: Server):
    plant.world.default_script = Script(reject="no such image")
    await plant.launch(server)

    await server.turn()
    await plant.clock.advance(3600)
    await server.turn()

    shown = (await plant.show(server)).shown
    assert (shown.status, shown.reason) == (Status.FAILED, Reason.REJECTED)
    assert "no such image" in shown.message


async def test_a_pod_that_vanished_is_lost_and_started_again(plant: Plant, server: Server):
    pod = await plant.launch(server)
    await server.turn()
    plant.world.standing.clear()

    plant.world.nudge(pod.id)
    await server.resync.turn()
    await server.turn()
    await plant.clock.advance(10)
    await server.turn()

    assert plant.running() == [f"{pod.id}.2"]


async def test_while_the_runtime_gives_no_answer_the_facts_stay_and_nothing_is_lost(plant: Plant, server: Server):
    pod = await plant.launch(server)
    await server.turn()

    async def away(verb: str) -> None:
        raise RuntimeUnavailableError("unplugged")

    plant.world.before = away
    await server.resync.turn()
    await plant.ask(server.pods.stop_pod, "lab")
    await server.turn()
    unreachable = await plant.status(server)
    plant.world.before = None
    await plant.clock.advance(120)
    await server.turn()

    assert unreachable is Status.UNREACHABLE
    assert await plant.status(server) is Status.STOPPED
    assert plant.world.highest[pod.id] == 1


async def test_a_pod_that_takes_too_long_to_be_ready_is_stopped(plant: Plant, server: Server):
    plant.world.default_script = Script(ready_seconds=None)
    await plant.launch(server)
    await server.turn()

    for _ in range(30):
        await plant.clock.advance(30)
        await server.turn()

    shown = (await plant.show(server)).shown
    assert (shown.status, shown.reason) == (Status.FAILED, Reason.START_TIMEOUT)


async def test_a_server_that_was_down_for_an_hour_kills_nothing_that_waits_for_ready(plant: Plant, server: Server):
    plant.world.default_script = Script(ready_seconds=3700)
    pod = await plant.launch(server)
    await server.turn()

    await plant.clock.advance(3600)
    again = Server(plant)
    await again.resync.turn()
    await again.turn()
    await plant.clock.advance(120)
    await again.turn()

    assert await plant.status(server) is Status.RUNNING
    assert plant.running() == [f"{pod.id}.1"]
    await again.aclose()


async def test_pods_wait_in_order_and_start_when_there_is_room(plant: Plant, server: Server):
    plant.world.capacity = type(plant.world.capacity)(2, 10**15, 10**16)
    for name in ("a", "b", "c"):
        await plant.launch(server, name)
        await plant.clock.advance(1)
        await server.turn()
    first = [await plant.status(server, name) for name in ("a", "b", "c")]
    places = [(await plant.show(server, name)).shown.place for name in ("b", "c")]

    await plant.ask(server.pods.delete_pod, "a")
    await server.turn()

    assert first == [Status.RUNNING, Status.WAITING, Status.WAITING]
    assert places == [1, 2]
    assert [await plant.status(server, name) for name in ("b", "c")] == [Status.RUNNING, Status.WAITING]


async def test_one_bad_row_stops_nothing(plant: Plant, server: Server):
    bad = await plant.launch(server, "bad")
    good = await plant.launch(server, "good")

    async def breaks(verb: str) -> None:
        if verb == "ensure" and not plant.running():
            raise ZeroDivisionError("a defect")

    plant.world.before = breaks
    await server.turn()
    plant.world.before = None

    await plant.clock.advance(60)
    await server.turn()

    assert plant.running() == sorted([f"{bad.id}.1", f"{good.id}.1"])
