"""What objects of ours are called and labelled in a cluster. Pure; the table of DESIGN §4.

Used by all modules here. Service and Ingress names are the ingress adapters'.
"""

from collections.abc import Mapping

from neuropod.ids import InstallationId, PodId, VolumeId
from neuropod.kube.objects import selector
from neuropod.runtimes.contract import Place, VolumeMount, Workload, WorkloadId

# Labels.
INSTALLATION = "neuropod.io/installation"
POD = "neuropod.io/pod"
INCARNATION = "neuropod.io/incarnation"
VOLUME = "neuropod.io/volume"  # on a claim: which it is; on a Pod: which it has
CANARY = "neuropod.io/canary"
CANARY_OF = "neuropod.io/canary-of"  # an annotation: whose it is
APP = "app"  # the pod's name
USER = "user"  # the owner's hash

# Annotations.
USER_ID = "neuropod.io/user-id"
VOLUME_NAME = "neuropod.io/volume-name"
READY_WHEN = "neuropod.io/ready-when"  # `process`, `tcp:8888`, `http:8888`
READY_AT = "neuropod.io/ready-at"
DEVICES = "neuropod.io/devices"  # the GPUs that it was given, by our names, with commas between
STOPPING_AT = "neuropod.io/stopping-at"
STOP_REASON = "neuropod.io/stop-reason"
KILLED_AT = "neuropod.io/killed-at"
STOP_MESSAGE = "neuropod.io/stop-message"  # what was wrong with one that was stopped before it ran

# Keeps the Pod's object, with exit code and times, until we have read them.
FINALIZER = "neuropod.io/end"

CONTAINER = "main"


def namespace_of(owner_hash: str) -> str:
    """Return the namespace of a user."""
    return f"neuropod-{owner_hash}"


def pod_of(workload: Workload | Place) -> str:
    """Return the name of the Pod, the same for all incarnations: the place is one."""
    return f"{workload.pod_name}-{workload.owner_hash}"


def secret_of(workload: Workload | Place) -> str:
    """Return the name of the Secret with the environment."""
    return f"{pod_of(workload)}-env"


def registry_secret_of(workload: Workload | Place) -> str:
    """Return the name of the Secret with the registry's credentials."""
    return f"{pod_of(workload)}-registry"


def claim_of(volume: VolumeMount, owner_hash: str, *, by_id: bool = False) -> str:
    """Return the name of a volume's claim.

    `by_id` where the class keeps the data of deleted claims: a name that comes again could find them (SECURITY 16).
    """
    if by_id:
        return f"{volume.name}-{volume.id.rpartition('_')[2]}"
    return f"{volume.name}-{owner_hash}"


def pod_labels(workload: Workload) -> dict[str, str]:
    """Return the labels of the Pod."""
    labels = {
        APP: workload.pod_name,
        USER: workload.owner_hash,
        INSTALLATION: workload.id.installation,
        POD: workload.id.pod,
        INCARNATION: str(workload.id.incarnation),
    }
    if workload.volume is not None:
        labels[VOLUME] = workload.volume.id
    return labels


def selector_of_installation(installation: InstallationId) -> str:
    """Return the selector of all that is ours."""
    return selector({INSTALLATION: installation})


def selector_of_pod(installation: InstallationId, pod: PodId) -> str:
    """Return the selector of a pod's Pods, of whatever incarnation."""
    return selector({INSTALLATION: installation, POD: pod})


def selector_of_volume(installation: InstallationId, volume: VolumeId) -> str:
    """Return the selector of a volume's claim, and of the Pods that have it."""
    return selector({INSTALLATION: installation, VOLUME: volume})


def workload_of(labels: Mapping[str, str]) -> WorkloadId | None:
    """Return which incarnation a Pod is; None when its labels do not say."""
    number = labels.get(INCARNATION, "")
    if not (labels.get(INSTALLATION) and labels.get(POD) and number.isascii() and number.isdigit()):
        return None
    return WorkloadId(InstallationId(labels[INSTALLATION]), PodId(labels[POD]), int(number))
