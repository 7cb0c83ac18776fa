"""The driver turns loops by nudge and period, tells how they are, lets none die unseen, and ends in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from neuropod.db.engine import Database, Topic
from neuropod.kit.clock import Clock, SystemClock
from neuropod.kit.errors import NoSpaceError
from neuropod.kit.tasks import FailureHook
from neuropod.kit.wakeups import Wakeup
from neuropod.observability.health import Board, PartHealth
from neuropod.observability.metrics import Metrics
from neuropod.reconcile.driver import Driver, Turn
from support.clocks import ManualClock


class Counting:
    """A loop that counts its turns."""

    topics = frozenset({Topic.PODS})

    def __init__(self, name: str = "counting", again_in_seconds: float = 3600) -> None:
        self.name = name
        self.wakeup = Wakeup()
        self.turns = 0
        self.closed = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self._again_in_seconds = again_in_seconds

    async def turn(self) -> Turn:
        self.turns += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Turn(self._again_in_seconds, {"turns": self.turns}, ok=self.turns != 2, message=f"turn {self.turns}")

    async def aclose(self) -> None:
        self.closed += 1


class Rig:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock: Clock = SystemClock()
        self.board = Board(SystemClock())
        self.metrics = Metrics()
        self.failures = FailureHook()
        self.drivers: list[Driver] = []

    def start(self, *loops: Counting) -> Driver:
        driver = Driver(
            loops,
            database=self.database,
            board=self.board,
            metrics=self.metrics,
            clock=self.clock,
            on_failure=self.failures,
        )
        self.drivers.append(driver)
        driver.start()
        return driver

    def health(self, name: str = "counting") -> PartHealth:
        return next(part for part in self.board.parts() if part.name == name)


@pytest.fixture
async def rig(sqlite_url: str) -> AsyncIterator[Rig]:
    rig = Rig(Database(sqlite_url))
    yield rig
    for driver in rig.drivers:
        await driver.aclose()
    await rig.database.aclose()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_loop_turns_at_start_and_by_commits_of_its_topic_alone(rig: Rig):
    loop = Counting()
    rig.start(loop)
    await until(lambda: loop.turns == 1)

    async with rig.database.write() as session:
        session.nudge(Topic.ROUTES)
    async with rig.database.write() as session:
        session.nudge(Topic.PODS)
    await until(lambda: rig.health().message == "turn 2")

    assert loop.turns == 2
    assert rig.health().details["cause"] == "nudge"


async def test_a_loop_turns_again_when_it_asked_to(rig: Rig):
    loop = Counting(again_in_seconds=0.01)
    rig.start(loop)

    await until(lambda: loop.turns >= 3)

    assert rig.health().details["cause"] == "period"


async def test_a_nudge_during_a_turn_is_not_lost(rig: Rig):
    loop = Counting()
    loop.gate.clear()
    rig.start(loop)
    await until(lambda: loop.turns == 1)

    loop.wakeup.nudge()
    loop.gate.set()

    await until(lambda: loop.turns == 2)


async def test_the_board_and_the_metrics_hear_of_every_turn(rig: Rig):
    loop = Counting()
    loop.gate.clear()
    rig.start(loop)
    await until(lambda: loop.turns == 1)
    before = rig.health()
    loop.gate.set()
    await until(lambda: rig.health().ok)
    first = rig.health()
    loop.wakeup.nudge()
    await until(lambda: not rig.health().ok)

    assert not before.ok
    assert first.details["turns"] == 1
    assert rig.health().message == "turn 2"
    assert b'neuropod_loop_turn_seconds_count{loop="counting"} 2.0' in rig.metrics.render()


async def test_a_loop_that_dies_is_told_and_takes_no_other_with_it(rig: Rig):
    dying, living = Counting("dying"), Counting("living")
    dying.error = ZeroDivisionError("a defect")
    rig.start(dying, living)

    name, error = await asyncio.wait_for(rig.failures.wait(), 10)
    living.wakeup.nudge()
    await until(lambda: living.turns == 2)

    assert name == "loop dying"
    assert isinstance(error, ZeroDivisionError)


async def test_closing_lets_the_turn_finish_and_begins_no_other(rig: Rig):
    loop = Counting()
    loop.gate.clear()
    driver = rig.start(loop)
    await until(lambda: loop.turns == 1)

    closing = asyncio.create_task(driver.aclose())
    await asyncio.sleep(0.05)
    closed_meanwhile = loop.closed
    loop.gate.set()
    await asyncio.wait_for(closing, 4)

    assert closed_meanwhile == 0
    assert (loop.turns, loop.closed) == (1, 1)
    assert rig.health().message == "turn 1"
    assert rig.failures.first is None


async def test_a_loop_that_meets_a_full_disk_says_so_and_goes_on_when_there_is_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("neuropod.reconcile.driver._FULL_DISK_SECONDS", 0.01)
    loop = Counting()
    loop.error = NoSpaceError("the disk is full")
    rig.start(loop)
    await until(lambda: loop.turns >= 2)
    full = rig.health()

    loop.error = None
    await until(lambda: rig.health().ok)

    assert (full.ok, full.message) == (False, "the disk is full")
    assert rig.failures.first is None


async def test_nudges_during_a_pause_become_one_turn(rig: Rig):
    class Pausing(Counting):
        async def turn(self) -> Turn:
            return replace(await super().turn(), pause_seconds=0.5)

    rig.clock = clock = ManualClock()  # a pause of real time might be over before all nudges have come
    loop = Pausing()
    rig.start(loop)
    await until(lambda: rig.health().message == "turn 1")

    for _ in range(20):
        loop.wakeup.nudge()
        await asyncio.sleep(0)
    await clock.advance(0.4)
    during_the_pause = loop.turns
    await clock.advance(0.2)
    await until(lambda: rig.health().message == "turn 2")
    await clock.advance(1)

    assert during_the_pause == 1
