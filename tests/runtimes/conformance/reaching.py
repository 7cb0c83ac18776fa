"""The rules of `connect`, of `watch`, and what a runtime tells about itself."""

import asyncio
from collections.abc import Sequence
from typing import Self

import pytest

from neuropod.ids import PodId
from neuropod.runtimes.contract import (
    NotReadyError,
    Phase,
    WorkloadId,
)
from neuropod.words import Reason
from runtimes.conformance.kit import PORT, Kit, get, sibling, started, until


class ReachRules:
    # ---- connect

    async def test_a_port_is_reached_by_several_at_once(self, kit: Kit):
        workload = kit.serves()
        await started(kit, workload)

        answers = await asyncio.gather(*(get(kit, workload.id) for _ in range(5)))

        assert all(answer.split(b" ")[1] == b"200" for answer in answers)

    async def test_the_same_port_of_two_pods_is_that_of_each(self, kit: Kit):
        one, two = kit.serves(), kit.serves()
        await asyncio.gather(started(kit, one), started(kit, two))

        answers = await asyncio.gather(get(kit, one.id), get(kit, two.id))

        assert str(one.id).encode() in answers[0]
        assert str(two.id).encode() in answers[1]

    async def test_the_port_of_the_incarnation_before_does_not_lead_to_the_one_after(self, kit: Kit):
        first = kit.serves()
        await started(kit, first)
        await kit.runtime.kill(first.id, reason=Reason.REQUESTED)
        await until(kit, first.id, Phase.EXITED)
        await kit.runtime.remove(first.id)
        second = kit.serves(first.id.pod, 2)
        await started(kit, second)

        with pytest.raises(NotReadyError):
            await kit.runtime.connect(first.id, PORT)
        assert str(second.id).encode() in await get(kit, second.id)

    async def test_a_port_that_is_still_shut_is_not_ready_at_once(self, kit: Kit):
        workload = kit.never_ready()
        await kit.runtime.ensure(workload)
        await until(kit, workload.id, Phase.PENDING)

        async with asyncio.timeout(5):
            with pytest.raises(NotReadyError):
                await kit.runtime.connect(workload.id, PORT)

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

    async def test_what_becomes_ready_and_ends_by_itself_is_nudged_too(self, kit: Kit):
        slow, short = kit.slow(), kit.talks(2)
        async with _Watcher(kit) as watcher:
            await kit.runtime.ensure(slow)
            await kit.runtime.ensure(short)
            by_nudges = [
                *await _each(kit, (watcher,), slow.id, Phase.READY),
                *await _each(kit, (watcher,), short.id, Phase.EXITED),
            ]

        assert by_nudges == [True, True]
        assert watcher.pods == {slow.id.pod, short.id.pod}

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


class _Watcher:
    """Follows `watch` in the background and keeps which pods were nudged."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.nudged = asyncio.Event()
        self.pods: set[PodId] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.05)  # the first step of a generator has no sign of its own
        return self

    async def _watch(self) -> None:
        async for pod in self._kit.runtime.watch():
            self.pods.add(pod)
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
                seen = await kit.runtime.observe(workload_id)
                if seen is not None and seen.phase is phase:
                    return True
                await watcher.nudged.wait()
                watcher.nudged.clear()
    except TimeoutError:
        return False
