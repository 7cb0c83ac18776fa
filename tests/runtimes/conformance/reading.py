"""The rules of logs."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from neuropod.runtimes.contract import (
    LogLine,
    LogQuery,
    Phase,
)
from runtimes.conformance.kit import Kit, ended, lines_of, started, until


class LogRules:
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

        assert await lines_of(kit, workload.id, LogQuery(since=whole[0].position)) == whole[1:]
        assert await lines_of(kit, workload.id, LogQuery(since=whole[41].position)) == whole[42:]
        assert await lines_of(kit, workload.id, LogQuery(since=whole[-1].position)) == []
        assert await lines_of(kit, workload.id, LogQuery(since=whole[41].position, tail=3)) == whole[-3:]

    async def test_a_follower_of_the_tail_begins_there_and_gets_what_comes(self, kit: Kit):
        workload = kit.talks(5)
        await kit.runtime.ensure(workload)
        deadline = time.monotonic() + kit.patience_seconds
        while len(before := await lines_of(kit, workload.id, LogQuery())) < 2 and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

        lines = await lines_of(kit, workload.id, LogQuery(follow=True, tail=1))

        whole = await lines_of(kit, workload.id, LogQuery())
        assert [line.text for line in whole] == [f"line {number}" for number in range(5)]
        assert lines[0].position >= before[-1].position
        assert lines == whole[-len(lines) :]

    async def test_a_follower_of_an_end_reads_all_and_ends_before_and_after_remove(self, kit: Kit):
        workload = kit.prints(3)
        await ended(kit, workload)

        before = await lines_of(kit, workload.id, LogQuery(follow=True))
        await kit.runtime.remove(workload.id)
        after = await lines_of(kit, workload.id, LogQuery(follow=True))

        assert [line.text for line in before] == ["line 0", "line 1", "line 2"]
        assert after == before

    async def test_each_incarnation_has_its_own_log(self, kit: Kit):
        first = kit.prints(3)
        await ended(kit, first)
        await kit.runtime.remove(first.id)
        second = kit.runs(first.id.pod, 2)
        await started(kit, second)

        assert len(await lines_of(kit, first.id, LogQuery(follow=True))) == 3
        assert await lines_of(kit, second.id, LogQuery()) == []

    async def test_the_log_of_nothing_is_empty_and_ends(self, kit: Kit):
        nothing = kit.runs().id

        assert await lines_of(kit, nothing, LogQuery()) == []
        assert await lines_of(kit, nothing, LogQuery(follow=True)) == []


def _positions_are_right(lines: Sequence[LogLine]) -> bool:
    """Each line begins where the one before it and its newline ended."""
    position = 0
    for line in lines:
        if line.position != position:
            return False
        position += len(line.text.encode()) + 1
    return True
