"""Workloads for a real cluster, and a runtime on it for the length of a test. What they run is busybox."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from neuropod.ids import InstallationId, PodId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kit.secrets import Secret
from neuropod.kube.errors import KubeError
from neuropod.kube.kinds import NAMESPACES, PODS, ROLE_BINDINGS
from neuropod.runtimes.contract import Readiness, Resources, Workload, WorkloadId
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from neuropod.settings import ClusterSettings, LimitSettings
from neuropod.words import ReadyWhen
from support.cluster_account import account_kubeconfig, admin_client

BUSYBOX = "neuropod.test/busybox:1"
DEBIAN = "neuropod.test/jupyterlab:1"  # with bash, as most images; its prompt is for root, unless one says another
PORT = 8888
SECRET = "conformance-secret-5d41402abc4b2a76"

SLEEP = "exec sleep 3600"
SERVE = f"mkdir -p /www; echo WHO > /www/index.html; exec httpd -f -p {PORT} -h /www"


def cluster_settings(**changes: object) -> ClusterSettings:
    """Return settings for the cluster of the tests, which runs far more pods than it has cores for."""
    usual = ClusterSettings(
        name="test",
        kubeconfig=account_kubeconfig(),
        reach="direct",
        cpu_overcommit=20,
        disk_overcommit=20,
        canary_image=BUSYBOX,
        gateway_networks=("172.31.77.1/32",),  # where the tests stand; see tools/cluster/places.py
    )
    return usual.model_copy(update=changes)


def shell(
    script: str,
    *,
    installation: InstallationId,
    owner: UserId,
    pod: PodId | None = None,
    incarnation: int = 1,
    port: int | None = None,
    image: str = BUSYBOX,
    env: Mapping[str, str] | None = None,
) -> Workload:
    """Return a workload that runs a script of busybox's shell; with `port` it is ready when that speaks HTTP."""
    pod = pod or PodId(new_id("pod"))
    workload_id = WorkloadId(installation, pod, incarnation)
    return Workload(
        id=workload_id,
        pod_name=f"p{pod.rpartition('_')[2]}",
        owner=owner,
        owner_hash=user_hash(owner),
        image=image,
        recipe=None,
        command=("sh", "-c", script.replace("WHO", str(workload_id))),
        env={
            name: Secret(value) for name, value in (env or {"THE_SECRET": SECRET, "PROMPT_COMMAND": "PS1='$ '"}).items()
        },
        resources=Resources(cpu_cores=1, memory_bytes=64 << 20, container_disk_bytes=256 << 20),
        volume=None,
        ports=(PORT,),
        readiness=Readiness(ReadyWhen.PROCESS) if port is None else Readiness(ReadyWhen.PORT, port),
    )


@asynccontextmanager
async def opened(
    data_dir: Path, installation: InstallationId, settings: ClusterSettings | None = None, *, keep: bool = False
) -> AsyncIterator[KubernetesRuntime]:
    """Open a runtime of an installation; unless `keep`, all that it made is gone afterwards."""
    runtime = KubernetesRuntime(installation, settings or cluster_settings(), LimitSettings(), data_dir, SystemClock())
    await runtime.open()
    try:
        yield runtime
    finally:
        await runtime.aclose()
        if not keep:
            await clear(installation)


async def clear(installation: InstallationId) -> None:
    """Take away all of an installation, with force, and do not wait for it."""
    async with admin_client() as client:
        ours = f"neuropod.io/installation={installation}"
        for pod in await client.list(PODS, labels=ours):
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            with suppress(KubeError):  # gone meanwhile
                await client.merge_patch(PODS, name, namespace, {"metadata": {"finalizers": []}})
                await client.delete(PODS, name, namespace, grace_seconds=0)
        for found in await client.list(NAMESPACES, labels=ours):
            namespace = found["metadata"]["name"]
            with suppress(KubeError):
                await client.merge_patch(ROLE_BINDINGS, "neuropod", namespace, {"metadata": {"finalizers": []}})
            await client.delete(NAMESPACES, namespace)


async def clear_of_users(hashes: Iterable[str]) -> None:
    """Likewise of the installation whose users these are: a server's, which tells no id of its own."""
    async with admin_client() as client:
        found = [await client.get(NAMESPACES, f"neuropod-{one}") for one in hashes]
    for installation in {one["metadata"]["labels"]["neuropod.io/installation"] for one in found if one}:
        await clear(InstallationId(installation))


async def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.05)


def on(workload: Workload, **changes: object) -> Workload:
    """Return the workload with other resources."""
    return replace(workload, resources=replace(workload.resources, **changes))
