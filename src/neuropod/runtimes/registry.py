"""Which runtimes this server has: the one place that names concrete ones.

Called by `server`, which opens them (`opened.Runtimes`); one that cannot be opened is tried again.
"""

from functools import partial

from neuropod.ids import InstallationId, RuntimeId
from neuropod.kit.clock import Clock
from neuropod.runtimes.contract import Device
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.runtimes.fake.world import FakeWorld
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.runtimes.opened import PlannedRuntime
from neuropod.settings import ClusterSettings, Settings

# So that all that is about GPUs can be tried where there is none.
_FAKE_GPUS = (
    Device("GPU-fake-0", "NVIDIA GeForce RTX 4090", 24 * 2**30),
    Device("GPU-fake-1", "NVIDIA GeForce RTX 4090", 24 * 2**30),
    Device("GPU-fake-2", "NVIDIA GeForce RTX 4070", 12 * 2**30),
)


def planned_runtimes(settings: Settings, installation: InstallationId, clock: Clock) -> list[PlannedRuntime]:
    """Return the runtimes that settings ask for, in the order in which they are preferred; none is built yet."""
    if settings.fake_runtime:
        world = FakeWorld(clock, devices=_FAKE_GPUS)
        return [PlannedRuntime("fake", lambda: FakeRuntime(installation, world, settings.fake_runtime_name))]
    planned = []
    if settings.runs_local_pods:
        local, limits, folder = settings.local, settings.limits, settings.data_dir
        planned.append(PlannedRuntime("local", lambda: LocalRuntime(installation, local, limits, folder)))
    clusters = (
        PlannedRuntime(cluster.name, partial(_kubernetes, cluster, settings, installation, clock))
        for cluster in settings.clusters
    )
    return [*planned, *clusters]


def _kubernetes(
    cluster: ClusterSettings, settings: Settings, installation: InstallationId, clock: Clock
) -> KubernetesRuntime:
    return KubernetesRuntime(installation, cluster, settings.limits, settings.data_dir, clock)


def of_one_machine(runtime_id: RuntimeId) -> bool:
    """Tell whether the runtime's world is one machine (or process), so that one server alone may serve it."""
    return runtime_id.startswith(("local:", "fake:"))
