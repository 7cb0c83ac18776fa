"""Whether commands can run in a pod beside its own process, and where: what `exec_pod` and open terminals ask.

Called by service. Facts in, an Entrance out, or the error that says why not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from neuropod.ids import InstallationId, PodId, RuntimeId
from neuropod.kit.errors import ConflictError, UnsupportedError
from neuropod.pods.views import PodView
from neuropod.runtimes.contract import Capability, Runtime, WorkloadId
from neuropod.words import Status, Want


@dataclass(frozen=True, slots=True)
class Entrance:
    """The run that commands come into now."""

    pod_id: PodId
    runtime: Runtime
    workload_id: WorkloadId


def entrance_of(view: PodView, runtimes: Mapping[RuntimeId, Runtime], installation_id: InstallationId) -> Entrance:
    """Return the entrance of a pod whose process runs and shall run.

    Raises ConflictError `not_running`, or `no_server` where no server serves its runtime, and UnsupportedError.
    """
    runtime = runtimes.get(view.runtime_id)
    if runtime is None:
        raise ConflictError("no server is connected to this pod's machine or cluster now", code="no_server")
    if Capability.EXEC not in runtime.capabilities:
        raise UnsupportedError("commands cannot be run in pods on this machine or cluster")
    run = view.incarnation
    shall_run = view.pod.want == Want.RUNNING and view.shown.status is not Status.STOPPING
    if run is None or run.started_at is None or run.ended_at is not None or not shall_run:
        raise ConflictError(
            f"pod {view.pod.name} is {view.shown.status}: commands run in it while its own process does",
            code="not_running",
        )
    return Entrance(view.id, runtime, WorkloadId(installation_id, view.id, run.number))
