"""The floor: a bare client that creates Pods, watches for their addresses, asks their ports, deletes them.

Its Pods have the image and the resources of ours. There are two: one whose Pods are locked in as ours are, by the same
security context and the same NetworkPolicy, which is the same Pod made by a bare client; and one whose Pods are plain,
which tells what the isolation costs the cluster.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.cluster.asking import until_200
from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.kube.informer import Informer, Key
from neuropod.kube.kinds import PODS
from neuropod.kube.kubeconfig import from_kubeconfig
from neuropod.runtimes.kubernetes.fences import Fence, policy_spec
from neuropod.runtimes.kubernetes.objects import CAPABILITIES
from neuropod.runtimes.kubernetes.shapes import PodShape
from support.cluster_account import admin_kubeconfig

IMAGE, PORT = "neuropod.test/http:1", 8080
GRACE_SECONDS = 30  # as ours have
GATEWAY_NETWORKS = ("172.31.77.1/32",)  # where both stand who ask; see tools/cluster/places.py

RESOURCES = {
    "requests": {"memory": "1G", "ephemeral-storage": "1M", "cpu": "10m"},
    "limits": {"cpu": "1", "memory": "1G", "ephemeral-storage": "1G"},
}
AS_OURS = {
    "restartPolicy": "Never",
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "terminationGracePeriodSeconds": GRACE_SECONDS,
}
# What locks a container in, and its Pod.
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
}
AROUND = {"shareProcessNamespace": True, "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}


def pod(name: str, namespace: str, *, locked_in: bool) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            **(AROUND if locked_in else {}),
            **AS_OURS,
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    **({"securityContext": CONTAINER_SECURITY} if locked_in else {}),
                    "resources": RESOURCES,
                }
            ],
        },
    }


def policy(namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "neuropod", "namespace": namespace},
        "spec": policy_spec(Fence(gateway_networks=GATEWAY_NETWORKS)),
    }


class Floor:
    """The bare client, on the whole cluster as its administrator."""

    def __init__(self, client: KubeClient, namespace: str, *, locked_in: bool) -> None:
        self.client = client
        self._namespace = namespace
        self._locked_in = locked_in
        self.pods = Informer(client, PODS, PodShape, clock=SystemClock(), namespace=namespace, on_change=self._changed)
        self._addresses: dict[str, asyncio.Future[str]] = {}
        self._gone: dict[str, asyncio.Event] = {}

    def _changed(self, key: Key, before: PodShape | None, now: PodShape | None) -> None:
        name = key[1]
        if now is None:
            self._gone[name].set()
        elif now.status.pod_ip and not self._addresses[name].done():
            self._addresses[name].set_result(now.status.pod_ip)

    async def launch(self, name: str) -> None:
        """Create a Pod and return with its first 200."""
        self._addresses[name] = asyncio.get_running_loop().create_future()
        self._gone[name] = asyncio.Event()
        await self.client.create(pod(name, self._namespace, locked_in=self._locked_in))
        await until_200(await self._addresses[name], PORT, {"Host": "floor"})

    async def stop(self, name: str) -> None:
        """Delete it, with its grace, and return when it is gone."""
        await self.client.delete(PODS, name, self._namespace)
        await self._gone[name].wait()

    async def burst(self, names: list[str]) -> float:
        """Launch all at once; return the seconds to the last 200."""
        began = time.perf_counter()
        await asyncio.gather(*(self.launch(name) for name in names))
        return time.perf_counter() - began

    async def stop_all(self, names: list[str]) -> float:
        """Stop all at once; return the seconds until the last is gone."""
        began = time.perf_counter()
        await asyncio.gather(*(self.stop(name) for name in names))
        return time.perf_counter() - began


@dataclass(frozen=True)
class Floors:
    """Both."""

    same: Floor  # locked in as ours are
    plain: Floor

    @property
    def client(self) -> KubeClient:
        return self.same.client


@asynccontextmanager
async def floors() -> AsyncIterator[Floors]:
    async with KubeClient(from_kubeconfig(admin_kubeconfig()), SystemClock(), timeout_seconds=60) as client:
        made = Floors(
            Floor(client, "floor-same", locked_in=True),
            Floor(client, "floor-plain", locked_in=False),
        )
        for namespace in ("floor-same", "floor-plain"):
            await client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        await client.apply(policy("floor-same"))
        watching = [asyncio.create_task(one.pods.run()) for one in (made.same, made.plain)]
        try:
            for one in (made.same, made.plain):
                await one.pods.synced(10)
            yield made
        finally:
            for task in watching:
                task.cancel()
