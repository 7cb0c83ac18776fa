"""A volume whose data one node has is used there alone: that is known while no pod has it, before one is opened."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuropod.ids import InstallationId, UserId, VolumeId
from neuropod.kit.identifiers import new_id
from neuropod.kube.errors import ForbiddenError
from neuropod.kube.kinds import PERSISTENT_VOLUMES
from neuropod.runtimes.contract import Phase, Runtime, VolumeMount, Workload
from neuropod.words import Reason
from support.cluster_account import account_client, objects_of
from support.cluster_orders import needs_throwaway, order
from support.cluster_pods import SLEEP, cluster_settings, on, opened, shell
from support.cluster_server import cluster, server_on, small_type
from support.cluster_waits import until, until_gone
from support.cluster_wishes import SLEEPER, await_wishes, namespace_of_admin, objects_in
from support.kubectl import kubectl
from support.servers import wait_for

pytestmark = [needs_throwaway, pytest.mark.timeout(300)]

MIB = 1 << 20


@pytest.fixture(autouse=True)
def two_nodes() -> None:
    order("start", "node-2")

    def ready() -> bool:
        found = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
        told = [one for node in found for one in node["status"].get("conditions", ())]  # none at a node's first moment
        states = [one["status"] for one in told if one["type"] == "Ready"]
        return states == ["True", "True"]

    wait_for(ready, "two nodes that are ready", 90)


def with_volume(installation: InstallationId, node: str) -> Workload:
    """Return a workload with a volume of its own that begins on that node."""
    workload = shell(SLEEP, installation=installation, owner=UserId(new_id("usr")))
    volume = VolumeMount(VolumeId(new_id("vol")), "workspace", 64 * MIB)
    return on(replace(workload, volume=volume), node_selector={"kubernetes.io/hostname": node})


async def run_once(runtime: Runtime, workload: Workload) -> None:
    await runtime.ensure(workload)
    await until(runtime, workload, Phase.READY)
    await runtime.kill(workload.id, reason=Reason.REQUESTED)
    await until(runtime, workload, Phase.EXITED)
    await runtime.remove(workload.id)
    await until_gone(runtime, workload)


async def test_a_volume_of_a_node_is_told_to_be_there_while_no_pod_has_it(tmp_path: Path, installation: InstallationId):
    workload = with_volume(installation, "node-2")
    assert workload.volume is not None
    async with opened(tmp_path / "one", installation, keep=True) as runtime:
        before = (await runtime.capacity()).volume_hosts
        await run_once(runtime, workload)
        after = (await runtime.capacity()).volume_hosts
    async with opened(tmp_path / "two", installation) as runtime:  # which has seen none of its pods
        anew = (await runtime.capacity()).volume_hosts

    assert before == {}
    assert after == anew == {workload.volume.id: frozenset({"node-2"})}


async def test_a_volume_that_every_node_reaches_ties_nothing(tmp_path: Path, installation: InstallationId):
    everywhere = cluster_settings(storage_class="shared", volume_access="ReadWriteMany")
    async with opened(tmp_path, installation, everywhere) as runtime:
        await run_once(runtime, with_volume(installation, "node-2"))

        assert (await runtime.capacity()).volume_hosts == {}


@contextmanager
def cordoned(node: str) -> Iterator[None]:
    kubectl("cordon", node)
    try:
        yield
    finally:
        kubectl("uncordon", node)


async def test_a_pod_waits_for_its_volumes_node_before_anything_of_it_is_on_the_cluster(tmp_path: Path):
    def quoted(of: str | None) -> dict[str, Any]:
        body = {"name": "next", "image": SLEEPER["image"], "gpu_type": "cpu", "container_disk_gb": 1}
        answer = server.api.post("/pods/quote", json={**body, "volume": None if of is None else {"name": of}})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async with server_on(tmp_path / "data", cluster()) as server:
        small_type(server)
        server.create("lab", **{**SLEEPER, "volume": {"name": "data", "size_gb": 1}})
        await_wishes(server, {"lab": "running"})
        (pod,) = objects_in(namespace_of_admin(server), "pods")
        home = pod["spec"]["nodeName"]
        server.verb("lab", "stop")
        await_wishes(server, {"lab": "stopped"})
        with cordoned(home):
            wait_for(lambda: not quoted("data")["fits"], "the quote to follow", 30)
            quotes = quoted("data"), quoted(None)
            server.verb("lab", "start")
            waits = server.wait_for_status("lab", "waiting", "running")
            left = objects_in(namespace_of_admin(server), "pods")
        runs = await_wishes(server, {"lab": "running"}, 120)["lab"]
        (again,) = objects_in(namespace_of_admin(server), "pods")

    assert (quotes[0]["reason"], quotes[1]["fits"]) == ("volume_elsewhere", True)
    assert "on one machine of the cluster alone" in quotes[0]["message"]
    assert (waits["status"], waits["reason"], left) == ("waiting", "volume_elsewhere", [])
    assert runs["status"] == "running"
    assert again["spec"]["nodeName"] == home


@pytest.fixture
async def without_the_right() -> AsyncIterator[None]:
    """The rights of a deploy before this one."""
    (role,) = [
        one for one in objects_of("20-rights.yaml")
        if one["kind"] == "ClusterRole" and one["metadata"]["name"] == "neuropod"
    ]  # fmt: skip
    plural = PERSISTENT_VOLUMES.plural
    rules = [rule | {"resources": [one for one in rule["resources"] if one != plural]} for rule in role["rules"]]
    async with account_client() as account:

        async def until_it_may(*, read: bool) -> None:
            async with asyncio.timeout(30):
                while True:
                    try:
                        await account.list(PERSISTENT_VOLUMES)
                    except ForbiddenError:
                        if not read:
                            return
                    else:
                        if read:
                            return
                    await asyncio.sleep(0.1)

        kubectl("apply", "-f", "-", stdin=json.dumps(role | {"rules": rules}))
        try:
            await until_it_may(read=False)
            yield
        finally:
            kubectl("apply", "-f", "-", stdin=json.dumps(role))
            await until_it_may(read=True)


@pytest.mark.usefixtures("without_the_right")
async def test_without_the_right_to_read_them_volumes_are_where_pods_have_them_which_is_said_once(
    tmp_path: Path, installation: InstallationId, capsys: pytest.CaptureFixture[str]
):
    workload = with_volume(installation, "node-2")
    assert workload.volume is not None
    async with opened(tmp_path, installation) as runtime:
        await runtime.ensure(workload)
        await until(runtime, workload, Phase.READY)
        during = (await runtime.capacity()).volume_hosts
        await runtime.kill(workload.id, reason=Reason.REQUESTED)
        await until(runtime, workload, Phase.EXITED)
        await runtime.remove(workload.id)
        await until_gone(runtime, workload)
        after = (await runtime.capacity()).volume_hosts

    assert during == {workload.volume.id: frozenset({"node-2"})}
    assert after == {}
    assert capsys.readouterr().out.count("apply the newer deploy/20-rights.yaml") == 1
