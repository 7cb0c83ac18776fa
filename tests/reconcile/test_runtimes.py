"""Runtimes that cannot be opened when the server starts: tried again, and then served as if they had been there."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from neuropod.db.engine import Topic
from neuropod.db.events import EventRow
from neuropod.db.runtimes import runtime_names
from neuropod.ids import RuntimeId
from neuropod.kit.tasks import FailureHook
from neuropod.observability.metrics import Metrics
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.records import PodRow
from neuropod.pods.service import Pods
from neuropod.reconcile.pods import PodsLoop
from neuropod.reconcile.presence import PresenceLoop
from neuropod.reconcile.resync import ResyncLoop
from neuropod.reconcile.runtimes import RuntimesLoop
from neuropod.reconcile.world import World
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.runtimes.opened import PlannedRuntime, Runtimes
from neuropod.words import Status
from reconcile.plant import INSTALLATION, Plant

HERE, FAR = RuntimeId("fake:one"), RuntimeId("fake:far")


class FarServer:
    """A server whose second runtime may be away when it starts."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.away = False
        self.tries = 0
        outer = self

        class Far(FakeRuntime):
            async def open(self) -> None:
                outer.tries += 1
                if outer.away:
                    raise RuntimeUnavailableError("the cluster gives no answer")

        self.runtimes = Runtimes([
            PlannedRuntime("here", lambda: FakeRuntime(INSTALLATION, plant.world)),
            PlannedRuntime("far", lambda: Far(INSTALLATION, plant.world, "far")),
        ])  # fmt: skip
        self.pods = Pods(plant.settings, plant.box, plant.clock, self.runtimes, INSTALLATION)
        world = World(
            settings=plant.settings.reconcile,
            database=plant.database,
            pods=self.pods,
            accounts=plant.accounts,
            runtimes=self.runtimes,
            metrics=Metrics(),
            clock=plant.clock,
            sweeping_allowed=True,
        )
        self.failures = FailureHook()
        self.loop = PodsLoop(world, self.failures)
        self.resync = ResyncLoop(world)
        self.presence = PresenceLoop(world, self.pods.presence, "srv_here")
        self.opening = RuntimesLoop(world)
        self.told: set[Topic] = set()
        plant.database.listen(self.told.update)

    async def turn(self) -> None:
        while True:
            turn = await self.loop.turn()
            for task in list(self.loop._busy.values()):
                await task
            if not self.loop._busy and turn.report.get("claimed", 0) == 0:
                return

    async def aclose(self) -> None:
        await self.loop.aclose()


@pytest.fixture
async def server(plant: Plant) -> AsyncIterator[FarServer]:
    server = FarServer(plant)
    yield server
    await server.aclose()


async def _move_there(plant: Plant, server: FarServer) -> None:
    """Launch a pod, and let it belong to the runtime that is away."""
    await plant.ask(server.pods.launch_pod, LaunchRequest(name="lab", image="plain", volume=None))
    async with plant.database.write() as session:
        row = (await server.pods.show_pod(session, "lab", actor=plant.actor)).pod
        await session.execute(update(PodRow).where(PodRow.id == row.id).values(runtime_id=FAR))


async def test_a_runtime_that_comes_later_is_served_without_a_restart(plant: Plant, server: FarServer):
    server.away = True
    await server.runtimes.open_missing()
    await _move_there(plant, server)
    await server.turn()

    assert await plant.status(server) is Status.UNREACHABLE
    waits = await server.opening.turn()
    assert "far cannot be opened: the cluster gives no answer" in waits.message
    assert waits.ok  # the server is as ready as it can be

    server.away = False
    await plant.clock.advance(waits.again_in_seconds)
    server.told.clear()
    turn = await server.opening.turn()
    assert (turn.report, turn.message) == ({"open": 2, "missing": 0}, "")
    assert {Topic.RUNTIMES, Topic.PODS, Topic.ROUTES} <= server.told
    async with plant.database.read() as session:
        assert (await runtime_names(session))[FAR] == "far"

    await server.presence.turn()
    await server.turn()
    assert await plant.status(server) is Status.RUNNING


async def test_its_nudges_are_heard_from_then_on(plant: Plant, server: FarServer):
    server.away = True
    await server.runtimes.open_missing()
    await server.turn()
    assert server.loop._watched == {HERE}

    server.away = False
    await server.runtimes.open_missing()
    await server.turn()

    assert server.loop._watched == {HERE, FAR}
    assert server.failures.first is None


async def test_tries_come_rarer_and_rarer(plant: Plant, server: FarServer):
    server.away = True
    await server.runtimes.open_missing()
    waits = []
    for _ in range(8):
        turn = await server.opening.turn()
        waits.append(turn.again_in_seconds)
        await plant.clock.advance(turn.again_in_seconds)

    assert server.tries == 8  # once at the start, and at each turn but the first
    assert waits[0] <= 2
    assert all(30 <= wait <= 60 for wait in waits[6:])


async def test_a_turn_before_its_time_tries_nothing(plant: Plant, server: FarServer):
    server.away = True
    await server.runtimes.open_missing()
    await server.opening.turn()
    await server.opening.turn()

    assert server.tries == 1


async def test_the_first_comparison_of_a_runtime_makes_all_its_pods_due(plant: Plant, server: FarServer):
    server.away = True
    await server.runtimes.open_missing()
    await server.resync.turn()
    await _move_there(plant, server)
    async with plant.database.write() as session:
        row = (await server.pods.show_pod(session, "lab", actor=plant.actor)).pod
        await session.execute(update(PodRow).where(PodRow.id == row.id).values(due_at=None))

    server.away = False
    await server.runtimes.open_missing()
    await server.resync.turn()

    async with plant.database.read() as session:
        assert (await server.pods.show_pod(session, "lab", actor=plant.actor)).pod.due_at is not None


async def test_owners_hear_that_it_is_back(plant: Plant, server: FarServer):
    server.away = True
    await server.runtimes.open_missing()
    await server.presence.turn()
    await _move_there(plant, server)
    await server.opening.turn()

    server.away = False
    await plant.clock.advance(60)
    await server.opening.turn()
    await server.presence.turn()

    async with plant.database.read() as session:
        told = (await session.scalars(select(EventRow.message).order_by(EventRow.id))).all()
    assert len([message for message in told if "connected to its machine or cluster again" in message]) == 1
