"""What pods use now, as their nodes' kubelets tell it: CPU, memory, disks. Called by `runtime` and `volumes`.

The kubelet is asked through the API server (`nodes/proxy`) or directly. The right to the first is the right to run
commands in every container of the cluster, so a server that dials pods asks directly, with `nodes/stats`
and `nodes/configz` alone.
https://kubernetes.io/docs/reference/instrumentation/node-metrics/
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import msgspec
import structlog

from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import KubeError, KubeUnavailableError
from neuropod.kube.informer import Key
from neuropod.kube.kinds import NODES
from neuropod.kube.shapes import Shape
from neuropod.runtimes.kubernetes.shapes import NodeShape
from neuropod.runtimes.kubernetes.watching import ClusterWatch
from neuropod.runtimes.usage import Usage

log = structlog.get_logger(__name__)

_KUBELET_PORT = 10250
_ANSWER_SECONDS = 5.0
_SERVES_SECONDS = 2.0  # one look serves all that ask within this time


class _Cpu(Shape, frozen=True):
    usage_core_nano_seconds: int | None = None


class _Memory(Shape, frozen=True):
    working_set_bytes: int | None = None


class _Storage(Shape, frozen=True):
    used_bytes: int | None = None


class _ClaimReference(Shape, frozen=True):
    name: str = ""
    namespace: str = ""


class _Volume(Shape, frozen=True):
    used_bytes: int | None = None
    capacity_bytes: int | None = None
    available_bytes: int | None = None
    pvc_ref: _ClaimReference | None = None


class _PodReference(Shape, frozen=True):
    uid: str = ""


class _Container(Shape, frozen=True):
    cpu: _Cpu = _Cpu()
    memory: _Memory = _Memory()


class _Pod(Shape, frozen=True):
    pod_ref: _PodReference = _PodReference()
    containers: tuple[_Container, ...] = ()  # measured from their start on, the Pod as a whole some seconds later
    ephemeral_storage: _Storage = msgspec.field(default=_Storage(), name="ephemeral-storage")
    volume: tuple[_Volume, ...] = ()


class _Summary(Shape, frozen=True):
    pods: tuple[_Pod, ...] = ()


_DECODER = msgspec.json.Decoder(_Summary)


@dataclass(frozen=True, slots=True)
class ClaimUse:
    """The file system that a claim is mounted from; that of a folder-like claim is everybody's (see volumes)."""

    used_bytes: int
    capacity_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class NodeUse:
    """What one node told: by the UID of Pods, and by claims that are mounted there."""

    pods: Mapping[str, Usage]
    claims: Mapping[Key, ClaimUse]


_NOTHING = NodeUse({}, {})


class NodeStats:
    """The kubelets of one cluster."""

    def __init__(self, client: KubeClient, watch: ClusterWatch, clock: Clock, *, direct: bool) -> None:
        self._client = client
        self._watch = watch
        self._clock = clock
        self._direct = direct
        self._kubelets: dict[str, KubeClient] = {}  # by address
        self._told: dict[str, tuple[float, NodeUse]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def aclose(self) -> None:
        """Close the connections."""
        for kubelet in self._kubelets.values():
            await kubelet.aclose()
        self._kubelets.clear()

    async def pods(self, nodes: Iterable[str]) -> Mapping[str, Usage]:
        """Return what Pods on these nodes use, by UID; a node that does not tell is left out."""
        told = await asyncio.gather(*(self._of(node) for node in sorted(set(nodes)) if node))
        return {uid: usage for use in told for uid, usage in use.pods.items()}

    async def claims(self, nodes: Iterable[str]) -> Mapping[Key, ClaimUse]:
        """Return how the claims are that are mounted on these nodes."""
        told = await asyncio.gather(*(self._of(node) for node in sorted(set(nodes)) if node))
        return {key: used for use in told for key, used in use.claims.items()}

    async def _of(self, node: str) -> NodeUse:
        async with self._locks.setdefault(node, asyncio.Lock()):
            at, use = self._told.get(node, (None, _NOTHING))
            now = self._clock.monotonic()
            if at is None or now - at > _SERVES_SECONDS:
                use = await self._ask(node)
                self._told[node] = now, use
            return use

    async def _ask(self, node: str) -> NodeUse:
        try:
            return read_summary(await self.text(node, "/stats/summary"))
        except (KubeError, KubeUnavailableError, TimeoutError) as error:
            log.info("a node does not tell what its pods use", node=node, error=str(error) or "no answer")
            return _NOTHING

    async def text(self, node: str, path: str) -> str:
        """Return what a node's kubelet answers to a GET. Raises what the client raises, and TimeoutError."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            if self._direct and (kubelet := self._kubelet(node)) is not None:
                return await kubelet.request_text(path)
            return await self._client.request_text(f"{NODES.path(name=node)}/proxy{path}")

    def _kubelet(self, node: str) -> KubeClient | None:
        address = address_of(self._watch.node(node))
        if address is None:
            return None
        if address not in self._kubelets:
            host = f"[{address}]" if ":" in address else address
            access = replace(self._client.access, server=f"https://{host}:{_KUBELET_PORT}", name=f"kubelet of {node}")
            self._kubelets[address] = KubeClient(access, self._clock, timeout_seconds=_ANSWER_SECONDS)
        return self._kubelets[address]


def address_of(node: NodeShape | None) -> str | None:
    """Return the address at which a node is reached within the cluster."""
    addresses = () if node is None else node.status.addresses
    return next((one.address for one in addresses if one.type == "InternalIP"), None)


def read_summary(text: str) -> NodeUse:
    """Return what a kubelet's summary says. What it cannot tell of one (an end, a start) is left out."""
    try:
        summary = _DECODER.decode(text)
    except msgspec.MsgspecError as error:
        log.warning("a kubelet's summary cannot be read", error=str(error))
        return _NOTHING
    pods: dict[str, Usage] = {}
    claims: dict[Key, ClaimUse] = {}
    for pod in summary.pods:
        nanos = [one.cpu.usage_core_nano_seconds for one in pod.containers]
        memory = [one.memory.working_set_bytes for one in pod.containers]
        for volume in pod.volume:
            if volume.pvc_ref is not None and volume.used_bytes is not None:
                claims[volume.pvc_ref.namespace, volume.pvc_ref.name] = ClaimUse(
                    volume.used_bytes, volume.capacity_bytes or 0, volume.available_bytes or 0
                )
        if not pod.containers or None in nanos or None in memory:
            continue
        pods[pod.pod_ref.uid] = Usage(
            cpu_seconds=sum(filter(None, nanos)) / 10**9,
            memory_bytes=sum(filter(None, memory)),
            container_disk_bytes=pod.ephemeral_storage.used_bytes or 0,
        )
    return NodeUse(pods, claims)
