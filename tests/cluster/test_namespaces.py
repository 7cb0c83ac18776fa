"""Users' namespaces, when somebody changes or deletes them by hand."""

import asyncio
from pathlib import Path

from neuropod.ids import InstallationId, UserId
from neuropod.kit.identifiers import new_id
from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import NAMESPACES, NETWORK_POLICIES
from neuropod.runtimes.contract import Phase
from neuropod.runtimes.kubernetes import names
from neuropod.words import Reason
from support.cluster_pods import SLEEP, opened, shell
from support.cluster_waits import until, until_gone


async def test_one_that_is_deleted_ends_with_its_pods_whose_ends_are_told_and_is_made_anew(
    tmp_path: Path, installation: InstallationId, admin: KubeClient
):
    async with opened(tmp_path, installation) as runtime:
        owner = UserId(new_id("usr"))
        workload = shell(SLEEP, installation=installation, owner=owner)
        namespace = names.namespace_of(workload.owner_hash)
        await runtime.ensure(workload)
        await until(runtime, workload, Phase.READY)

        await admin.delete(NAMESPACES, namespace)
        seen = await until(runtime, workload, Phase.EXITED)
        await runtime.remove(workload.id)
        await until_gone(runtime, workload)
        async with asyncio.timeout(100):
            while await admin.get(NAMESPACES, namespace) is not None:
                await asyncio.sleep(0.1)
        again = shell(SLEEP, installation=installation, owner=owner, pod=workload.id.pod, incarnation=2)
        await runtime.ensure(again)
        anew = await until(runtime, again, Phase.READY)

    assert (seen.reason, seen.exit_code) == (Reason.DELETED_OUTSIDE, 143)
    assert anew.id.incarnation == 2


async def test_what_somebody_takes_away_or_changes_is_put_back(
    tmp_path: Path, installation: InstallationId, admin: KubeClient
):
    async with opened(tmp_path, installation) as runtime:
        workload = shell(SLEEP, installation=installation, owner=UserId(new_id("usr")))
        namespace = names.namespace_of(workload.owner_hash)
        await runtime.ensure(workload)
        made = await admin.get(NETWORK_POLICIES, "neuropod", namespace)
        relabel = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}

        await admin.delete(NETWORK_POLICIES, "neuropod", namespace)
        await admin.merge_patch(NAMESPACES, namespace, None, relabel)
        async with asyncio.timeout(100):  # of two looks, should the first fall between what was done
            while (policy := await admin.get(NETWORK_POLICIES, "neuropod", namespace)) is None or (
                await enforced(admin, namespace) != "baseline"
            ):
                await asyncio.sleep(0.1)

    assert made is not None
    assert policy["spec"] == made["spec"]


async def enforced(admin: KubeClient, namespace: str) -> str:
    """Return the level of Pod Security there."""
    found = await admin.get(NAMESPACES, namespace)
    assert found is not None
    return str(found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"])
