"""A real server process on the cluster, used as a user's program would: launches, events, ports through the gateway."""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.cluster.asking import ask, until_200
from bench.cluster.floor import GATEWAY_NETWORKS, IMAGE, PORT
from bench.server import cpu_seconds
from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.kube.informer import Informer, Key
from neuropod.kube.kinds import NAMESPACES, PODS
from neuropod.kube.kubeconfig import from_kubeconfig
from neuropod.runtimes.kubernetes.shapes import PodShape
from support.cluster_account import admin_kubeconfig, make_account
from support.cluster_pods import BUSYBOX
from support.servers import ADMIN_KEY, Server

TYPE = "bench"  # a GPU type without GPUs, small enough for hundreds on one node
_CANARY_SECONDS = 120


def server_on(data_dir: Path, account: Path) -> Server:
    cluster = {
        "name": "bench",
        "kubeconfig": str(account),
        "reach": "direct",
        "cpu_overcommit": 100,
        "disk_overcommit": 1000,
        "canary_image": BUSYBOX,
        "gateway_networks": GATEWAY_NETWORKS,
    }
    return Server(
        data_dir,
        local='{"enabled": false}',
        kubernetes=json.dumps([cluster]),
        limits='{"pods_per_user": 5000}',
    )


class Ours:
    """The API's user, who owns all pods here; and what the cluster shows of them."""

    def __init__(self, server: Server, client: KubeClient) -> None:
        self.server = server
        self._client = client
        self._headers = {"Host": f"127.0.0.1:{server.port}", "Authorization": f"Bearer {ADMIN_KEY}"}
        self._status: dict[str, str] = {}
        self._changed = asyncio.Condition()
        self._there: set[str] = set()  # names of our Pods that the cluster has
        self.pods = Informer(
            client,
            PODS,
            PodShape,
            clock=SystemClock(),
            labels="neuropod.io/installation",
            on_change=self._pod_changed,
        )

    def _pod_changed(self, key: Key, before: PodShape | None, now: PodShape | None) -> None:
        (self._there.discard if now is None else self._there.add)(key[1])

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        status, content = await ask(
            "127.0.0.1", self.server.port, f"/api/v1{path}", method=method, headers=self._headers, body=body
        )
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {content!r}")
        return json.loads(content) if content else None

    def cpu_seconds(self) -> float:
        """What the server has used so far, its ended children aside."""
        assert self.server.process is not None
        return cpu_seconds(self.server.process.pid)

    # ---- following

    async def follow(self, began: asyncio.Event) -> None:
        """Keep what the stream of events tells of pods."""
        async with (
            httpx.AsyncClient(timeout=None, trust_env=False) as client,
            client.stream("GET", f"{self.server.url}/api/v1/events", headers=self._headers) as answer,
        ):
            assert answer.status_code == 200, answer.status_code
            async for line in answer.aiter_lines():
                began.set()
                if line.startswith("data:"):
                    await self._told(json.loads(line[5:]))

    async def _told(self, data: dict[str, Any]) -> None:
        pod = data.get("pod") or data
        if "status" in pod and "id" in pod:
            async with self._changed:
                self._status[pod["id"]] = pod["status"]
                self._changed.notify_all()

    async def until(self, pod_id: str, status: str) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._status.get(pod_id) in {status, "failed"})
        if self._status[pod_id] == "failed":
            raise RuntimeError(f"failed: {await self.api('GET', f'/pods/{pod_id}')}")

    # ---- what is measured

    async def offer(self, gpu_type: str, **more: Any) -> None:
        """Offer a type without GPUs, of the least size."""
        price = {"per_hour": "0.01"}
        await self.api(
            "POST", "/gpu-types", {"name": gpu_type, "price": price, "cpu_cores": 1, "memory_gb": 1, "gpus": 0, **more}
        )

    async def create(self, name: str, *, gpu_type: str = TYPE) -> dict[str, Any]:
        wanted = {
            "name": name, "image": IMAGE, "gpu_type": gpu_type, "container_disk_gb": 1, "volume": None,
            "jupyter": "off", "ports": [{"port": PORT}],
        }  # fmt: skip
        return await self.api("POST", "/pods", wanted)

    async def launch(self, name: str) -> str:
        """Launch a pod, return its id with the first 200 through the gateway."""
        pod = await self.create(name)
        await self.until(pod["id"], "running")
        host = f"{pod['ports'][0]['host']}:{self.server.port}"
        await until_200("127.0.0.1", self.server.port, {"Host": host, "X-Neuropod-Key": ADMIN_KEY})
        return pod["id"]

    async def burst(self, names: list[str]) -> tuple[float, list[str]]:
        """Launch all at once; return the seconds to the last 200, and the ids."""
        began = time.perf_counter()
        ids = await asyncio.gather(*(self.launch(name) for name in names))
        return time.perf_counter() - began, ids

    async def stop_all(self, ids: list[str]) -> float:
        """Stop all at once; return the seconds until no Pod is left and the API says so of all."""
        began = time.perf_counter()
        await asyncio.gather(*(self.api("POST", f"/pods/{pod_id}/stop") for pod_id in ids))
        await asyncio.gather(*(self.until(pod_id, "stopped") for pod_id in ids))
        await self.until_there(lambda there: not there)
        return time.perf_counter() - began

    async def delete_all(self, ids: list[str]) -> None:
        """Delete all, and return when nothing of them is left in the cluster nor to be done by the server."""
        await asyncio.gather(*(self.api("DELETE", f"/pods/{pod_id}") for pod_id in ids))
        await self.until_there(lambda there: not there)
        while (await self.api("GET", "/pods?limit=1"))["items"]:
            await asyncio.sleep(0.1)

    async def until_there(self, holds: Callable[[set[str]], bool]) -> None:
        while not holds(self._there):
            await asyncio.sleep(0.01)

    async def settled(self) -> None:
        """Return once the canary has said its word and is gone, so that nothing of it is measured."""
        async with asyncio.timeout(_CANARY_SECONDS):
            while not await self._knows_policies():
                await asyncio.sleep(0.5)
            while await self._client.list(NAMESPACES, labels="neuropod.io/canary"):
                await asyncio.sleep(0.5)

    async def _knows_policies(self) -> bool:
        system = await self.api("GET", "/system")
        told = [one["message"] for runtime in system["runtimes"] for one in runtime["guarantees"] or ()]
        return any(message.startswith("NetworkPolicies are enforced") for message in told)


@asynccontextmanager
async def ours() -> AsyncIterator[Ours]:
    """Run the server with the rights of deploy/; what it made goes with the cluster."""
    with tempfile.TemporaryDirectory() as folder:
        account = await make_account(Path(folder))
        server = server_on(Path(folder) / "data", account)
        await asyncio.to_thread(server.start)
        async with KubeClient(from_kubeconfig(admin_kubeconfig()), SystemClock(), timeout_seconds=60) as client:
            made = Ours(server, client)
            tasks: list[asyncio.Task[None]] = []
            try:
                tasks.append(asyncio.create_task(made.pods.run()))
                began = asyncio.Event()
                tasks.append(asyncio.create_task(made.follow(began)))
                await began.wait()
                await made.pods.synced(10)
                await made.offer(TYPE)
                await made.settled()
                yield made
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)  # a restarted server has ended the stream
                await asyncio.to_thread(server.stop)
                server.api.close()
