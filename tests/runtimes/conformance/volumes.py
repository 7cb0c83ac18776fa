"""The rules of volumes: made at first use, measured, grown, taken away by name of theirs alone."""

from dataclasses import replace

import pytest

from neuropod.ids import VolumeId
from neuropod.kit.identifiers import new_id
from neuropod.runtimes.contract import Phase, VolumeMount
from neuropod.runtimes.volumes import VolumeInUseError, volumes_of
from neuropod.words import Reason
from runtimes.conformance.kit import Kit, started, until

MIB = 1 << 20


class VolumeRules:
    async def test_a_volume_is_there_from_its_first_use_until_it_is_removed_and_not_while_a_workload_uses_it(
        self, kit: Kit
    ):
        volumes = volumes_of(kit.runtime)
        assert volumes is not None
        volume_id, unmade = VolumeId(new_id("vol")), VolumeId(new_id("vol"))
        workload = replace(kit.runs(), volume=VolumeMount(volume_id, "data", 64 * MIB))
        await started(kit, workload)

        used = await volumes.volume_use([volume_id, unmade])
        with pytest.raises(VolumeInUseError):
            await volumes.remove_volume(volume_id)
        await kit.runtime.kill(workload.id, reason=Reason.REQUESTED)
        await until(kit, workload.id, Phase.EXITED)
        await kit.runtime.remove(workload.id)
        kept = await volumes.volume_use([volume_id])
        await volumes.remove_volume(volume_id)
        await volumes.remove_volume(volume_id)
        await volumes.remove_volume(unmade)

        assert used.keys() == {volume_id}
        assert 32 * MIB < used[volume_id].size_bytes <= 64 * MIB
        assert used[volume_id].used_bytes < 32 * MIB
        assert not used[volume_id].full
        assert kept.keys() == {volume_id}
        assert await volumes.volume_use([volume_id]) == {}

    async def test_a_volume_grows_while_it_is_used_or_says_that_it_does_later(self, kit: Kit):
        volumes = volumes_of(kit.runtime)
        assert volumes is not None
        volume_id = VolumeId(new_id("vol"))
        workload = replace(kit.runs(), volume=VolumeMount(volume_id, "data", 64 * MIB))
        await started(kit, workload)

        now = await volumes.grow_volume(volume_id, 128 * MIB)
        again = await volumes.grow_volume(volume_id, 128 * MIB)
        smaller = await volumes.grow_volume(volume_id, 64 * MIB)
        use = (await volumes.volume_use([volume_id]))[volume_id]
        await kit.runtime.kill(workload.id, reason=Reason.REQUESTED)
        await until(kit, workload.id, Phase.EXITED)
        await kit.runtime.remove(workload.id)
        await volumes.remove_volume(volume_id)

        assert (use.size_bytes > 96 * MIB) is now
        assert again is now
        assert smaller is now or smaller
        assert await volumes.grow_volume(VolumeId(new_id("vol")), 64 * MIB)
