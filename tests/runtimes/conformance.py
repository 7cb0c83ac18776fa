"""What every runtime must do: the rules of runtimes/contract.py, as tests over a kit that each runtime's tests bring.

A module of tests derives a class `Test…` from `Conformance` and gives a fixture `kit`. Nothing here assumes a clock of
its own: what takes time is waited for, with a deadline.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Self

import pytest

from neuropod.ids import PodId
from neuropod.runtimes.contract import (
    LogLine,
    LogQuery,
    NotReadyError,
    Phase,
    Runtime,
    Seen,
    Workload,
    WorkloadId,
    WorkloadRejectedError,
)
from neuropod.words import Reason

SECRET = "conformance-secret-5d41402abc4b2a76"
PORT = 8888


class Kit(ABC):
    """What a runtime's tests bring. Every workload is of the incarnation and pod given, a new pod by default.

    Workloads are ready as soon as their process runs, those that serve when they answer. Each has SECRET in its
    environment under the name THE_SECRET. At the end of a test the kit's fixture removes whatever stands.
    """

    runtime: Runtime
    patience_seconds = 60.0

    @abstractmethod
    def runs(self, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        """Return one that runs until it gets SIGTERM, which ends it."""

    @abstractmethod
    def deaf(self) -> Workload:
        """Return one that ignores SIGTERM."""

    @abstractmethod
    def exits(self, code: int, pod: PodId | None = None) -> Workload:
        """Return one that ends by itself at once."""

    @abstractmethod
    def prints(self, lines: int) -> Workload:
        """Return one that prints `line 0`, `line 1`, … as fast as it can, then ends with code 0."""

    @abstractmethod
    def talks(self, lines: int) -> Workload:
        """Return one that prints `line 0`, `line 1`, … with pauses of about 0.2 s, then ends with code 0."""

    @abstractmethod
    def serves(self) -> Workload:
        """Return one that is ready when its PORT speaks HTTP: it answers a GET with 200."""

    @abstractmethod
    def never_ready(self) -> Workload:
        """Return one whose process runs and whose ready port stays shut, until SIGTERM."""

    @abstractmethod
    def of_another_installation(self) -> AbstractAsyncContextManager["Kit"]:
        """Open a kit of another installation in the same world."""

    @abstractmethod
    def reopened(self) -> AbstractAsyncContextManager["Kit"]:
        """Close this runtime and open another on the same world, as the next server does; the old one is done with."""


async def until(kit: Kit, workload_id: WorkloadId, *phases: Phase) -> Seen:
    """Wait until the workload is seen in one of the phases."""
    deadline = time.monotonic() + kit.patience_seconds
    seen = None
    while time.monotonic() < deadline:
        seen = await kit.runtime.observe(workload_id)
        if seen is not None and seen.id == workload_id and seen.phase in phases:
            return seen
        await asyncio.sleep(0.02)
    raise AssertionError(f"waited {kit.patience_seconds:.0f} s for {phases}, last seen: {seen}")


async def started(kit: Kit, workload: Workload) -> Seen:
    await kit.runtime.ensure(workload)
    return await until(kit, workload.id, Phase.READY)


async def ended(kit: Kit, workload: Workload) -> Seen:
    await kit.runtime.ensure(workload)
    return await until(kit, workload.id, Phase.EXITED)


async def lines_of(kit: Kit, workload_id: WorkloadId, query: LogQuery) -> list[LogLine]:
    async with asyncio.timeout(kit.patience_seconds):
        return [line async for line in kit.runtime.logs(workload_id, query)]


async def get(kit: Kit, workload_id: WorkloadId, port: int = PORT) -> bytes:
    """Ask for `/` through the runtime's own connection and return the status line."""
    connection = await kit.runtime.connect(workload_id, port)
    reader = asyncio.StreamReader()
    transport = await connection.attach(asyncio.StreamReaderProtocol(reader))
    transport.write(b"GET / HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n")
    async with asyncio.timeout(kit.patience_seconds):
        line = await reader.readline()
    transport.close()
    return line


def sibling(workload: Workload, incarnation: int) -> WorkloadId:
    return WorkloadId(workload.id.installation, workload.id.pod, incarnation)


class Conformance:
    """The rules, by their numbers in the contract."""

    # ---- 1: every verb may be repeated

    async def test_ensure_again_changes_nothing(self, kit: Kit):
        workload = kit.runs()
        first = await started(kit, workload)

        await kit.runtime.ensure(workload)
        again = await kit.runtime.observe(workload.id)

        assert again == first
        assert [one.id for one in await kit.runtime.list_seen()] == [workload.id]

    async def test_ensure_of_one_that_has_ended_does_not_start_it_anew(self, kit: Kit):
        workload = kit.exits(0)
        first = await ended(kit, workload)

        await kit.runtime.ensure(workload)

        assert await kit.runtime.observe(workload.id) == first

    async def test_two_at_once_that_ensure_the_same_make_one(self, kit: Kit):
        workload = kit.runs()

        await asyncio.gather(kit.runtime.ensure(workload), kit.runtime.ensure(workload))
        await until(kit, workload.id, Phase.READY)

        assert [one.id for one in await kit.runtime.list_seen()] == [workload.id]

    async def test_stop_kill_remove_and_forget_again_change_nothing(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        for _ in range(2):
            await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
        seen = await until(kit, workload.id, Phase.EXITED)
        for _ in range(2):
            await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.DEADLINE)
            await kit.runtime.kill(workload.id, reason=Reason.DEADLINE)
        unchanged = await kit.runtime.observe(workload.id)
        for _ in range(2):
            await kit.runtime.remove(workload.id)
        for _ in range(2):
            await kit.runtime.forget(workload.id)

        assert unchanged == seen
        assert await kit.runtime.observe(workload.id) is None

    async def test_verbs_about_nothing_are_harmless(self, kit: Kit):
        nothing = kit.runs().id

        await kit.runtime.stop(nothing, grace_seconds=30, reason=Reason.REQUESTED)
        await kit.runtime.kill(nothing, reason=Reason.REQUESTED)
        await kit.runtime.remove(nothing)
        await kit.runtime.forget(nothing)

        assert await kit.runtime.observe(nothing) is None

    # ---- 2: no verb waits for an end state

    async def test_stop_returns_while_the_workload_goes_on(self, kit: Kit):
        workload = kit.deaf()
        await started(kit, workload)

        await asyncio.wait_for(kit.runtime.stop(workload.id, grace_seconds=3600, reason=Reason.REQUESTED), 15)
        stopping = await until(kit, workload.id, Phase.STOPPING)
        await kit.runtime.kill(workload.id, reason=Reason.REQUESTED)
        seen = await until(kit, workload.id, Phase.EXITED)

        assert stopping.stopping_at is not None
        assert seen.exit_code == 137
        assert seen.identity == stopping.identity

    async def test_ensure_returns_before_the_workload_is_ready(self, kit: Kit):
        workload = kit.never_ready()

        await asyncio.wait_for(kit.runtime.ensure(workload), 15)

        assert (await until(kit, workload.id, Phase.PENDING)).ready_at is None

    # ---- 3: observe answers from the outside world

    async def test_what_never_was_is_none(self, kit: Kit):
        assert await kit.runtime.observe(kit.runs().id) is None
        assert list(await kit.runtime.list_seen()) == []

    async def test_observe_and_the_list_tell_the_same(self, kit: Kit):
        workloads = [kit.runs(), kit.runs(), kit.exits(3)]
        for workload in workloads:
            await kit.runtime.ensure(workload)
            await until(kit, workload.id, Phase.READY, Phase.EXITED)
        await until(kit, workloads[-1].id, Phase.EXITED)

        listed = {one.id: one for one in await kit.runtime.list_seen()}

        assert listed == {workload.id: await kit.runtime.observe(workload.id) for workload in workloads}

    async def test_workloads_run_on_while_no_server_does(self, kit: Kit):
        workload = kit.serves()
        before = await started(kit, workload)

        async with kit.reopened() as later:
            seen = await later.runtime.observe(workload.id)

            assert seen == before
            assert (await get(later, workload.id)).startswith(b"HTTP/1.")

    # ---- 4: a verb for an incarnation never touches another one

    @pytest.mark.parametrize("incarnation", [1, 3])
    async def test_verbs_for_another_incarnation_do_not_touch_this_one(self, kit: Kit, incarnation: int):
        workload = kit.runs(incarnation=2)
        before = await started(kit, workload)
        other = sibling(workload, incarnation)

        await kit.runtime.stop(other, grace_seconds=1, reason=Reason.REQUESTED)
        await kit.runtime.kill(other, reason=Reason.REQUESTED)
        await kit.runtime.remove(other)
        await asyncio.sleep(0.2)  # what should not happen has no sign to wait for

        assert await kit.runtime.observe(workload.id) == before

    # ---- 5: one place

    async def test_another_incarnation_is_refused_while_one_stands(self, kit: Kit):
        first = kit.runs()
        second = kit.runs(first.id.pod, 2)
        await started(kit, first)

        with pytest.raises(WorkloadRejectedError) as while_it_runs:
            await kit.runtime.ensure(second)
        await kit.runtime.kill(first.id, reason=Reason.REQUESTED)
        await until(kit, first.id, Phase.EXITED)
        with pytest.raises(WorkloadRejectedError) as while_it_is_left:
            await kit.runtime.ensure(second)
        in_its_place = await kit.runtime.observe(second.id)
        await kit.runtime.remove(first.id)
        await started(kit, second)

        assert while_it_runs.value.reason is Reason.PLACE_OCCUPIED
        assert while_it_is_left.value.reason is Reason.PLACE_OCCUPIED
        assert in_its_place is not None
        assert in_its_place.id == first.id

    async def test_two_incarnations_are_two_objects(self, kit: Kit):
        first = kit.exits(0)
        one = await ended(kit, first)
        await kit.runtime.remove(first.id)

        two = await started(kit, kit.runs(first.id.pod, 2))

        assert one.identity
        assert two.identity
        assert one.identity != two.identity

    # ---- 6: installations do not see each other

    async def test_what_carries_another_installation_is_neither_seen_nor_touched(self, kit: Kit):
        workload = kit.runs()
        before = await started(kit, workload)

        async with kit.of_another_installation() as other:
            theirs = WorkloadId(other.runs().id.installation, workload.id.pod, workload.id.incarnation)
            observed = await other.runtime.observe(theirs)
            listed = [one.id for one in await other.runtime.list_seen()]
            await other.runtime.stop(theirs, grace_seconds=1, reason=Reason.REQUESTED)
            await other.runtime.kill(theirs, reason=Reason.REQUESTED)
            await other.runtime.remove(theirs)
            await asyncio.sleep(0.2)  # what should not happen has no sign to wait for

        assert observed is None
        assert listed == []
        assert await kit.runtime.observe(workload.id) == before

    # ---- 7: the end can be read

    @pytest.mark.parametrize(("code", "reason"), [(0, Reason.EXITED), (3, Reason.CRASHED)])
    async def test_an_own_end_is_told_with_its_code_and_times(self, kit: Kit, code: int, reason: Reason):
        seen = await ended(kit, kit.exits(code))

        assert (seen.exit_code, seen.reason) == (code, reason)
        assert seen.started_at is not None
        assert seen.finished_at is not None
        assert seen.started_at <= seen.finished_at

    @pytest.mark.parametrize(("verb", "code"), [("stop", 143), ("kill", 137)])
    async def test_an_end_by_us_is_told_with_our_reason(self, kit: Kit, verb: str, code: int):
        workload = kit.runs()
        ready = await started(kit, workload)

        if verb == "stop":
            await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.SERVER_DOWN)
        else:
            await kit.runtime.kill(workload.id, reason=Reason.SERVER_DOWN)
        seen = await until(kit, workload.id, Phase.EXITED)

        assert (seen.exit_code, seen.reason) == (code, Reason.SERVER_DOWN)
        assert (seen.identity, seen.started_at, seen.ready_at) == (ready.identity, ready.started_at, ready.ready_at)
        assert seen.started_at is not None
        assert seen.ready_at is not None
        assert seen.finished_at is not None
        assert seen.started_at <= seen.ready_at <= seen.finished_at

    async def test_a_pending_one_ends_by_stop(self, kit: Kit):
        workload = kit.never_ready()
        await kit.runtime.ensure(workload)
        await until(kit, workload.id, Phase.PENDING)

        await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.START_TIMEOUT)
        seen = await until(kit, workload.id, Phase.EXITED)

        assert seen.reason is Reason.START_TIMEOUT
        assert seen.ready_at is None

    async def test_one_stopped_right_after_it_was_asked_for_ends(self, kit: Kit):
        workload = kit.runs()

        await kit.runtime.ensure(workload)
        await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
        seen = await until(kit, workload.id, Phase.EXITED)

        assert seen.reason is Reason.REQUESTED

    async def test_one_that_runs_is_not_removed(self, kit: Kit):
        workload = kit.runs()
        before = await started(kit, workload)

        await kit.runtime.remove(workload.id)

        assert await kit.runtime.observe(workload.id) == before

    async def test_the_log_outlives_the_incarnation_until_the_pod_is_forgotten(self, kit: Kit):
        workload = kit.prints(3)
        await ended(kit, workload)

        before = [line.text for line in await lines_of(kit, workload.id, LogQuery())]
        await kit.runtime.remove(workload.id)
        after = [line.text for line in await lines_of(kit, workload.id, LogQuery())]
        await kit.runtime.forget(sibling(workload, 0))

        assert before == after == ["line 0", "line 1", "line 2"]
        assert await lines_of(kit, workload.id, LogQuery()) == []

    # ---- 8: secrets

    async def test_secrets_are_in_no_answer_and_no_log(self, kit: Kit):
        workload = kit.prints(3)

        seen = await ended(kit, workload)

        assert SECRET in {secret.reveal() for secret in workload.env.values()}
        told = [repr(workload), repr(seen), repr(await lines_of(kit, workload.id, LogQuery()))]
        assert not any(SECRET in text for text in told)

    # ---- logs

    async def test_a_follower_of_fifty_thousand_lines_loses_none(self, kit: Kit):
        workload = kit.prints(50_000)
        await kit.runtime.ensure(workload)

        lines = await lines_of(kit, workload.id, LogQuery(follow=True))

        assert [line.text for line in lines] == [f"line {number}" for number in range(50_000)]
        assert _positions_are_right(lines)

    async def test_a_follower_gets_lines_as_they_come_and_ends_with_the_workload(self, kit: Kit):
        workload = kit.talks(4)
        await kit.runtime.ensure(workload)

        texts, phases = [], []
        async with asyncio.timeout(kit.patience_seconds):
            async for line in kit.runtime.logs(workload.id, LogQuery(follow=True)):
                texts.append(line.text)
                seen = await kit.runtime.observe(workload.id)
                phases.append(seen.phase if seen is not None else None)

        assert texts == [f"line {number}" for number in range(4)]
        assert phases[0] in {Phase.PENDING, Phase.READY}
        await until(kit, workload.id, Phase.EXITED)

    async def test_a_follower_that_leaves_may_come_again_where_it_was(self, kit: Kit):
        workload = kit.talks(5)
        await kit.runtime.ensure(workload)

        read: list[LogLine] = []
        async with asyncio.timeout(kit.patience_seconds):
            lines = kit.runtime.logs(workload.id, LogQuery(follow=True))
            async with aclosing(lines):  # type: ignore[type-var]
                async for line in lines:
                    read.append(line)
                    if len(read) == 2:
                        break
        read += await lines_of(kit, workload.id, LogQuery(follow=True, since=read[-1].position))

        assert [line.text for line in read] == [f"line {number}" for number in range(5)]

    @pytest.mark.parametrize("tail", [0, 1, 7, 100, 1000])
    async def test_the_tail_is_the_last_lines(self, kit: Kit, tail: int):
        workload = kit.prints(100)
        await ended(kit, workload)
        whole = await lines_of(kit, workload.id, LogQuery())

        lines = await lines_of(kit, workload.id, LogQuery(tail=tail))

        assert _positions_are_right(whole)
        assert lines == whole[max(0, len(whole) - tail) :]

    async def test_since_begins_after_a_position(self, kit: Kit):
        workload = kit.prints(100)
        await ended(kit, workload)
        whole = await lines_of(kit, workload.id, LogQuery())

        assert await lines_of(kit, workload.id, LogQuery(since=whole[41].position)) == whole[42:]
        assert await lines_of(kit, workload.id, LogQuery(since=whole[-1].position)) == []
        assert await lines_of(kit, workload.id, LogQuery(since=whole[41].position, tail=3)) == whole[-3:]

    async def test_the_log_of_nothing_is_empty_and_ends(self, kit: Kit):
        nothing = kit.runs().id

        assert await lines_of(kit, nothing, LogQuery()) == []
        assert await lines_of(kit, nothing, LogQuery(follow=True)) == []

    # ---- connect

    async def test_a_port_is_reached_by_several_at_once(self, kit: Kit):
        workload = kit.serves()
        await started(kit, workload)

        answers = await asyncio.gather(*(get(kit, workload.id) for _ in range(5)))

        assert all(answer.split(b" ")[1] == b"200" for answer in answers)

    async def test_a_port_where_nothing_listens_is_not_ready_at_once(self, kit: Kit):
        workload = kit.serves()
        await started(kit, workload)

        async with asyncio.timeout(5):
            with pytest.raises(NotReadyError):
                await kit.runtime.connect(workload.id, 9)

    async def test_a_port_of_another_incarnation_or_of_an_ended_one_is_not_reached(self, kit: Kit):
        workload = kit.serves()
        await started(kit, workload)

        with pytest.raises(NotReadyError):
            await kit.runtime.connect(sibling(workload, 2), PORT)
        await kit.runtime.kill(workload.id, reason=Reason.REQUESTED)
        await until(kit, workload.id, Phase.EXITED)
        with pytest.raises(NotReadyError):
            await kit.runtime.connect(workload.id, PORT)
        with pytest.raises(NotReadyError):
            await kit.runtime.connect(kit.runs().id, PORT)

    # ---- watch

    async def test_changes_are_nudged_to_every_watcher(self, kit: Kit):
        workload = kit.runs()
        async with _Watcher(kit) as first, _Watcher(kit) as second:
            await kit.runtime.ensure(workload)
            at_start = await _each(kit, (first, second), workload.id, Phase.READY)
            await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
            at_end = await _each(kit, (first, second), workload.id, Phase.EXITED)

        assert at_start == at_end == [True, True]

    # ---- itself

    async def test_it_tells_what_it_is(self, kit: Kit):
        capacity = await kit.runtime.capacity()
        report = await kit.runtime.report()

        world, _, name = kit.runtime.id.partition(":")
        assert world
        assert name
        assert capacity.cpu_cores > 0
        assert capacity.memory_bytes > 0
        assert report.mode
        assert kit.runtime.capabilities


def _positions_are_right(lines: Sequence[LogLine]) -> bool:
    """Each line begins where the one before it and its newline ended."""
    position = 0
    for line in lines:
        if line.position != position:
            return False
        position += len(line.text.encode()) + 1
    return True


class _Watcher:
    """Follows `watch` in the background and keeps which pods were nudged."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.nudged = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.05)  # the first step of a generator has no sign of its own
        return self

    async def _watch(self) -> None:
        async for _ in self._kit.runtime.watch():
            self.nudged.set()

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])


async def _each(kit: Kit, watchers: Sequence[_Watcher], workload_id: WorkloadId, phase: Phase) -> list[bool]:
    """Tell for each watcher whether looking only when nudged is enough to see the phase."""
    return await asyncio.gather(*(_sees_by_nudges(kit, watcher, workload_id, phase) for watcher in watchers))


async def _sees_by_nudges(kit: Kit, watcher: _Watcher, workload_id: WorkloadId, phase: Phase) -> bool:
    try:
        async with asyncio.timeout(kit.patience_seconds):
            while True:
                await watcher.nudged.wait()
                watcher.nudged.clear()
                seen = await kit.runtime.observe(workload_id)
                if seen is not None and seen.phase is phase:
                    return True
    except TimeoutError:
        return False
