"""Rules 5 to 8: one place, installations apart, the end can be read, secrets stay secret."""

import asyncio

import pytest

from neuropod.runtimes.contract import (
    LogQuery,
    NotReadyError,
    Phase,
    WorkloadId,
    WorkloadRejectedError,
)
from neuropod.words import Reason
from runtimes.conformance.kit import PORT, SECRET, Kit, ended, get, lines_of, sibling, started, until


class EndRules:
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

    async def test_the_end_and_log_of_another_installation_are_neither_read_nor_dropped(self, kit: Kit):
        workload = kit.prints(3)
        before = await ended(kit, workload)
        log = await lines_of(kit, workload.id, LogQuery())

        async with kit.of_another_installation() as other:
            theirs = WorkloadId(other.runs().id.installation, workload.id.pod, workload.id.incarnation)
            read = await lines_of(other, theirs, LogQuery())
            await other.runtime.remove(theirs)
            await other.runtime.forget(theirs)

        assert read == []
        assert len(log) == 3
        assert await kit.runtime.observe(workload.id) == before
        assert await lines_of(kit, workload.id, LogQuery()) == log

    async def test_the_port_of_another_installation_is_not_reached(self, kit: Kit):
        workload = kit.serves()
        await started(kit, workload)

        async with kit.of_another_installation() as other:
            theirs = WorkloadId(other.runs().id.installation, workload.id.pod, workload.id.incarnation)
            with pytest.raises(NotReadyError):
                await other.runtime.connect(theirs, PORT)

        assert str(workload.id).encode() in await get(kit, workload.id)

    # ---- 7: the end can be read

    @pytest.mark.parametrize(("code", "reason"), [(0, Reason.EXITED), (3, Reason.CRASHED)])
    async def test_an_own_end_is_told_with_its_code_and_times(self, kit: Kit, code: int, reason: Reason):
        seen = await ended(kit, kit.exits(code))

        assert (seen.exit_code, seen.reason) == (code, reason)
        assert seen.started_at is not None
        assert seen.finished_at is not None
        assert seen.started_at <= seen.finished_at

    async def test_an_end_by_a_signal_of_its_own_is_a_crash(self, kit: Kit):
        seen = await ended(kit, kit.crashes())

        assert (seen.exit_code, seen.reason) == (139, Reason.CRASHED)
        assert seen.finished_at is not None

    async def test_stop_lets_it_end_in_its_own_way(self, kit: Kit):
        workload = kit.polite()
        ready = await started(kit, workload)

        await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.IDLE)
        stopping = await until(kit, workload.id, Phase.STOPPING)
        await kit.runtime.remove(workload.id)
        seen = await until(kit, workload.id, Phase.EXITED)

        assert (stopping.reason, stopping.exit_code, stopping.finished_at) == (Reason.IDLE, None, None)
        assert (seen.exit_code, seen.reason) == (0, Reason.IDLE)
        assert (seen.identity, seen.stopping_at) == (ready.identity, stopping.stopping_at)
        assert ready.ready_at is not None
        assert seen.stopping_at is not None
        assert seen.finished_at is not None
        assert ready.ready_at <= seen.stopping_at < seen.finished_at

    async def test_kill_ends_one_that_is_pending(self, kit: Kit):
        workload = kit.never_ready()
        await kit.runtime.ensure(workload)
        pending = await until(kit, workload.id, Phase.PENDING)

        await kit.runtime.kill(workload.id, reason=Reason.START_TIMEOUT)
        seen = await until(kit, workload.id, Phase.EXITED)

        assert (seen.identity, seen.reason, seen.ready_at) == (pending.identity, Reason.START_TIMEOUT, None)

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
