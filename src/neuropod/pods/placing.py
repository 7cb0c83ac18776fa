"""Where a pod may run: on a runtime that can, on which its type is offered, that has its volume and allows its image.

Called by drafts (launch, edit, quote) and service (start). It looks among the runtimes that this server has opened, in
the order of the settings; a pod never leaves the one that it was made on. How much is free is not its business but
`choice`'s.
"""

from dataclasses import dataclass

from neuropod.accounts.records import UserRow
from neuropod.catalogue.records import GpuTypeRow
from neuropod.ids import RuntimeId
from neuropod.kit.errors import ConflictError, FieldError, ForbiddenError
from neuropod.pods.images import is_allowed
from neuropod.pods.records import PodRow
from neuropod.pods.workload import recipe_of
from neuropod.runtimes.contract import Capability, Runtime
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import ClusterSettings, Settings
from neuropod.templates.snapshot import TemplateSnapshot
from neuropod.volumes.service import Attachment
from neuropod.words import Role


@dataclass(frozen=True, slots=True)
class World:
    """What drafts depend on besides the request: settings, and the runtimes that this server has opened."""

    settings: Settings
    runtimes: Runtimes

    def cluster_of(self, runtime_id: RuntimeId) -> ClusterSettings | None:
        """Return the settings of a runtime that is a cluster of theirs."""
        name = self.runtimes.name_of(runtime_id)
        return next((cluster for cluster in self.settings.clusters if cluster.name == name), None)

    def told(self, runtime_id: RuntimeId | None) -> str:
        """Return what people call a runtime."""
        return (None if runtime_id is None else self.runtimes.name_of(runtime_id)) or "another machine or cluster"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to find its place; None: the pod has none of it, or an edit leaves it."""

    image: str | None
    snapshot: TemplateSnapshot
    gpu_type: GpuTypeRow | None
    volume: Attachment | None

    @property
    def field(self) -> str:
        """The field of a request that names what is run."""
        return "template" if self.snapshot.name and self.image == self.snapshot.image else "image"


def places_for(world: World, wanted: Wanted, owner: UserRow) -> tuple[list[Runtime], list[FieldError]]:
    """Return the runtimes where all that is wanted goes together; of none, the first thing that goes nowhere."""
    able = [one for one in world.runtimes.values() if _can_run(one, wanted)]
    if not able:
        what = f"template {wanted.snapshot.name!r} needs" if wanted.field == "template" else "an image needs"
        sentence = (
            f"{what} a runtime that runs container images, and none is connected here; "
            "choose a template that runs without one, such as jupyterlab"
        )
        return [], [FieldError(wanted.field, "no_runtime", sentence)]
    offering = [one for one in able if wanted.gpu_type is None or _is_offered(world, wanted.gpu_type, one)]
    if wanted.gpu_type is not None and not offering:
        return [], [FieldError("gpu_type", "no_runtime", _why_not_offered(world, wanted.gpu_type))]
    allowing = [one for one in offering if _allows(world, one, wanted, owner)]
    if not allowing:
        return [], [_not_allowed(wanted.field, world.told(offering[0].id))]
    home = wanted.volume.runtime_id if wanted.volume is not None else None
    if places := [one for one in allowing if home in {None, one.id}]:
        return places, []
    sentence = (
        f"this volume lives on {world.told(home)}, and this pod would run on {world.told(allowing[0].id)}; "
        "attach another volume (a new name makes one), or none"
    )
    return [], [FieldError("volume.name", "elsewhere", sentence)]


def wrong_there(world: World, pod: PodRow, wanted: Wanted, owner: UserRow) -> list[FieldError]:
    """Return what of an edit does not go where the pod is."""
    runtime_id = RuntimeId(pod.runtime_id)
    here, told = world.runtimes.get(runtime_id), world.told(runtime_id)
    wrong = []
    if wanted.image is not None and here is not None and not _can_run(here, wanted):
        wrong.append(FieldError("image", "no_runtime", f"this pod is on {told}, which runs no container images"))
    elif wanted.image is not None and here is not None and not _allows(world, here, wanted, owner):
        wrong.append(_not_allowed("image", told))
    if wanted.gpu_type is not None and not may_have_type(world, pod, wanted.gpu_type):
        sentence = f"this pod is on {told}, where GPU type {wanted.gpu_type.name!r} is not offered"
        wrong.append(FieldError("gpu_type", "no_runtime", sentence))
    if wanted.volume is not None and wanted.volume.runtime_id not in {None, runtime_id}:
        sentence = (
            f"this volume lives on {world.told(wanted.volume.runtime_id)}, and this pod on {told}; "
            "attach another volume (a new name makes one), or none"
        )
        wrong.append(FieldError("volume.name", "elsewhere", sentence))
    return wrong


def away_for(world: World, gpu_type: GpuTypeRow) -> list[str]:
    """Return the names of runtimes that are not open now and on which the type is offered."""
    return [name for name in world.runtimes.unopened if gpu_type.offered_on(name)]


def may_have_type(world: World, pod: PodRow, gpu_type: GpuTypeRow) -> bool:
    """Tell whether a type is offered where a pod is; while that is away, as far as is known."""
    here = world.runtimes.get(RuntimeId(pod.runtime_id))
    if here is not None:
        return _is_offered(world, gpu_type, here)
    return gpu_type.offered_on(world.runtimes.name_of(RuntimeId(pod.runtime_id)))


def require_allowed_image(world: World, pod: PodRow, owner: UserRow) -> None:
    """Raise ConflictError where the pod is by an image that its cluster's list allows no more (SECURITY 15)."""
    here = world.runtimes.get(RuntimeId(pod.runtime_id))
    wanted = Wanted(pod.image, TemplateSnapshot.from_json(pod.template), None, None)
    if here is not None and not _allows(world, here, wanted, owner):
        sentence = f"{_not_allowed('image', world.told(here.id)).message} any more; change the pod's image"
        raise ConflictError(sentence, code="image_not_allowed")


def require_isolation(world: World, runtime: Runtime, owner: UserRow) -> None:
    """Raise ForbiddenError where the runtime cannot keep pods apart and the owner is no administrator (SECURITY 7, 14).

    What a cluster's settings accept, its runtime counts as kept apart.
    """
    if Capability.TENANT_ISOLATION in runtime.capabilities or owner.role == Role.ADMIN:
        return
    if world.cluster_of(runtime.id) is not None:
        sentence = (
            f"cluster {world.told(runtime.id)} does not keep pods apart, so only administrators run pods there "
            "(see neuropod doctor)"
        )
        raise ForbiddenError(sentence, code="no_isolation")
    if not world.settings.local.accept_no_isolation:
        sentence = "this machine cannot keep pods apart, so only administrators run pods here (see neuropod doctor)"
        raise ForbiddenError(sentence, code="no_isolation")


def _can_run(runtime: Runtime, wanted: Wanted) -> bool:
    abilities = runtime.capabilities
    if recipe_of(wanted.image, wanted.snapshot) is not None and Capability.RECIPES in abilities:
        return True
    return wanted.image is not None and Capability.IMAGES in abilities


def _allows(world: World, runtime: Runtime, wanted: Wanted, owner: UserRow) -> bool:
    """Tell whether the owner may run the image there; what an administrator's template names, everybody may."""
    cluster = world.cluster_of(runtime.id)
    if cluster is None or wanted.image is None or owner.role == Role.ADMIN:
        return True
    of_administrator = wanted.snapshot.shared and wanted.image == wanted.snapshot.image
    return of_administrator or is_allowed(wanted.image, cluster.images)


def _not_allowed(field: str, told: str) -> FieldError:
    return FieldError(field, "not_allowed", f"this image is not among those that may be run on {told}")


def _is_offered(world: World, gpu_type: GpuTypeRow, runtime: Runtime) -> bool:
    return gpu_type.offered_on(world.runtimes.name_of(runtime.id)) and gpu_type.found_by(runtime.capabilities)


def _why_not_offered(world: World, gpu_type: GpuTypeRow) -> str:
    name, named = gpu_type.name, ", ".join(gpu_type.runtimes)
    away = [one for one in gpu_type.runtimes if one in world.runtimes.unopened]
    if away:
        return f"GPU type {name!r} is offered on {named}, which gives no answer now; try again later"
    if named:
        return f"GPU type {name!r} is offered on {named} alone, where this pod cannot run"
    return f"no runtime that could run this pod has GPUs of type {name!r}"
