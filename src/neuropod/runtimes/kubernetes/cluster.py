"""One opened cluster: who it is, what it can, and the parts that work on it. Made by `runtime.open`."""

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from neuropod.ids import InstallationId, RuntimeId
from neuropod.kit.clock import Clock
from neuropod.kit.identifiers import user_hash
from neuropod.kit.tasks import TaskSet
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import KubeError, KubeUnavailableError
from neuropod.kube.kinds import ENDPOINT_SLICES, NAMESPACES
from neuropod.kube.objects import Object
from neuropod.runtimes.contract import Guarantee, Report, RuntimeUnavailableError
from neuropod.runtimes.kubernetes.bound import BoundVolumes
from neuropod.runtimes.kubernetes.canary import Canary
from neuropod.runtimes.kubernetes.capacity import ClusterCapacity
from neuropod.runtimes.kubernetes.ending import Ending
from neuropod.runtimes.kubernetes.execs import Execs
from neuropod.runtimes.kubernetes.fences import Fence
from neuropod.runtimes.kubernetes.logs import ClusterLogs
from neuropod.runtimes.kubernetes.making import Making
from neuropod.runtimes.kubernetes.nodes import is_meant_for_pods
from neuropod.runtimes.kubernetes.objects import Ways
from neuropod.runtimes.kubernetes.pids import PidsLimits
from neuropod.runtimes.kubernetes.probing import Probes
from neuropod.runtimes.kubernetes.reaching import Ports
from neuropod.runtimes.kubernetes.secrets import LateSecrets
from neuropod.runtimes.kubernetes.shapes import NodeShape
from neuropod.runtimes.kubernetes.standing import Standing
from neuropod.runtimes.kubernetes.tenancy import Tenancy, server_subject
from neuropod.runtimes.kubernetes.usage import NodeStats
from neuropod.runtimes.kubernetes.volumes import Claims
from neuropod.runtimes.kubernetes.watching import ClusterWatch
from neuropod.settings import ClusterSettings, LimitSettings

log = structlog.get_logger(__name__)

_SYNC_SECONDS = 10.0
_LOOK_AFTER_SECONDS, _LOOK_AFTER_EACH_SECONDS = 30.0, 0.6
_PROBE_REST_SECONDS = 0.2  # between two looks through the API server
_BYTES_PER_GB = 10**9
_API_PORT = 443


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of the cluster once."""

    uid: str  # of kube-system, which nobody deletes
    version: str
    username: str  # ours
    api_addresses: tuple[str, ...]
    api_port: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """The parts, put together."""

    id: RuntimeId
    facts: Facts
    settings: ClusterSettings
    ways: Ways
    watch: ClusterWatch
    standing: Standing
    capacity: ClusterCapacity
    tenancy: Tenancy
    stats: NodeStats
    claims: Claims
    logs: ClusterLogs
    making: Making
    ending: Ending
    ports: Ports
    execs: Execs
    canary: Canary
    pids: PidsLimits

    @property
    def isolates(self) -> bool:
        """Whether strangers' pods may run here: they are kept apart, or the settings accept that they are not."""
        return self.canary.verdict.holds is True or self.settings.accept_unenforced_policies

    async def aclose(self) -> None:
        """Let go of what is not a task."""
        self.watch.close()
        await self.stats.aclose()

    def report(self) -> Report:
        """Return what the cluster isolates."""
        verdict = self.canary.verdict
        root = (
            "Root in a pod is nobody on its node."
            if self.ways.user_namespaces
            else "Root in a pod is root on its node, held back by dropped capabilities and seccomp alone."
        )
        notes = [f"Kubernetes {self.facts.version}, as {self.facts.username}."]
        if not self.watch.fresh:
            notes.append(f"The watch is cut: {self.watch.problem}.")
        return Report(
            mode="kubernetes",
            guarantees=(
                Guarantee("network", verdict.holds is True, verdict.message),
                Guarantee("users", self.ways.user_namespaces, root),
                self.pids.guarantee,
            ),
            notes=tuple(notes),
        )


async def open_cluster(
    client: KubeClient,
    installation: InstallationId,
    settings: ClusterSettings,
    limits: LimitSettings,
    data_dir: Path,
    clock: Clock,
    tasks: TaskSet,
) -> Cluster:
    """Verify the cluster and take it up. Raises RuntimeUnavailableError and what the client raises."""
    facts = await _facts(client)
    watch = ClusterWatch(client, installation, clock)
    watch.start(tasks)
    bound = BoundVolumes(client, clock)
    tasks.start(bound.run(), name="watch of volumes")
    await watch.synced(_SYNC_SECONDS)
    await bound.known(_SYNC_SECONDS)
    ways = ways_of(settings, watch.nodes())
    subject = server_subject(facts.username)

    def fence() -> Fence:
        return fence_of(settings, facts, watch.nodes(), subject)

    capacity = ClusterCapacity(client, watch, bound, installation, clock, ways)
    standing = Standing(client, watch, capacity, installation, clock, settings.declare_lost_after_seconds)
    tenancy = Tenancy(client, clock, fence)
    stats = NodeStats(client, watch, clock, direct=settings.dials_directly)
    claims = Claims(client, watch, stats, installation, settings, clock)
    logs = ClusterLogs(client, standing, watch, data_dir / "logs" / installation, limits, clock, tasks)
    execs = Execs(client, standing, tasks)
    ports = Ports(client, watch, standing, direct=settings.dials_directly)
    rest = 0.0 if settings.dials_directly else _PROBE_REST_SECONDS
    probes = Probes(client, ports.connect, clock, tasks, rest_seconds=rest)
    for hook in (capacity.pod_changed, logs.pod_changed, probes.pod_changed):
        watch.subscribe(hook)
    asker = user_hash(f"{socket.gethostname()}/{data_dir}/{settings.name}")
    api = facts.api_addresses[0], facts.api_port
    canary = Canary(client, installation, clock, settings.canary_image, api, asker)
    tasks.start(canary.run(fence()), name="canary")
    pids = PidsLimits(stats, watch, clock)
    tasks.start(pids.run(), name="limits of processes")
    making = Making(client, watch, tenancy, claims, installation, ways, clock)
    tasks.start(_look_after(tenancy, making.late, watch, installation, clock), name="fences")
    return Cluster(
        id=RuntimeId(f"kubernetes:{facts.uid}"),
        facts=facts,
        settings=settings,
        ways=ways,
        watch=watch,
        standing=standing,
        capacity=capacity,
        tenancy=tenancy,
        stats=stats,
        claims=claims,
        logs=logs,
        making=making,
        ending=Ending(client, watch, standing, logs, execs, clock),
        ports=ports,
        execs=execs,
        canary=canary,
        pids=pids,
    )


async def _facts(client: KubeClient) -> Facts:
    version, system, review, slices = await asyncio.gather(
        client.version(),
        client.get(NAMESPACES, "kube-system"),
        client.request_json(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
            repeatable=True,
        ),
        client.list(ENDPOINT_SLICES, "default", labels="kubernetes.io/service-name=kubernetes"),
    )
    if system is None:
        raise RuntimeUnavailableError("the cluster has no namespace kube-system, by which it is known")
    addresses, port = _api_endpoints(slices)
    return Facts(
        uid=system["metadata"]["uid"],
        version=str(version.get("gitVersion", "")),
        username=_username(review),
        api_addresses=addresses,
        api_port=port,
    )


def _username(review: Any) -> str:
    return str(review.get("status", {}).get("userInfo", {}).get("username", ""))


def _api_endpoints(slices: list[Object]) -> tuple[tuple[str, ...], int]:
    addresses = [
        address
        for one in slices
        for endpoint in one.get("endpoints") or ()
        for address in endpoint.get("addresses") or ()
    ]
    ports = [port["port"] for one in slices for port in one.get("ports") or () if port.get("port")]
    if not addresses:
        raise RuntimeUnavailableError("the cluster does not say where its API server is")
    return tuple(addresses), ports[0] if ports else _API_PORT


def fence_of(settings: ClusterSettings, facts: Facts, nodes: Any, subject: Object | None) -> Fence:
    """Return what fences users' pods off: as settings say, around the nodes that there are now."""
    networks = {f"{address}/{128 if ':' in address else 32}" for address in facts.api_addresses}
    for node in nodes:
        networks |= set(node.spec.pod_cidrs)
        networks |= {
            f"{one.address}/{128 if ':' in one.address else 32}"
            for one in node.status.addresses
            if one.type in {"InternalIP", "ExternalIP"}
        }
    memory = settings.user_memory_gb
    return Fence(
        gateway_namespace=settings.gateway_namespace,
        gateway_labels=settings.gateway_labels,
        gateway_networks=settings.gateway_networks,
        egress_allow=settings.egress_allow,
        cluster_networks=tuple(sorted(networks)),
        cpu_cores=settings.user_cpu_cores,
        memory_bytes=None if memory is None else memory * _BYTES_PER_GB,
        server=subject,
    )


def ways_of(settings: ClusterSettings, nodes: Iterable[NodeShape]) -> Ways:
    """Return how Pods are made here: as settings say, and as all nodes can that ever take some.

    Those that are not ready count too. A cluster that is back from an outage has no others for a while.
    """
    hosts = [node for node in nodes if is_meant_for_pods(node)]
    can = bool(hosts) and all(node.status.has_user_namespaces for node in hosts)
    return Ways(
        user_namespaces=settings.user_namespaces == "always" or (settings.user_namespaces == "auto" and can),
        runtime_class=settings.runtime_class,
        cpu_overcommit=settings.cpu_overcommit,
        disk_overcommit=settings.disk_overcommit,
        fs_group=settings.fs_group,
        shared_volumes=settings.volume_access == "ReadWriteMany",
    )


async def _look_after(
    tenancy: Tenancy, late: LateSecrets, watch: ClusterWatch, installation: InstallationId, clock: Clock
) -> None:
    def stands(namespace: str) -> bool:
        return not watch.fresh or any(pod.metadata.namespace == namespace for pod in watch.pods())

    count = 0
    while True:
        await clock.sleep(max(_LOOK_AFTER_SECONDS, count * _LOOK_AFTER_EACH_SECONDS))
        try:
            count = await tenancy.look(installation, stands)
        except (KubeError, KubeUnavailableError) as error:
            log.warning("what fences users' pods off could not be looked at", error=str(error))
        try:
            await late.look()
        except (KubeError, KubeUnavailableError) as error:
            log.warning("Secrets that may have come late could not be looked at", error=str(error))
