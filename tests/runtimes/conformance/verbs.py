"""Rules 1 to 4: verbs may be repeated, wait for nothing, answer from the world and hit their incarnation alone."""

import asyncio
import time

import pytest

from neuropod.kit.clock import SystemClock
from neuropod.runtimes.contract import (
    Phase,
    Seen,
    WorkloadRejectedError,
)
from neuropod.words import Reason
from runtimes.conformance.kit import Kit, ended, get, sibling, started, until


class VerbRules:
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

    async def test_ensure_of_a_slow_starter_returns_before_it_is_ready(self, kit: Kit):
        workload = kit.slow()

        await kit.runtime.ensure(workload)
        returned_at = SystemClock().now()
        at_return = await kit.runtime.observe(workload.id)
        ready = await until(kit, workload.id, Phase.READY)

        assert at_return is not None
        assert at_return.phase is Phase.PENDING
        assert at_return.identity == ready.identity
        assert ready.ready_at is not None
        assert returned_at < ready.ready_at

    # ---- 3: observe answers from the outside world

    async def test_what_never_was_is_none(self, kit: Kit):
        assert await kit.runtime.observe(kit.runs().id) is None
        assert list(await kit.runtime.list_seen()) == []

    async def test_it_is_seen_at_every_look_from_ensure_until_remove(self, kit: Kit):
        workload = kit.talks(2)
        order = [Phase.PENDING, Phase.READY, Phase.STOPPING, Phase.EXITED]

        await kit.runtime.ensure(workload)
        looks: list[Seen | None] = []
        deadline = time.monotonic() + kit.patience_seconds
        while (not looks or looks[-1] is None or looks[-1].phase is not Phase.EXITED) and time.monotonic() < deadline:
            looks.append(await kit.runtime.observe(workload.id))
            await asyncio.sleep(0.005)
        await kit.runtime.remove(workload.id)

        phases = [order.index(look.phase) for look in looks if look is not None]
        assert None not in looks
        assert phases == sorted(phases)
        assert order[phases[-1]] is Phase.EXITED
        assert await kit.runtime.observe(workload.id) is None

    async def test_a_second_server_sees_the_same_and_what_it_does_is_seen_by_the_first(self, kit: Kit):
        running, finished = kit.runs(), kit.exits(3)
        before = [await started(kit, running), await ended(kit, finished)]

        async with kit.another_server() as second:
            there = [await second.runtime.observe(workload.id) for workload in (running, finished)]
            listed = {one.id: one for one in await second.runtime.list_seen()}
            await second.runtime.ensure(running)
            await second.runtime.ensure(finished)
            after_ensure = [await kit.runtime.observe(workload.id) for workload in (running, finished)]
            await second.runtime.stop(running.id, grace_seconds=30, reason=Reason.DEADLINE)
            seen_here = await until(kit, running.id, Phase.EXITED)

        assert there == before == after_ensure
        assert listed == {one.id: one for one in before}
        assert (seen_here.exit_code, seen_here.reason) == (143, Reason.DEADLINE)

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

    async def test_a_late_caller_for_the_incarnation_before_hits_nothing(self, kit: Kit):
        first = kit.prints(3)
        await ended(kit, first)
        await kit.runtime.remove(first.id)
        second = kit.runs(first.id.pod, 2)
        before = await started(kit, second)

        with pytest.raises(WorkloadRejectedError) as late:
            await kit.runtime.ensure(first)
        await kit.runtime.stop(first.id, grace_seconds=1, reason=Reason.REQUESTED)
        await kit.runtime.kill(first.id, reason=Reason.REQUESTED)
        await kit.runtime.remove(first.id)
        await asyncio.sleep(0.2)  # what should not happen has no sign to wait for

        assert late.value.reason is Reason.PLACE_OCCUPIED
        assert await kit.runtime.observe(first.id) == await kit.runtime.observe(second.id) == before
        assert [one.id for one in await kit.runtime.list_seen()] == [second.id]

    async def test_a_late_remove_leaves_the_end_of_the_incarnation_after_it(self, kit: Kit):
        second = kit.runs(incarnation=2)
        await started(kit, second)
        await kit.runtime.stop(second.id, grace_seconds=30, reason=Reason.REQUESTED)
        before = await until(kit, second.id, Phase.EXITED)

        await kit.runtime.remove(sibling(second, 1))

        assert await kit.runtime.observe(second.id) == before
