"""The rules of usage."""

from neuropod.ids import PodId
from neuropod.runtimes.contract import Phase, WorkloadId
from neuropod.runtimes.usage import usage_reader
from neuropod.words import Reason
from runtimes.conformance.kit import Kit, sibling, started, until


class UsageRules:
    async def test_what_runs_is_measured_in_one_look_and_what_does_not_is_left_out(self, kit: Kit):
        reader = usage_reader(kit.runtime)
        assert reader is not None
        one, two, ended = kit.runs(), kit.runs(), kit.runs()
        for workload in (one, two, ended):
            await started(kit, workload)
        await kit.runtime.kill(ended.id, reason=Reason.REQUESTED)
        await until(kit, ended.id, Phase.EXITED)
        nothing = WorkloadId(one.id.installation, PodId("pod_nothing"), 1)

        usage = await reader.usage([one.id, two.id, ended.id, sibling(one, 2), nothing])

        assert usage.keys() == {one.id, two.id}
        for used in usage.values():
            assert used.cpu_seconds is not None
            assert used.cpu_seconds >= 0
            assert used.memory_bytes is not None
            assert used.memory_bytes > 0
            assert used.container_disk_bytes is not None
            assert used.volume_bytes is None
            assert used.gpus == ()

    async def test_what_runs_is_measured_by_the_next_server_too_and_not_by_another_installation(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        async with kit.of_another_installation() as other:
            theirs = await usage_reader(other.runtime).usage([workload.id])
        async with kit.another_server() as second:
            ours = await usage_reader(second.runtime).usage([workload.id])

        assert theirs == {}
        assert ours.keys() == {workload.id}
