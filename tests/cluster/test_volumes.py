"""Volumes as claims of a real cluster: what is written stays, grows where the class lets it, and goes on a word alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from neuropod.ids import InstallationId, UserId, VolumeId
from neuropod.kit.identifiers import new_id
from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import PERSISTENT_VOLUME_CLAIMS
from neuropod.runtimes.contract import Phase, Runtime, VolumeMount, Workload
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.volumes import NoRoomError, volumes_of
from neuropod.words import Reason
from support.cluster_pods import SLEEP, cluster_settings, on, opened, shell
from support.cluster_waits import text_of, until, until_gone

MIB = 1 << 20


class Owner:
    """Somebody with a volume."""

    def __init__(self, installation: InstallationId) -> None:
        self.installation = installation
        self.id = UserId(new_id("usr"))
        self.volume = VolumeMount(VolumeId(new_id("vol")), "workspace", 64 * MIB)

    def runs(self, script: str) -> Workload:
        workload = shell(script, installation=self.installation, owner=self.id)
        return replace(workload, volume=self.volume)


async def end(runtime: Runtime, workload: Workload) -> None:
    await runtime.kill(workload.id, reason=Reason.REQUESTED)
    await until(runtime, workload, Phase.EXITED)
    await runtime.remove(workload.id)
    await until_gone(runtime, workload)


async def test_what_a_pod_writes_is_there_for_the_next_one_and_for_nobody_else(
    tmp_path: Path, installation: InstallationId, admin: KubeClient
):
    async with opened(tmp_path, installation) as runtime:
        one, other = Owner(installation), Owner(installation)
        writer = one.runs("echo mine > /workspace/file")
        await runtime.ensure(writer)
        await until(runtime, writer, Phase.EXITED)
        await runtime.remove(writer.id)
        await until_gone(runtime, writer)
        claim = await admin.get(
            PERSISTENT_VOLUME_CLAIMS, f"workspace-{writer.owner_hash}", names.namespace_of(writer.owner_hash)
        )

        readers = [owner.runs("cat /workspace/file 2>&1; df -P /workspace | tail -1") for owner in (one, other)]
        for reader in readers:
            await runtime.ensure(reader)
            await until(runtime, reader, Phase.EXITED)
        lines = [await text_of(runtime, reader) for reader in readers]

    assert claim is not None
    assert claim["metadata"]["labels"]["neuropod.io/volume"] == one.volume.id
    assert lines[0][0] == "mine"
    assert "No such file" in lines[1][0]


async def test_a_class_that_cannot_grow_says_so_and_what_to_do(tmp_path: Path, installation: InstallationId):
    async with opened(tmp_path, installation, cluster_settings(storage_class="fixed")) as runtime:
        volumes = volumes_of(runtime)
        assert volumes is not None
        owner = Owner(installation)
        workload = owner.runs(SLEEP)
        await runtime.ensure(workload)
        await until(runtime, workload, Phase.READY)

        with pytest.raises(NoRoomError, match="'fixed' cannot grow"):
            await volumes.grow_volume(owner.volume.id, 128 * MIB)

        assert (await volumes.volume_use([owner.volume.id]))[owner.volume.id].size_bytes == 64 * MIB


async def test_a_volume_for_one_machine_says_which_one_while_a_pod_has_it(tmp_path: Path, installation: InstallationId):
    async with opened(tmp_path, installation) as runtime:
        owner = Owner(installation)
        workload = owner.runs(SLEEP)
        before = await runtime.capacity()
        await runtime.ensure(workload)
        await until(runtime, workload, Phase.READY)
        during = await runtime.capacity()

    assert owner.volume.id not in before.volume_hosts
    assert [host.startswith("node-") for host in during.volume_hosts[owner.volume.id]] == [True]


async def test_gpus_that_a_pod_was_given_are_on_its_machine_and_taken(tmp_path: Path, installation: InstallationId):
    async with opened(tmp_path, installation) as runtime:
        two = [device for device in (await runtime.capacity()).devices if device.host == "node-1"][:2]
        owner = Owner(installation)
        workload = on(
            shell("echo $NVIDIA_VISIBLE_DEVICES; exec sleep 3600", installation=installation, owner=owner.id),
            devices=tuple(device.name for device in two),
            gpu_resource="nvidia.com/gpu",
        )
        await runtime.ensure(workload)
        await until(runtime, workload, Phase.READY)
        async with opened(tmp_path / "another", InstallationId(new_id("ins"))) as another:
            left_to_others = [device for device in (await another.capacity()).devices if device.host == "node-1"]
        still = {device.name for device in (await runtime.capacity()).devices if device.host == "node-1"}

    assert len(two) == 2
    assert len(left_to_others) == 2
    assert {device.name for device in two} <= still
    assert len(still) == 4
