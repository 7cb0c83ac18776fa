"""SECURITY 16. Two users are never in one namespace, whatever their hashes, and deleted data does not come back."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from neuropod.ids import InstallationId, PodId, UserId, VolumeId
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kube.kinds import (
    NAMESPACES,
    NETWORK_POLICIES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    ROLE_BINDINGS,
    SECRETS,
)
from neuropod.runtimes.contract import Phase, VolumeMount, Workload, WorkloadRejectedError
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from neuropod.words import Reason
from support.cluster_account import admin_client
from support.cluster_orders import needs_throwaway
from support.cluster_pods import SLEEP, cluster_settings, opened, shell
from support.cluster_waits import text_of, until

KINDS = (PODS, SECRETS, PERSISTENT_VOLUME_CLAIMS, NETWORK_POLICIES, ROLE_BINDINGS)


async def everything_in(namespace: str) -> list[tuple[str, str, str]]:
    """Return what is there, by kind, name and UID, with what says whose the namespace is."""
    async with admin_client() as client:
        found = await client.get(NAMESPACES, namespace)
        assert found is not None
        metadata = found["metadata"]
        marks = [
            ("whose", key, value) for part in ("labels", "annotations") for key, value in metadata.get(part, {}).items()
        ]
        objects = [
            (kind.kind, one["metadata"]["name"], one["metadata"]["uid"])
            for kind in KINDS
            for one in await client.list(kind, namespace)
        ]
    return sorted([*marks, *objects])


def workload(installation: InstallationId, owner: UserId, hash_: str, script: str = SLEEP) -> Workload:
    return replace(shell(script, installation=installation, owner=owner), owner_hash=hash_)


async def refused(runtime: KubernetesRuntime, wanted: Workload, reason: Reason = Reason.REJECTED) -> None:
    with pytest.raises(WorkloadRejectedError) as caught:
        await runtime.ensure(wanted)
    assert caught.value.reason is reason
    assert await runtime.observe(wanted.id) is None


async def test_a_second_user_with_the_same_hash_gets_nothing_of_the_firsts(
    tmp_path: Path, installation: InstallationId
):
    first, second = UserId(new_id("usr")), UserId(new_id("usr"))
    hash_ = user_hash(first)
    async with opened(tmp_path, installation) as runtime:
        theirs = workload(installation, first, hash_)
        await runtime.ensure(theirs)
        await until(runtime, theirs, Phase.READY)
        before = await everything_in(f"neuropod-{hash_}")

        await refused(runtime, workload(installation, second, hash_))
        same_name = replace(workload(installation, second, hash_), pod_name=theirs.pod_name)
        await refused(runtime, same_name, Reason.PLACE_OCCUPIED)

        assert await everything_in(f"neuropod-{hash_}") == before
        await runtime.ensure(workload(installation, first, hash_))


async def test_another_installation_with_the_same_hash_gets_nothing(tmp_path: Path, installation: InstallationId):
    owner = UserId(new_id("usr"))  # the same: a copy of the database would have it
    hash_ = user_hash(owner)
    other = InstallationId(new_id("ins"))
    async with opened(tmp_path / "a", installation) as ours, opened(tmp_path / "b", other) as theirs:
        mine = workload(installation, owner, hash_)
        await ours.ensure(mine)
        await until(ours, mine, Phase.READY)
        before = await everything_in(f"neuropod-{hash_}")

        await refused(theirs, workload(other, owner, hash_))

        assert await everything_in(f"neuropod-{hash_}") == before


@pytest.mark.parametrize("labels", [{}, {"neuropod.io/installation": "OURS"}], ids=["bare", "with a part of our marks"])
async def test_a_namespace_that_was_there_is_left_alone(
    tmp_path: Path, installation: InstallationId, labels: dict[str, str]
):
    owner = UserId(new_id("usr"))
    hash_ = user_hash(owner)
    name = f"neuropod-{hash_}"
    marks = {key: value.replace("OURS", installation) for key, value in labels.items()}
    async with admin_client() as client:
        await client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks}})
        try:
            async with opened(tmp_path, installation) as runtime:
                before = await everything_in(name)
                await refused(runtime, workload(installation, owner, hash_))
                assert await everything_in(name) == before
        finally:
            await client.delete(NAMESPACES, name)


@needs_throwaway
async def test_what_was_deleted_does_not_come_back_where_the_class_retains(
    tmp_path: Path, installation: InstallationId
):
    """Classes that keep data by the claim's name are why a name is never used twice there."""
    owner = UserId(new_id("usr"))
    namespace = f"neuropod-{user_hash(owner)}"
    settings = cluster_settings(storage_class="retained")

    def with_volume(script: str, pod: PodId, number: int, volume: VolumeId) -> Workload:
        made = shell(script, installation=installation, owner=owner, pod=pod, incarnation=number)
        return replace(made, volume=VolumeMount(volume, "workspace", 64 << 20))

    async def claims() -> dict[str, str]:
        async with admin_client() as client:
            listed = await client.list(PERSISTENT_VOLUME_CLAIMS, namespace)
        return {one["metadata"]["name"]: one["spec"].get("volumeName", "") for one in listed}

    pod = PodId(new_id("pod"))
    async with opened(tmp_path, installation, settings) as runtime, admin_client() as client:
        old, new = VolumeId(new_id("vol")), VolumeId(new_id("vol"))
        writes = with_volume("echo deleted > /workspace/old; ls /workspace", pod, 1, old)
        await runtime.ensure(writes)
        await until(runtime, writes, Phase.EXITED)
        ((first_name, volume_name),) = (await claims()).items()
        await runtime.remove(writes.id)
        await runtime.remove_volume(old)
        async with asyncio.timeout(60):
            while await claims():
                await asyncio.sleep(0.1)

        reads = with_volume("ls /workspace", pod, 2, new)
        await runtime.ensure(reads)
        await until(runtime, reads, Phase.EXITED)
        lines = await text_of(runtime, reads)
        ((second_name, _),) = (await claims()).items()
        kept = await client.get(PERSISTENT_VOLUMES, volume_name)
        if kept is not None:  # the class kept it: that is what the test is about
            await client.delete(PERSISTENT_VOLUMES, volume_name)

    assert kept is not None
    assert "old" not in lines
    assert first_name != second_name
    assert (first_name, second_name) == tuple(f"workspace-{one.rpartition('_')[2]}" for one in (old, new))
