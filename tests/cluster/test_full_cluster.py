"""A cluster whose GPUs are all given: who comes later waits in order, is told at which place, and starts by itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from neuropod.ids import InstallationId, UserId
from neuropod.kit.identifiers import new_id
from neuropod.kube.kinds import PODS
from neuropod.runtimes.contract import Phase
from neuropod.words import Reason
from support.cluster_account import admin_client
from support.cluster_orders import needs_throwaway, order
from support.cluster_pods import SLEEP, on, opened, shell
from support.cluster_server import cluster, server_on
from support.cluster_waits import until, until_canary_is_over, until_gone
from support.cluster_wishes import namespace_of_admin
from support.servers import Server, wait_for

pytestmark = [needs_throwaway, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

FOUND = {
    "gpu_resource": "nvidia.com/gpu",
    "node_selector": {"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-4090"},  # of node-1 (tools/cluster/places.py)
}
NAMES = ("first", "second", "third", "fourth")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A server on a cluster with two GPUs of a type."""
    order("gpus", "node-1", "2")
    try:
        async with server_on(tmp_path_factory.mktemp("full") / "data", cluster()) as server:
            kind = {"name": "scarce", "price": {"per_hour": "1"}, "cpu_cores": 1, "memory_gb": 1, "gpus": 1} | FOUND
            made = server.api.post("/gpu-types", json=kind)
            assert made.status_code == 201, made.text
            yield server
    finally:
        order("gpus", "node-1", "4")


def kind_of(server: Server) -> tuple[int, int, int]:
    """Return how many of the type are free, are there, and are waited for."""
    (found,) = [one for one in server.api.get("/gpu-types").json()["items"] if one["name"] == "scarce"]
    return found["free"], found["total"], found["waiting"]


def standing(server: Server) -> dict[str, tuple[str, int | None]]:
    """Return each pod's status, and its place in the queue."""
    return {name: (pod["status"], pod["place"]) for name in NAMES for pod in [server.pod(name)]}


async def test_pods_wait_in_order_with_their_place_and_start_when_there_is_room(server: Server):
    async def on_cluster() -> set[str]:
        async with admin_client() as admin:
            found = await admin.list(PODS, namespace_of_admin(server), labels="neuropod.io/pod")
        return {one["metadata"]["labels"]["app"] for one in found}

    before = kind_of(server)
    for name in NAMES:
        server.create(name, image="neuropod.test/http:1", gpu_type="scarce", container_disk_gb=1, volume=None)
        server.wait_for_status(name, "running", "waiting")
    full, counted = standing(server), kind_of(server)
    waits = server.pod("third")
    quote = server.api.post(
        "/pods/quote", json={"name": "fifth", "image": "plain", "gpu_type": "scarce", "volume": None}
    ).json()
    made = await on_cluster()

    server.verb("first", "stop")
    server.wait_for_status("third", "running")
    moved = standing(server)
    server.api.delete(f"/pods/{server.pod('second')['id']}")
    server.wait_for_status("fourth", "running")

    assert before == (2, 2, 0)
    assert full == {
        "first": ("running", None), "second": ("running", None), "third": ("waiting", 1), "fourth": ("waiting", 2),
    }  # fmt: skip
    assert counted == (0, 2, 2)
    assert waits["reason"] == "no_gpu"
    assert (quote["fits"], quote["ever_fits"], quote["place"]) == (False, True, 3)
    assert made == {"first", "second"}  # who waits is no Pod that the scheduler could choose before its turn
    assert moved["fourth"] == ("waiting", 1)
    assert wait_for(lambda: kind_of(server) == (0, 2, 0), "the count")


async def test_a_gpu_more_is_given_to_who_waits(server: Server):
    held = [name for name in ("third", "fourth") if server.pod(name)["status"] == "running"]
    quote: dict[str, Any] = {"name": "next", "image": "plain", "gpu_type": "scarce", "volume": None}
    before = server.api.post("/pods/quote", json=quote).json()
    order("gpus", "node-1", "3")

    assert held == ["third", "fourth"]
    assert not before["fits"]
    wait_for(lambda: server.api.post("/pods/quote", json=quote).json()["fits"], "the new GPU to be known")
    assert wait_for(lambda: kind_of(server) == (1, 3, 0), "the count")


async def test_each_machine_tells_what_of_it_is_free(tmp_path: Path):
    """By which a pod waits that no machine has room for, though all together had."""
    installation = InstallationId(new_id("ins"))
    async with opened(tmp_path, installation) as runtime:
        await until_canary_is_over(runtime)  # whose Pods take something too, each for as long as it asks
        here = {"kubernetes.io/hostname": "node-1"}  # whatever other nodes there are
        workload = on(shell(SLEEP, installation=installation, owner=UserId(new_id("usr"))), node_selector=here)
        whole = [there.free for there in (await runtime.capacity()).hosts.values()]
        before = (await runtime.capacity()).hosts["node-1"]
        making = asyncio.create_task(runtime.ensure(workload))
        await asyncio.sleep(0)
        coming = [there.free for there in (await runtime.capacity()).hosts.values()]
        at_once = not making.done()
        await making
        await until(runtime, workload, Phase.READY)
        during = (await runtime.capacity()).hosts["node-1"]
        await runtime.kill(workload.id, reason=Reason.REQUESTED)
        await until(runtime, workload, Phase.EXITED)
        await runtime.remove(workload.id)
        await until_gone(runtime, workload)
        async with asyncio.timeout(60):  # what is free is counted by the watch, which tells of an end a moment later
            while (after := (await runtime.capacity()).hosts["node-1"]).free != before.free:
                await asyncio.sleep(0.1)
        wanted = workload.resources

        assert at_once  # it is counted from when it is asked for, on whichever machine, and once
        assert (
            sum(free.memory_bytes for free in whole) - sum(free.memory_bytes for free in coming) == wanted.memory_bytes
        )
        assert before.free.memory_bytes - during.free.memory_bytes == wanted.memory_bytes
        assert before.free.cpu_cores - during.free.cpu_cores == wanted.cpu_cores
        assert before.whole == during.whole
        assert after == before
