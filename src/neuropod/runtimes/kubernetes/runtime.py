"""Pods on a Kubernetes cluster: the contract, put together from the modules beside it. Made by `runtimes.registry`.

It keeps no truth: what is there is asked of the cluster, and what has to be remembered of a Pod stands on the Pod, so
that every server of the installation tells the same. What it keeps are watches, which say where to look and nudge.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import structlog

from neuropod.ids import InstallationId, PodId, RuntimeId, VolumeId
from neuropod.kit.clock import Clock
from neuropod.kit.tasks import FailureHook, TaskSet
from neuropod.kube.access import Access, in_cluster
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import AccessError
from neuropod.kube.kubeconfig import from_kubeconfig
from neuropod.runtimes.contract import (
    Capability,
    Capacity,
    Connection,
    LogLine,
    LogQuery,
    Place,
    Report,
    RuntimeUnavailableError,
    Seen,
    Workload,
    WorkloadId,
)
from neuropod.runtimes.execution import ExecRequest, Execution
from neuropod.runtimes.kubernetes.asking import asking
from neuropod.runtimes.kubernetes.cluster import Cluster, open_cluster
from neuropod.runtimes.usage import Usage
from neuropod.runtimes.volumes import VolumeUse
from neuropod.settings import ClusterSettings, LimitSettings
from neuropod.words import Reason

log = structlog.get_logger(__name__)


class KubernetesRuntime:
    """Runs pods on one cluster."""

    def __init__(
        self,
        installation: InstallationId,
        settings: ClusterSettings,
        limits: LimitSettings,
        data_dir: Path,
        clock: Clock,
    ) -> None:
        self._installation = installation
        self._settings = settings
        self._limits = limits
        self._data_dir = data_dir.absolute()
        self._clock = clock
        self._client: KubeClient | None = None
        self._cluster: Cluster | None = None
        self._tasks = TaskSet(_Told())

    @property
    def id(self) -> RuntimeId:
        """Its id; RuntimeUnavailableError until it was opened: only the cluster knows it."""
        return self._open_one.id

    @property
    def capabilities(self) -> frozenset[Capability]:
        can = {
            Capability.IMAGES,
            Capability.EXEC,
            Capability.USAGE,
            Capability.VOLUMES,
            Capability.GPU_RESOURCES,
        }
        isolates = self._cluster is not None and self._cluster.isolates
        return frozenset(can | ({Capability.TENANT_ISOLATION} if isolates else set()))

    @property
    def _open_one(self) -> Cluster:
        if self._cluster is None:
            raise RuntimeUnavailableError(f"the cluster {self._settings.name} was not opened")
        return self._cluster

    @property
    def client(self) -> KubeClient:
        """The cluster's API, for who carries traffic to ports there (reconcile.ingress)."""
        if self._client is None:
            raise RuntimeUnavailableError(f"the cluster {self._settings.name} was not opened")
        return self._client

    # ---- opening and closing

    async def open(self) -> None:
        try:
            self._client = KubeClient(self._access(), self._clock)
            with asking():
                self._cluster = await open_cluster(
                    self._client,
                    self._installation,
                    self._settings,
                    self._limits,
                    self._data_dir,
                    self._clock,
                    self._tasks,
                )
        except AccessError as error:
            raise RuntimeUnavailableError(str(error)) from error

    def _access(self) -> Access:
        if self._settings.kubeconfig is not None:
            return from_kubeconfig(self._settings.kubeconfig, self._settings.context)
        access = in_cluster()
        if access is None:
            raise RuntimeUnavailableError("this server does not run in a cluster (in_cluster is set)")
        return access

    async def aclose(self) -> None:
        await self._tasks.aclose()
        if self._cluster is not None:
            await self._cluster.aclose()
        if self._client is not None:
            await self._client.aclose()
        self._cluster = self._client = None

    # ---- looking

    async def observe(self, workload_id: WorkloadId) -> Seen | None:
        cluster = self._open_one
        pod = await cluster.standing.look(workload_id)
        return None if pod is None else await cluster.standing.tell(pod)

    async def list_seen(self) -> Sequence[Seen]:
        cluster = self._open_one
        return await cluster.standing.tell_all(await cluster.standing.list_all())

    def logs(self, workload_id: WorkloadId, query: LogQuery) -> AsyncIterator[LogLine]:
        return self._open_one.logs.lines(workload_id, query)

    async def capacity(self) -> Capacity:
        cluster = self._open_one
        with asking():
            return await cluster.capacity.now()

    async def usage(self, workload_ids: Sequence[WorkloadId]) -> Mapping[WorkloadId, Usage]:
        cluster = self._open_one
        running = {}
        for workload_id in workload_ids:
            if (pod := await cluster.standing.running(workload_id)) is not None:
                running[workload_id] = pod
        told = await cluster.stats.pods(pod.spec.node_name for pod in running.values())
        return {one: told[pod.metadata.uid] for one, pod in running.items() if pod.metadata.uid in told}

    async def report(self) -> Report:
        return self._open_one.report()

    async def watch(self) -> AsyncIterator[PodId]:
        async for pod in self._open_one.watch.nudges.follow():
            yield pod

    # ---- verbs

    async def ensure(self, workload: Workload) -> None:
        cluster = self._open_one
        with cluster.capacity.coming(workload):
            await cluster.making.ensure(workload)

    async def stop(self, workload_id: WorkloadId, *, grace_seconds: int, reason: Reason) -> None:  # noqa: ARG002
        """Pass the wish on; the caller counts the grace, the Pod has its own, as long."""
        await self._open_one.ending.stop(workload_id, reason)

    async def kill(self, workload_id: WorkloadId, *, reason: Reason) -> None:
        await self._open_one.ending.kill(workload_id, reason)

    async def remove(self, workload_id: WorkloadId, place: Place | None = None) -> None:
        await self._open_one.ending.remove(workload_id, place)

    async def forget(self, workload_id: WorkloadId) -> None:
        await self._open_one.logs.forget(workload_id.pod)
        self._open_one.watch.forget(workload_id.pod)

    async def connect(self, workload_id: WorkloadId, port: int) -> Connection:
        return await self._open_one.ports.connect(workload_id, port)

    async def exec(self, workload_id: WorkloadId, request: ExecRequest) -> Execution:
        return await self._open_one.execs.start(workload_id, request)

    # ---- volumes

    async def volume_use(self, volume_ids: Sequence[VolumeId]) -> Mapping[VolumeId, VolumeUse | None]:
        return await self._open_one.claims.use(volume_ids)

    async def grow_volume(self, volume_id: VolumeId, size_bytes: int) -> bool:
        return await self._open_one.claims.grow(volume_id, size_bytes)

    async def remove_volume(self, volume_id: VolumeId) -> None:
        await self._open_one.claims.remove(volume_id)


class _Told(FailureHook):
    """Writes down what failed: a task here serves one pod, and none takes the server down with it."""

    def __call__(self, name: str, error: BaseException) -> None:
        super().__call__(name, error)
        log.error("a task of the cluster's failed", task=name, exc_info=error)
