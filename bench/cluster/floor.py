"""The floor: a bare client that creates Pods, watches for their addresses, asks their ports, deletes them.

Its Pods have the image and the resources of ours, and stand in a namespace without anything else in it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.cluster.asking import until_200
from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.kube.informer import Informer, Key
from neuropod.kube.kinds import PODS
from neuropod.kube.kubeconfig import from_kubeconfig
from neuropod.runtimes.kubernetes.shapes import PodShape
from support.cluster_account import admin_kubeconfig

IMAGE, PORT = "neuropod.test/http:1", 8080
NAMESPACE = "floor"
GRACE_SECONDS = 30  # as ours have


def pod(name: str) -> dict[str, object]:
    asked = {"memory": "1G", "ephemeral-storage": "1M"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "resources": {
                        "requests": {**asked, "cpu": "10m"},
                        "limits": {"cpu": "1", "memory": "1G", "ephemeral-storage": "1G"},
                    },
                }
            ],
        },
    }


class Floor:
    """The bare client, on the whole cluster as its administrator."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client
        self.pods = Informer(client, PODS, PodShape, clock=SystemClock(), namespace=NAMESPACE, on_change=self._changed)
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
        await self.client.create(pod(name))
        await until_200(await self._addresses[name], PORT, {"Host": "floor"})

    async def stop(self, name: str) -> None:
        """Delete it, with its grace, and return when it is gone."""
        await self.client.delete(PODS, name, NAMESPACE)
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


@asynccontextmanager
async def floor() -> AsyncIterator[Floor]:
    async with KubeClient(from_kubeconfig(admin_kubeconfig()), SystemClock(), timeout_seconds=60) as client:
        await client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        made = Floor(client)
        watching = asyncio.create_task(made.pods.run())
        try:
            await made.pods.synced(10)
            yield made
        finally:
            watching.cancel()
