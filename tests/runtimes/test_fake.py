"""The fake runtime keeps the contract, and does what scripts and faults tell it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from neuropod.ids import InstallationId, PodId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id
from neuropod.kit.secrets import Secret
from neuropod.runtimes.contract import (
    LogQuery,
    Phase,
    Readiness,
    Resources,
    RuntimeUnavailableError,
    Workload,
    WorkloadId,
    WorkloadRejectedError,
)
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.runtimes.fake.world import FakeWorld, Script
from neuropod.words import ReadyWhen, Reason
from runtimes.conformance import PORT, SECRET, Conformance, Kit
from support.clocks import ManualClock


class FakeKit(Kit):
    def __init__(self, world: FakeWorld, installation: str = "npd_one") -> None:
        self.world = world
        self.installation = InstallationId(installation)
        self.runtime = FakeRuntime(self.installation, world)
        self._ending: set[asyncio.Task[None]] = set()

    def scripted(self, script: Script, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        pod = pod or PodId(new_id("pod"))
        self.world.scripts[f"{pod}.{incarnation}"] = script
        return Workload(
            id=WorkloadId(self.installation, pod, incarnation),
            pod_name=f"{pod}.{incarnation}",
            owner=UserId("usr_1"),
            owner_hash="abcdefgh",
            image="plain",
            recipe=None,
            command=None,
            env={"THE_SECRET": Secret(SECRET)},
            resources=Resources(1, 10**9, 10**9),
            volume=None,
            ports=(PORT,),
            readiness=Readiness(ReadyWhen.PROCESS),
        )

    def runs(self, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        return self.scripted(Script(), pod, incarnation)

    def deaf(self) -> Workload:
        return self.scripted(Script(stop_seconds=None))

    def exits(self, code: int, pod: PodId | None = None) -> Workload:
        return self.scripted(Script(exit_seconds=0, exit_code=code), pod)

    def prints(self, lines: int) -> Workload:
        return self.scripted(Script(prints=_numbered(lines), exit_seconds=0))

    def talks(self, lines: int) -> Workload:
        workload = self.scripted(Script(prints=_numbered(lines), line_every_seconds=0.05))
        self._ending.add(asyncio.create_task(self._end_after(workload.id, lines)))
        return workload

    async def _end_after(self, workload_id: WorkloadId, lines: int) -> None:
        """End it when it has printed all, which on a busy machine is later than its script would say."""
        while (standing := self.world.standing.get(workload_id)) is None or len(standing.lines) < lines:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        standing.ended = (self.world.clock.now(), 0, Reason.EXITED)
        self.world.nudge(workload_id.pod)

    async def aclose(self) -> None:
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self.runtime.aclose()

    def serves(self, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        return self.scripted(Script(ready_seconds=0.05), pod, incarnation)

    def slow(self) -> Workload:
        return self.scripted(Script(ready_seconds=0.5))

    def polite(self) -> Workload:
        return self.scripted(Script(stop_seconds=1, stop_code=0))

    def crashes(self) -> Workload:
        return self.scripted(Script(exit_seconds=0, exit_code=139))

    def never_ready(self) -> Workload:
        return self.scripted(Script(ready_seconds=None))

    @asynccontextmanager
    async def of_another_installation(self) -> AsyncIterator[Kit]:
        yield FakeKit(self.world, "npd_two")

    @asynccontextmanager
    async def reopened(self) -> AsyncIterator[Kit]:
        await self.runtime.aclose()
        yield FakeKit(self.world)

    @asynccontextmanager
    async def another_server(self) -> AsyncIterator[Kit]:
        yield FakeKit(self.world)


def _numbered(lines: int) -> tuple[str, ...]:
    return tuple(f"line {number}" for number in range(lines))


@pytest.fixture
async def kit() -> AsyncIterator[FakeKit]:
    world = FakeWorld(SystemClock())
    kit = FakeKit(world)
    await kit.runtime.open()
    yield kit
    await kit.aclose()
    await world.aclose()


class TestFake(Conformance):
    """The rules that every runtime keeps."""


async def phases(kit: FakeKit, clock: ManualClock, workload: Workload, *seconds: float) -> list[Phase]:
    """Return the phases seen after each of the pauses."""
    found = []
    for pause in seconds:
        await clock.advance(pause)
        seen = await kit.runtime.observe(workload.id)
        assert seen is not None
        found.append(seen.phase)
    return found


async def test_a_script_tells_when_what_happens():
    clock = ManualClock()
    kit = FakeKit(FakeWorld(clock))
    script = Script(prepare_seconds=10, ready_seconds=5, exit_seconds=60, exit_code=9)
    workload = kit.scripted(script)
    await kit.runtime.ensure(workload)

    found = await phases(kit, clock, workload, 0, 12, 5, 60)
    seen = await kit.runtime.observe(workload.id)

    assert found == [Phase.PENDING, Phase.PENDING, Phase.READY, Phase.EXITED]
    assert seen is not None
    assert (seen.exit_code, seen.reason) == (9, Reason.CRASHED)
    assert seen.started_at is not None
    assert seen.finished_at is not None
    assert (seen.finished_at - seen.started_at).total_seconds() == 60
    await kit.world.aclose()


@pytest.mark.parametrize("verb", ["stop", "kill"])
async def test_one_that_ended_while_it_was_prepared_has_never_run(verb: str):
    clock = ManualClock()
    kit = FakeKit(FakeWorld(clock))
    workload = kit.scripted(Script(prepare_seconds=10))
    await kit.runtime.ensure(workload)
    if verb == "stop":
        await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
    else:
        await kit.runtime.kill(workload.id, reason=Reason.REQUESTED)

    at_once = await kit.runtime.observe(workload.id)
    await clock.advance(60)

    assert at_once is not None
    assert (at_once.phase, at_once.exit_code, at_once.started_at) == (Phase.EXITED, None, None)
    assert await kit.runtime.observe(workload.id) == at_once
    await kit.world.aclose()


async def test_one_that_ends_by_itself_after_it_was_asked_to_tells_why_it_was_asked():
    clock = ManualClock()
    kit = FakeKit(FakeWorld(clock))
    workload = kit.scripted(Script(exit_seconds=60, exit_code=9, stop_seconds=None))
    await kit.runtime.ensure(workload)
    await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.DEADLINE)

    await clock.advance(61)
    seen = await kit.runtime.observe(workload.id)

    assert seen is not None
    assert (seen.phase, seen.exit_code, seen.reason) == (Phase.EXITED, 9, Reason.DEADLINE)
    await kit.world.aclose()


async def test_a_rejected_workload_is_not_there():
    kit = FakeKit(FakeWorld(ManualClock()))
    workload = kit.scripted(Script(reject="no such image"))

    with pytest.raises(WorkloadRejectedError, match="no such image"):
        await kit.runtime.ensure(workload)

    assert await kit.runtime.observe(workload.id) is None


async def test_a_fault_before_an_effect_has_none_and_one_after_it_loses_the_answer_alone():
    kit = FakeKit(FakeWorld(ManualClock()))
    first, second = kit.runs(), kit.runs()

    async def fails(verb: str) -> None:
        if verb == "ensure":
            raise RuntimeUnavailableError("unplugged")

    kit.world.before = fails
    with pytest.raises(RuntimeUnavailableError):
        await kit.runtime.ensure(first)
    kit.world.before, kit.world.after = None, fails
    with pytest.raises(RuntimeUnavailableError):
        await kit.runtime.ensure(second)
    kit.world.after = None

    assert [one.id for one in await kit.runtime.list_seen()] == [second.id]


async def test_a_hundred_running_pods_cost_next_to_nothing_while_idle(kit: FakeKit):
    for _ in range(100):
        await kit.runtime.ensure(kit.runs())
    watcher = asyncio.create_task(_watch_for_ever(kit))
    await asyncio.sleep(0.1)
    tasks = len(asyncio.all_tasks())

    began, before = time.monotonic(), time.thread_time()  # of this thread: others of the test run may be at work
    await asyncio.sleep(1)
    busy = (time.thread_time() - before) / (time.monotonic() - began)
    watcher.cancel()
    await asyncio.wait([watcher])

    assert tasks <= 3
    assert busy < 0.05


async def _watch_for_ever(kit: FakeKit) -> None:
    async for _ in kit.runtime.watch():
        pass


async def test_a_follower_keeps_up_with_lines_printed_meanwhile(kit: FakeKit):
    workload = kit.runs()
    await kit.runtime.ensure(workload)

    async def follow() -> list[str]:
        return [line.text async for line in kit.runtime.logs(workload.id, LogQuery(follow=True))]

    follower = asyncio.create_task(follow())
    for number in range(1000):
        kit.world.print(workload.id, f"line {number}")
        if number % 10 == 0:
            await asyncio.sleep(0)
    await kit.runtime.kill(workload.id, reason=Reason.REQUESTED)
    read = await asyncio.wait_for(follower, 10)

    assert read == list(_numbered(1000))
