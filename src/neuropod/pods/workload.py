"""What a runtime is asked to run for an incarnation: rows and secrets in, `contract.Workload` out, pure.

Called by service.workload, for the loop, between Open and Ensure and again after a crash: the same rows give the same
workload.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuropod.catalogue.devices import NO_DEVICES, Finder
from neuropod.ids import UserId, VolumeId
from neuropod.kit.secrets import Secret
from neuropod.pods.records import PodRow
from neuropod.pods.room import BYTES_PER_GB
from neuropod.pods.rules import JUPYTER_PORT
from neuropod.runtimes.contract import (
    Readiness,
    Recipe,
    RegistryCredential,
    Resources,
    VolumeMount,
    Workload,
    WorkloadId,
)
from neuropod.templates.snapshot import TemplateSnapshot
from neuropod.volumes.records import VolumeRow
from neuropod.words import JupyterMode, ReadyWhen


@dataclass(frozen=True, slots=True)
class Secrets:
    """The pod's secrets, opened at the last moment."""

    env: Mapping[str, Secret]
    jupyter_token: Secret | None


@dataclass(frozen=True, slots=True)
class Lacking:
    """Stands for a workload that cannot be made: secrets that the pod names, and its owner does not have."""

    secrets: tuple[str, ...]

    @property
    def message(self) -> str:
        """The sentence without its end, for the pod's status."""
        return f"there is no secret {', '.join(self.secrets)}"


@dataclass(frozen=True, slots=True)
class Pull:
    """How an image is pulled."""

    credential: RegistryCredential | None = None
    always: bool = False  # it is asked for anew at each start: somebody has private images at its registry


PLAIN_PULL = Pull()


@dataclass(frozen=True, slots=True)
class Attached:
    """What hangs on the pod: its owner's hash, volume and ports, the GPUs given to the incarnation, type and image."""

    owner_hash: str
    volume: VolumeRow | None = None
    ports: Sequence[int] = ()
    devices: Sequence[str] = ()
    finder: Finder = NO_DEVICES
    pull: Pull = PLAIN_PULL


def workload_of(
    workload_id: WorkloadId,
    pod: PodRow,
    attached: Attached,
    secrets: Secrets,
    *,
    runs_recipes: bool,
    stop_grace_seconds: int,
) -> Workload:
    """Return the workload. `runs_recipes`: where the template has a recipe, it is run rather than the image."""
    snapshot = TemplateSnapshot.from_json(pod.template)
    recipe = recipe_of(pod.image, snapshot) if runs_recipes else None
    own_command = tuple(pod.command) if pod.command is not None else None
    return Workload(
        id=workload_id,
        pod_name=pod.name,
        owner=UserId(pod.owner_id),
        owner_hash=attached.owner_hash,
        image=None if recipe is not None else pod.image,
        recipe=recipe,
        command=own_command or (snapshot.command if recipe is None else None),
        env=environment(pod, snapshot, secrets),
        resources=Resources(
            cpu_cores=pod.cpu_cores,
            memory_bytes=pod.memory_gb * BYTES_PER_GB,
            container_disk_bytes=pod.container_disk_gb * BYTES_PER_GB,
            devices=tuple(attached.devices),
            gpu_resource=attached.finder.gpu_resource if attached.devices else "",
            node_selector=dict(attached.finder.node_selector),
        ),
        volume=_mount(attached.volume),
        ports=tuple(sorted(attached.ports)),
        readiness=readiness_of(snapshot, JupyterMode(pod.jupyter)),
        stop_grace_seconds=stop_grace_seconds,
        pull_credential=None if recipe is not None else attached.pull.credential,
        always_pull=recipe is None and attached.pull.always,
    )


def recipe_of(image: str | None, snapshot: TemplateSnapshot) -> Recipe | None:
    """Return the template's recipe; none when the pod's image is not the template's any more."""
    recipe = snapshot.recipe
    if recipe is None or image != snapshot.image:
        return None
    return Recipe(
        packages=recipe.packages, command=recipe.command, shared_cache=snapshot.shared, author=snapshot.author_id
    )


def environment(pod: PodRow, snapshot: TemplateSnapshot, secrets: Secrets) -> dict[str, Secret]:
    """Return the environment: the template's, over it the owner's, over both the platform's."""
    platform = {"NEUROPOD_POD_ID": Secret(pod.id), "NEUROPOD_POD_NAME": Secret(pod.name)}
    if pod.jupyter == JupyterMode.PLATFORM and secrets.jupyter_token is not None:
        platform["JUPYTER_TOKEN"] = secrets.jupyter_token
    return {name: Secret(value) for name, value in snapshot.env.items()} | dict(secrets.env) | platform


def readiness_of(snapshot: TemplateSnapshot, jupyter: JupyterMode) -> Readiness:
    """Return when the pod counts as ready: as the template says; a plain image with Jupyter when Jupyter answers."""
    if snapshot.ready_when is ReadyWhen.PORT and snapshot.ready_port is not None:
        return Readiness(ReadyWhen.PORT, snapshot.ready_port, snapshot.ready_http)
    if not snapshot.name and jupyter is not JupyterMode.OFF:
        return Readiness(ReadyWhen.PORT, JUPYTER_PORT)
    return Readiness(ReadyWhen.PROCESS)


def _mount(volume: VolumeRow | None) -> VolumeMount | None:
    if volume is None:
        return None
    return VolumeMount(VolumeId(volume.id), volume.name, volume.size_gb * BYTES_PER_GB, made=volume.made_at is not None)
