"""Plays the kubelet of a node that does not exist: its pods run at once and cost nothing.

Its Node object has room for thousands; what is placed there is told to run, and what is told to end is told to have
ended. The rest of the cluster is real.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ConflictError, NotFoundError
from neuropod.kube.informer import Informer, Key
from neuropod.kube.kinds import NODES, PODS
from neuropod.runtimes.kubernetes.shapes import PodShape

NODE = "played"
LABEL = "neuropod.test/played"
_BEAT_SECONDS = 3.0  # the throwaway cluster takes a node for lost after 12
_AT_ONCE = 16
_ROOM = {"cpu": "10000", "memory": "100Ti", "ephemeral-storage": "100Ti", "pods": "10000"}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class PlayedKubelet:
    """The node and what runs there."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._pods = Informer(
            client, PODS, PodShape, clock=SystemClock(), labels="neuropod.io/installation", on_change=self._changed
        )
        self._due: asyncio.Queue[tuple[Key, int, PodShape]] = asyncio.Queue()
        self._running: dict[str, int] = {}  # by UID, with its number
        self._count = 0

    async def join(self) -> None:
        """Make the node, ready."""
        await self._client.apply(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {LABEL: "true"}}}
        )
        await self._beat()

    async def run(self) -> None:
        """Play until cancelled."""
        await asyncio.gather(
            self._pods.run(), self._beat_on(), *(self._work() for _ in range(_AT_ONCE)), return_exceptions=False
        )

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            await self._beat()

    async def _beat(self) -> None:
        now = _now()
        ready = {"type": "Ready", "status": "True", "reason": "Played", "lastHeartbeatTime": now}
        status = {"capacity": _ROOM, "allocatable": _ROOM, "conditions": [ready]}
        await self._client.merge_patch(NODES, NODE, None, {"status": status}, subresource="status")
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NODE, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": NODE,
                "leaseDurationSeconds": 12,
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        await self._client.request_json(
            "PATCH",
            f"{path}/{NODE}",
            params={"fieldManager": "played", "force": "true"},
            body=lease,
            content_type="application/apply-patch+yaml",
            repeatable=True,
        )

    def _changed(self, key: Key, before: PodShape | None, now: PodShape | None) -> None:
        if now is None or now.spec.node_name != NODE or now.metadata.uid in self._running:
            return
        self._count += 1
        self._running[now.metadata.uid] = self._count
        self._due.put_nowait((key, self._count, now))

    async def _work(self) -> None:
        while True:
            key, number, pod = await self._due.get()
            address = f"10.{200 + number // 60_000}.{number // 250 % 250}.{number % 250 + 1}"
            await self._tell(key, _running(pod, address))

    async def _tell(self, key: Key, status: dict[str, Any]) -> None:
        with suppress(ConflictError, NotFoundError):  # gone meanwhile
            await self._client.merge_patch(PODS, key[1], key[0], {"status": status}, subresource="status")

    async def end(self, count: int) -> list[str]:
        """Let some end well, behind the server's back; return the pods' ids."""
        ended = list(self._pods.items.items())[:count]
        for key, pod in ended:
            await self._tell(key, _ended(pod))
        return [pod.metadata.labels["neuropod.io/pod"] for _, pod in ended]


def _running(pod: PodShape, address: str) -> dict[str, Any]:
    now = _now()
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "hostIP": "172.31.77.99",
        "startTime": now,
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now}
            for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
        ],
        "containerStatuses": [_container(pod, {"running": {"startedAt": now}}, ready=True)],
    }


def _ended(pod: PodShape) -> dict[str, Any]:
    now = _now()
    over = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
    return {"phase": "Succeeded", "containerStatuses": [_container(pod, {"terminated": over}, ready=False)]}


def _container(pod: PodShape, state: dict[str, Any], *, ready: bool) -> dict[str, Any]:
    image = pod.spec.containers[0].image
    return {
        "name": "main",
        "image": image,
        "imageID": f"{image}@sha256:{'0' * 64}",
        "containerID": f"played://{pod.metadata.uid}",
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": state,
    }
