"""One server with two real clusters side by side: a pod runs where its GPU type is, and one cluster's trouble is its own.

The second one is brought up for these tests (support.second_cluster) and is reached through its API server alone. Which
cluster a process truly runs on it reads of its own mounts: what its kubelet mounted lies in that cluster's folder.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import NAMESPACES, NODES, PODS
from neuropod.kube.kubeconfig import from_kubeconfig
from support.cluster_account import admin_kubeconfig, make_account
from support.cluster_orders import SOCKET, needs_throwaway
from support.cluster_pods import BUSYBOX
from support.cluster_server import QUICK, cluster, server_on, small_type
from support.cluster_wishes import namespace_of_admin
from support.second_cluster import SecondCluster, second_cluster
from support.servers import Server, wait_for

pytestmark = [needs_throwaway, pytest.mark.timeout(500), pytest.mark.asyncio(loop_scope="module")]

GPU, PRODUCT = "nvidia.com/gpu", "nvidia.com/gpu.product"
NEAR_TYPE, FAR_TYPE = "rtx-4090", "l4"
TELLS_WHERE = (
    "trap 'exit 0' TERM; mkdir -p /www; grep ' /etc/hosts ' /proc/self/mountinfo | tee /www/index.html; "
    "httpd -f -p 8080 -h /www & wait"
)
POD = {
    "image": BUSYBOX, "command": ["sh", "-c", TELLS_WHERE], "ports": [{"port": 8080}],
    "container_disk_gb": 1, "volume": None,
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The server; its clusters as their administrators see them, by the names that the settings give them."""

    server: Server
    second: SecondCluster
    admins: dict[str, KubeClient]
    folders: dict[str, str]

    def launch(self, name: str, gpu_type: str) -> dict[str, Any]:
        self.server.create(name, gpu_type=gpu_type, **POD)
        return self.server.wait_for_status(name, "running")

    def visit(self, pod: dict[str, Any], *, key: bool = True) -> httpx.Response:
        url, headers = self.server.visit(pod, 8080)
        kept = {name: value for name, value in headers.items() if key or name != "X-Neuropod-Key"}
        return httpx.get(url, headers=kept, timeout=30)

    def where(self, pod: dict[str, Any]) -> tuple[str, str]:
        """Return on which cluster its process says to be, by its port and by its log, once it has said so."""
        wait_for(lambda: self.visit(pod).status_code == 200, "its port, which it opens when it runs")
        log = f"/pods/{pod['id']}/logs"
        by_log = wait_for(lambda: self._named(self.server.api.get(log).text), "its log")
        return self._named(self.visit(pod).text), by_log

    def _named(self, text: str) -> str:
        return " ".join(name for name, folder in self.folders.items() if folder in text) or text

    async def stand(self) -> dict[str, dict[str, str]]:
        """Return what stands on each cluster, in whatever namespace: the UIDs of the server's Pods, by the pod's id."""
        space = await self.admins["near"].get(NAMESPACES, namespace_of_admin(self.server))
        assert space is not None
        ours = f"neuropod.io/pod,neuropod.io/installation={space['metadata']['labels']['neuropod.io/installation']}"
        return {
            name: {
                one["metadata"]["labels"]["neuropod.io/pod"]: one["metadata"]["uid"]
                for one in await admin.list(PODS, labels=ours)
            }
            for name, admin in self.admins.items()
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("two")
    async with AsyncExitStack() as stack:
        second = stack.enter_context(second_cluster(folder))
        admins = {
            name: await stack.enter_async_context(KubeClient(from_kubeconfig(path), SystemClock(), timeout_seconds=20))
            for name, path in (("near", admin_kubeconfig()), ("far", second.kubeconfig))
        }
        # Its GPUs are others than those of the first, by the label alone.
        await admins["far"].merge_patch(NODES, "node-1", None, {"metadata": {"labels": {PRODUCT: "NVIDIA-L4"}}})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(second.kubeconfig))
            account = await make_account(folder)
        far = cluster("far", kubeconfig=str(account), reach="portforward", pods_domain="far-pods.localhost")
        server = await stack.enter_async_context(server_on(folder / "data", cluster("near"), far, **QUICK))
        small_type(server, NEAR_TYPE, gpu_resource=GPU, node_selector={}, runtimes=["near"])  # by its name
        answer = server.api.post("/gpu-types", json={
            "name": FAR_TYPE, "price": {"per_hour": "1"}, "cpu_cores": 1, "memory_gb": 1,
            "gpu_resource": GPU, "node_selector": {PRODUCT: "NVIDIA-L4"},  # by its label
        })  # fmt: skip
        assert answer.status_code == 201, answer.text
        first = Path(os.environ[SOCKET]).parent
        yield Place(server, second, admins, {"near": f"/{first.name}/", "far": f"/{second.name}/"})


async def test_each_type_runs_on_its_own_cluster_and_nowhere_else(place: Place):
    server = place.server
    near, far = place.launch("near", NEAR_TYPE), place.launch("far", FAR_TYPE)
    ids = {one["name"]: one["id"] for one in server.api.get("/system").json()["runtimes"]}
    doctor = server.run("doctor").stdout
    worlds = {name: await admin.get(NAMESPACES, "kube-system") for name, admin in place.admins.items()}
    spaces = [await admin.get(NAMESPACES, namespace_of_admin(server)) for admin in place.admins.values()]
    stood = await place.stand()

    assert ids == {name: f"kubernetes:{world['metadata']['uid']}" for name, world in worlds.items() if world}
    assert ids["near"] != ids["far"]
    assert (near["runtime"], far["runtime"]) == (ids["near"], ids["far"])
    assert {name: list(pods) for name, pods in stood.items()} == {"near": [near["id"]], "far": [far["id"]]}
    assert (place.where(near), place.where(far)) == (("near", "near"), ("far", "far"))
    assert [place.visit(one, key=False).status_code for one in (near, far)] == [401, 401]
    assert far["ports"][0]["host"].endswith(".far-pods.localhost")
    assert near["ports"][0]["host"].endswith(".neuropod-pods.localhost")
    assert len({space["metadata"]["labels"]["neuropod.io/installation"] for space in spaces if space}) == 1
    assert all(spaces)
    assert all(f"({name}: {one})" in doctor for name, one in ids.items())


async def test_while_ones_api_server_is_away_the_others_pods_go_on_and_are_launched(place: Place):
    server = place.server
    before = {name: server.pod(name) for name in ("near", "far")}
    stood = await place.stand()
    place.second.order("stop", "kube-apiserver")
    try:
        away = server.wait_for_status("far", "unreachable")
        server.create("later", gpu_type=FAR_TYPE, **POD)
        newer = place.launch("newer", NEAR_TYPE)
        near = server.pod("near")
        seen = place.where(near), place.where(newer)
        shut = place.visit(away)
        doctor = server.run("doctor")
        later = server.pod("later")
        server.kill()  # a start without it is no other than that
        server.start()
        left = server.api.get("/system").json()
        kept = {name: server.wait_for_status(name, "running" if name == "near" else "unreachable") for name in before}
        refused = server.api.post("/pods", json={"name": "nowhere", "gpu_type": FAR_TYPE, **POD})
        newest = place.launch("newest", NEAR_TYPE)
    finally:
        place.second.order("start", "kube-apiserver")
    far, came = server.wait_for_status("far", "running"), server.wait_for_status("later", "running")
    after = await place.stand()

    assert away["reason"] == "runtime_unreachable"
    assert shut.status_code == 503
    assert "does not answer" in shut.text
    assert (near["status"], near["since"]) == ("running", before["near"]["since"])
    assert seen == (("near", "near"), ("near", "near"))
    assert later["status"] in {"waiting", "starting", "unreachable"}
    assert later["runtime"] == away["runtime"]
    assert "It does NOT answer now" in doctor.stdout
    assert "runtime far does not answer" in doctor.stderr
    assert refused.status_code == 422
    assert "far gives no answer now" in refused.json()["detail"]
    assert [one["name"] for one in left["runtimes"]] == ["near"]
    assert [one["name"] for one in left["unopened"]] == ["far"]
    assert kept["near"]["since"] == before["near"]["since"]
    assert newest["runtime"] == near["runtime"]
    assert place.where(came) == place.where(far) == ("far", "far")
    assert {name: set(pods) for name, pods in after.items()} == {
        "near": {near["id"], newer["id"], newest["id"]}, "far": {far["id"], came["id"]},
    }  # fmt: skip
    assert all(after[name][before[name]["id"]] == stood[name][before[name]["id"]] for name in before)
