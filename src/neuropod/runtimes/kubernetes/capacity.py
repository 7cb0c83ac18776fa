"""What of a cluster can be promised to pods: its nodes, less what others take. Called by `runtime.capacity`.

A look at others' Pods is a list of the whole cluster, so it serves for some seconds.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from neuropod.ids import InstallationId, VolumeId
from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.informer import Key
from neuropod.kube.kinds import PODS
from neuropod.runtimes.contract import Amounts, Capacity, Device, HostRoom, Workload, WorkloadId
from neuropod.runtimes.hosts import likely_host, with_less
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.bound import BoundVolumes, hosts_of, kept_on, mounted_on
from neuropod.runtimes.kubernetes.nodes import allocatable, answers, free_by_node, label_of, minus, plus, takes_pods
from neuropod.runtimes.kubernetes.objects import Ways, device_name, host_of
from neuropod.runtimes.kubernetes.reasons import Free, requests_of
from neuropod.runtimes.kubernetes.seen import is_ended, is_unplaced
from neuropod.runtimes.kubernetes.shapes import NodeShape, PodShape
from neuropod.runtimes.kubernetes.watching import ClusterWatch

# What vendors' device plugins call their GPUs, and the label by which their discovery names the model.
GPU_RESOURCES = ("nvidia.com/gpu", "nvidia.com/mig-*", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe")
MODEL_LABELS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "amd.com/gpu.device-id", "gpu.intel.com/product")
_OTHERS_SECONDS = 10.0
_NOTHING = Free(0, 0, 0, {})
_COMING_SECONDS = 30.0  # a Pod that the watch has not told of so long after it was made is none any more


@dataclass(frozen=True, slots=True)
class Coming:
    """What will take something of a node that is not known yet."""

    amounts: Amounts
    devices: Sequence[str]
    volume: VolumeId | None


class TakenOfNodes:
    """What our Pods take of each node, counted as they come and go: to sum it up anew is slow with thousands."""

    def __init__(self) -> None:
        self.by_node: dict[str, Free] = {}

    def changed(self, before: PodShape | None, now: PodShape | None) -> None:
        """Take a change in. What a Pod takes of its node never changes, but for when it ends."""
        was, stands = _node_taken(before), _node_taken(now)
        if was == stands:
            return
        if before is not None and was:
            self.by_node[was] = minus(self.by_node.get(was, _NOTHING), requests_of(before))
        if now is not None and stands:
            self.by_node[stands] = plus(self.by_node.get(stands, _NOTHING), requests_of(now))


class ClusterCapacity:
    """One cluster's capacity."""

    def __init__(
        self,
        client: KubeClient,
        watch: ClusterWatch,
        bound: BoundVolumes,
        installation: InstallationId,
        clock: Clock,
        ways: Ways,
    ) -> None:
        self._client = client
        self._watch = watch
        self._bound = bound
        self._installation = installation
        self._clock = clock
        self._ways = ways
        self._others: tuple[float, list[PodShape]] | None = None
        self._taken = TakenOfNodes()
        self._coming: dict[WorkloadId, tuple[float, Workload]] = {}
        self._lock = asyncio.Lock()

    async def now(self) -> Capacity:
        """Return what can be promised in all. Raises what the client raises."""
        others, ours, nodes = await self._pods_of_others(), list(self._watch.pods()), list(self._watch.nodes())
        told = capacity_of(nodes, others, ours, self._ways, self._taken.by_node)
        mounted = {} if self._ways.shared_volumes else mounted_on(ours)
        kept = kept_on(self._watch.claims(), self._bound, nodes)
        told = replace(told, volume_hosts=hosts_of(mounted, kept, told.hosts))
        return replace(told, hosts=with_coming(told, [*self._coming_soon(), *unplaced(ours, self._ways)]))

    @contextmanager
    def coming(self, workload: Workload) -> Iterator[None]:
        """Count a workload that is being made, until the watch has its Pod, or it could not be made.

        The first of a user takes seconds, in which all that is opened would find the same room.
        """
        self._coming[workload.id] = self._clock.monotonic(), workload
        try:
            yield
        except BaseException:
            self._coming.pop(workload.id, None)
            raise

    def _coming_soon(self) -> Iterator[Coming]:
        latest = self._clock.monotonic() - _COMING_SECONDS
        for workload_id, (since, workload) in list(self._coming.items()):
            place = names.namespace_of(workload.owner_hash), names.pod_of(workload)
            if since < latest or self._watch.at(place) is not None:
                del self._coming[workload_id]
                continue
            wanted = workload.resources
            amounts = Amounts(wanted.cpu_cores, wanted.memory_bytes, wanted.container_disk_bytes)
            yield Coming(amounts, wanted.devices, None if workload.volume is None else workload.volume.id)

    async def free(self) -> dict[str, Free]:
        """Return what each node that takes pods has left. Raises what the client raises."""
        others = await self._pods_of_others()
        return free_by_node(self._watch.nodes(), [*others, *self._watch.pods()])

    def pod_changed(self, _: Key, before: PodShape | None, now: PodShape | None) -> None:
        """Count what our Pods take of their nodes, as the watch tells it."""
        self._taken.changed(before, now)

    async def _pods_of_others(self) -> list[PodShape]:
        async with self._lock:  # many ask at once, one asks the cluster
            now = self._clock.monotonic()
            if self._others is None or now - self._others[0] > _OTHERS_SECONDS:
                selector = f"{names.INSTALLATION}!={self._installation}"
                fields = "status.phase!=Succeeded,status.phase!=Failed"
                self._others = now, (await self._client.list_at(PodShape, PODS, labels=selector, fields=fields))[0]
            return self._others[1]


def capacity_of(
    nodes: Iterable[NodeShape],
    others: Iterable[PodShape],
    ours: Sequence[PodShape],
    ways: Ways,
    taken: Mapping[str, Free],
) -> Capacity:
    """Return what the nodes that take pods have in all, less what others' Pods take there, without volumes; pure.

    `taken`: what ours take of each node.
    """
    by_node: dict[str, list[Free]] = {}
    for pod in others:
        if pod.spec.node_name and not is_ended(pod):
            by_node.setdefault(pod.spec.node_name, []).append(requests_of(pod))
    held = {name for pod in ours if not is_ended(pod) for name in devices_of(pod)}
    cpu_milli = memory_bytes = disk_bytes = 0
    devices: list[Device] = []
    hosts: dict[str, HostRoom] = {}
    for node in sorted(nodes, key=lambda one: one.metadata.name):
        left = allocatable(node)
        for theirs in by_node.get(node.metadata.name, ()):
            left = minus(left, theirs)
        if takes_pods(node):
            cpu_milli += max(0, left.cpu_milli)
            memory_bytes += max(0, left.memory_bytes)
            disk_bytes += max(0, left.disk_bytes)
            free = minus(left, taken.get(node.metadata.name, _NOTHING))
            hosts[node.metadata.name] = HostRoom(_amounts(left, ways), _amounts(free, ways))
        devices += _devices(node, left, held)
    return Capacity(
        cpu_cores=int(cpu_milli * ways.cpu_overcommit) // 1000,
        memory_bytes=memory_bytes,
        disk_bytes=int(disk_bytes * ways.disk_overcommit),
        devices=tuple(devices),
        volumes_apart=True,
        hosts=hosts,
    )


def unplaced(ours: Iterable[PodShape], ways: Ways) -> Iterator[Coming]:
    """Yield our Pods that no scheduler has looked at yet; those for which it found no room take nothing now."""
    for pod in ours:
        if pod.spec.node_name or is_ended(pod) or is_unplaced(pod) or pod.metadata.deletion_timestamp is not None:
            continue
        volume = pod.metadata.labels.get(names.VOLUME)
        yield Coming(_amounts(requests_of(pod), ways), devices_of(pod), VolumeId(volume) if volume else None)


def with_coming(told: Capacity, coming: Iterable[Coming]) -> Mapping[str, HostRoom]:
    """Return the machines less what will likely be taken there; pure."""
    hosts: Mapping[str, HostRoom] = told.hosts
    for one in coming:
        given = {host_of(device) for device in one.devices}
        tied = told.volume_hosts.get(one.volume) if one.volume is not None else None
        host = likely_host(hosts, one.amounts, given or tied)
        if host is not None:
            hosts = with_less(hosts, host, one.amounts)
    return hosts


def _node_taken(pod: PodShape | None) -> str:
    """Return the node of which a Pod takes something; empty: of none."""
    return "" if pod is None or is_ended(pod) else pod.spec.node_name


def _amounts(free: Free, ways: Ways) -> Amounts:
    return Amounts(
        cpu_cores=int(max(0, free.cpu_milli) * ways.cpu_overcommit) // 1000,
        memory_bytes=max(0, free.memory_bytes),
        disk_bytes=int(max(0, free.disk_bytes) * ways.disk_overcommit),
    )


def _devices(node: NodeShape, left: Free, held: AbstractSet[str]) -> list[Device]:
    """Return a node's GPUs: those that pods of ours have, and as many more as nobody else took.

    Which ones another took nobody tells, so they are those of the highest numbers that ours do not have.
    """
    host, told = node.metadata.name, dict(node.metadata.labels)
    made = []
    for resource, whole in sorted(allocatable(node).others.items()):
        if not any(fnmatchcase(resource, pattern) for pattern in GPU_RESOURCES):
            continue
        model = label_of(node, MODEL_LABELS) or resource
        if resource.startswith("nvidia.com/mig-"):
            model = f"{model}-{resource.rpartition('/')[2]}"
        every = [device_name(host, resource, index) for index in range(whole)]
        ours = [name for name in every if name in held]
        more = [name for name in every if name not in held][: max(0, left.others.get(resource, 0) - len(ours))]
        given = ours + more if takes_pods(node) else ours
        trouble = "" if answers(node) else "its node gives no answer"
        made += [
            Device(name=name, model=model, trouble=trouble, host=host, resource=resource, labels=told)
            for name in sorted(given, key=every.index)
        ]
    return made


def devices_of(pod: PodShape) -> list[str]:
    """Return the GPUs that a Pod of ours was given."""
    return [name for name in pod.metadata.annotations.get(names.DEVICES, "").split(",") if name]
