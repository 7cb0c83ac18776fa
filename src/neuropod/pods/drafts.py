"""From what was asked to what a pod will be: template, defaults, type, volume and runtime, and all that is wrong.

Called by service for launch and edit, under the owner's account lock. Every wrong field is in the one error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuropod.accounts.access import Actor
from neuropod.accounts.records import UserRow
from neuropod.catalogue.records import GpuTypeRow
from neuropod.catalogue.service import gpu_type_on_offer
from neuropod.db.engine import ReadSession
from neuropod.ids import RuntimeId, UserId
from neuropod.kit.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from neuropod.kit.money import Micros
from neuropod.kit.secrets import Secret
from neuropod.pods import rules
from neuropod.pods.launch import UNSET, EditRequest, LaunchRequest, NotSent, VolumeRequest
from neuropod.pods.limits.bounds import AskedLimits, TimeLimits, limits_at_launch, limits_of
from neuropod.pods.records import PodRow
from neuropod.pods.secrets.resolving import wrong_secrets
from neuropod.pods.workload import recipe_of
from neuropod.runtimes.contract import Capability, Runtime
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import Settings
from neuropod.templates.service import show_template, snapshot_of
from neuropod.templates.snapshot import TemplatePort, TemplateSnapshot
from neuropod.volumes.service import Attachment, find_attachment
from neuropod.words import JupyterMode, Role

DEFAULT_GPU_TYPE = "cpu"


@dataclass(frozen=True, slots=True)
class Draft:
    """A pod as it would be, all rules kept."""

    template_id: str | None
    snapshot: TemplateSnapshot
    image: str | None
    command: tuple[str, ...] | None
    gpu_type: GpuTypeRow | None  # None: an edit that leaves it
    gpu_count: int
    container_disk_gb: int
    disk_price: Micros  # of a GB and hour, as it is now
    volume: Attachment | None
    env: Mapping[str, Secret]
    env_secrets: Mapping[str, str]
    jupyter: JupyterMode
    ports: Sequence[TemplatePort]
    runtime_id: RuntimeId
    limits: TimeLimits


@dataclass(frozen=True, slots=True)
class World:
    """What drafts depend on besides the request: settings, and the runtimes that this server has opened."""

    settings: Settings
    runtimes: Runtimes


def refusal(wrong: Sequence[FieldError]) -> InvalidInputError:
    """Return the error with all wrong fields; a single rule's own code is the error's where programs look for it."""
    code = "no_runtime" if {error.code for error in wrong} == {"no_runtime"} else None
    return InvalidInputError("; ".join(error.message for error in wrong), code=code, fields=wrong)


async def draft_launch(
    session: ReadSession, request: LaunchRequest, world: World, *, owner: UserRow, actor: Actor
) -> Draft:
    """Return the pod that the request makes. Raises InvalidInputError with every wrong field."""
    wrong = list(rules.wrong_name(request.name))
    template_id, snapshot, wrong_template = await _template(session, request, actor)
    wrong += wrong_template
    jupyter = request.jupyter or snapshot.jupyter
    disk_gb = snapshot.container_disk_gb if request.container_disk_gb is None else request.container_disk_gb
    wrong += _wrong_numbers(request.command, request.gpu_count, disk_gb)
    env_secrets = _env_secrets(snapshot, request.env, request.env_secrets)
    wrong += await _wrong_env(session, request.env, env_secrets, owner)
    gpu_type, wrong_type = await _gpu_type(session, request.gpu_type or snapshot.gpu_type, request.gpu_count)
    wrong += wrong_type
    limit = world.settings.limits.ports_per_pod
    wrong += rules.wrong_ports(request.ports or (), limit=limit)
    at_launch = limits_at_launch(
        world.settings.limits,
        TimeLimits(snapshot.stop_after_seconds, snapshot.idle_stop_after_seconds),
        unbounded=actor.is_admin,
    )
    limits, wrong_limits = _limits(request, at_launch, world, actor)
    wrong += wrong_limits
    volume, wrong_volume = await _volume(session, request.volume, snapshot, owner)
    wrong += wrong_volume
    runtime = None
    if not wrong_template:
        runtime, wrong_runtime = _runtime(world, snapshot.image, snapshot, gpu_type, volume)
        wrong += wrong_runtime
    if wrong or runtime is None:
        raise refusal(wrong)
    return Draft(
        template_id=template_id,
        snapshot=snapshot,
        image=snapshot.image,
        command=request.command,
        gpu_type=gpu_type,
        gpu_count=request.gpu_count,
        container_disk_gb=disk_gb,
        disk_price=world.settings.prices.disk_micros_per_gb_hour,
        volume=volume,
        env=request.env,
        env_secrets=env_secrets,
        jupyter=jupyter,
        ports=rules.ports_with_defaults(request.ports, snapshot.ports, jupyter),
        runtime_id=runtime.id,
        limits=limits,
    )


async def draft_edit(
    session: ReadSession, pod: PodRow, request: EditRequest, world: World, *, owner: UserRow, actor: Actor
) -> Draft:
    """Return the pod as the edit makes it; what was not sent is as the row has it. Raises InvalidInputError."""
    snapshot = TemplateSnapshot.from_json(pod.template)
    image = pod.image if request.image is UNSET else request.image
    command = (tuple(pod.command) if pod.command is not None else None) if request.command is UNSET else request.command
    gpu_count = pod.gpu_count if request.gpu_count is UNSET else request.gpu_count
    disk_gb = pod.container_disk_gb if request.container_disk_gb is UNSET else request.container_disk_gb
    env: Mapping[str, Secret] = {} if request.env is UNSET else request.env
    env_secrets = {} if request.env is UNSET else _env_secrets(snapshot, env, request.env_secrets)
    wrong = _wrong_numbers(command, gpu_count, disk_gb)
    wrong += await _wrong_env(session, env, env_secrets, owner)
    limits, wrong_limits = _limits(
        request, TimeLimits(pod.stop_after_seconds, pod.idle_stop_after_seconds), world, actor
    )
    wrong += wrong_limits
    if request.image is not UNSET:
        wrong += rules.wrong_image(request.image)
    gpu_type = None
    if request.gpu_type is not UNSET or request.gpu_count is not UNSET:
        name = pod.gpu_type if request.gpu_type is UNSET else request.gpu_type
        gpu_type, wrong_type = await _gpu_type(session, name, gpu_count)
        wrong += wrong_type
    volume = None
    if isinstance(request.volume, VolumeRequest):
        volume, wrong_volume = await _volume(session, request.volume, snapshot, owner)
        wrong += wrong_volume
    wrong += _wrong_there(world, pod, image if request.image is not UNSET else None, snapshot, gpu_type, volume)
    if wrong:
        raise refusal(wrong)
    return Draft(
        template_id=pod.template_id,
        snapshot=snapshot,
        image=image,
        command=command,
        gpu_type=gpu_type,
        gpu_count=gpu_count,
        container_disk_gb=disk_gb,
        disk_price=world.settings.prices.disk_micros_per_gb_hour,
        volume=volume,
        env=env,
        env_secrets=env_secrets,
        jupyter=JupyterMode(pod.jupyter) if request.jupyter is UNSET else request.jupyter,
        ports=(),
        runtime_id=RuntimeId(pod.runtime_id),
        limits=limits,
    )


def _limits(
    request: LaunchRequest | EditRequest, otherwise: TimeLimits, world: World, actor: Actor
) -> tuple[TimeLimits, Sequence[FieldError]]:
    asked = AskedLimits(request.stop_after_seconds, request.idle_stop_after_seconds)
    return limits_of(asked, otherwise, world.settings.limits, unbounded=actor.is_admin)


def require_isolation(runtime: Runtime, owner: UserRow, settings: Settings) -> None:
    """Raise ForbiddenError where the runtime cannot keep pods apart and the owner is no administrator (SECURITY 7)."""
    if Capability.TENANT_ISOLATION in runtime.capabilities or owner.role == Role.ADMIN:
        return
    if not settings.local.accept_no_isolation:
        sentence = "this machine cannot keep pods apart, so only administrators run pods here (see neuropod doctor)"
        raise ForbiddenError(sentence, code="no_isolation")


async def _template(
    session: ReadSession, request: LaunchRequest, actor: Actor
) -> tuple[str | None, TemplateSnapshot, list[FieldError]]:
    nothing = TemplateSnapshot(name="", title="")
    if (request.template is None) == (request.image is None):
        sentence = "give either a template or an image"
        return None, nothing, [FieldError("template", "one_of", sentence), FieldError("image", "one_of", sentence)]
    if request.template is not None:
        try:
            row = await show_template(session, request.template, actor=actor)
        except NotFoundError as error:
            return None, nothing, [FieldError("template", "unknown", error.message)]
        return row.id, snapshot_of(row), []
    image = request.image or ""
    plain = TemplateSnapshot(name="", title=image, image=image, gpu_type=DEFAULT_GPU_TYPE)
    return None, plain, list(rules.wrong_image(image))


def _env_secrets(snapshot: TemplateSnapshot, env: Mapping[str, Secret], asked: Mapping[str, str]) -> Mapping[str, str]:
    """Return what a pod names: the template's secrets too, but for variables that are given otherwise."""
    return {variable: name for variable, name in snapshot.env_secrets.items() if variable not in env} | dict(asked)


async def _wrong_env(
    session: ReadSession, env: Mapping[str, Secret], env_secrets: Mapping[str, str], owner: UserRow
) -> list[FieldError]:
    wrong = list(rules.wrong_env(env, env_secrets))
    named = {error.field for error in wrong}
    missing = await wrong_secrets(session, UserId(owner.id), env_secrets)
    return wrong + [error for error in missing if error.field not in named]


def _wrong_numbers(command: Sequence[str] | None, gpu_count: int, container_disk_gb: int) -> list[FieldError]:
    return [
        *rules.wrong_command(command),
        *rules.wrong_range("gpu_count", gpu_count, rules.GPU_COUNT),
        *rules.wrong_range("container_disk_gb", container_disk_gb, rules.CONTAINER_DISK_GB, " GB"),
    ]


async def _gpu_type(session: ReadSession, name: str, count: int) -> tuple[GpuTypeRow | None, list[FieldError]]:
    row = await gpu_type_on_offer(session, name)
    if row is None:
        return None, [FieldError("gpu_type", "unknown", f"no GPU type {name!r} is on offer")]
    if row.gpus == 0 and count != 1:
        return row, [FieldError("gpu_count", "range", f"type {name!r} has no GPU, so gpu_count is 1")]
    return row, []


async def _volume(
    session: ReadSession, asked: VolumeRequest | NotSent | None, snapshot: TemplateSnapshot, owner: UserRow
) -> tuple[Attachment | None, Sequence[FieldError]]:
    if asked is None or (asked is UNSET and snapshot.volume_gb is None):
        return None, ()
    request = VolumeRequest() if asked is UNSET else asked
    return await find_attachment(
        session,
        UserId(owner.id),
        request.name,
        size_gb=request.size_gb,
        default_gb=snapshot.volume_gb,
        field="volume",
    )


def _runtime(
    world: World,
    image: str | None,
    snapshot: TemplateSnapshot,
    gpu_type: GpuTypeRow | None,
    volume: Attachment | None,
) -> tuple[Runtime | None, list[FieldError]]:
    """Return the first runtime that can run it, on which its type is offered, and that has its volume."""
    able = [one for one in world.runtimes.values() if _can_run(one, image, snapshot)]
    if not able:
        field = "template" if snapshot.name and image == snapshot.image else "image"
        what = f"template {snapshot.name!r} needs" if field == "template" else "an image needs"
        sentence = (
            f"{what} a runtime that runs container images, and none is connected here; "
            "choose a template that runs without one, such as jupyterlab"
        )
        return None, [FieldError(field, "no_runtime", sentence)]
    offering = [one for one in able if gpu_type is None or _is_offered(world, gpu_type, one)]
    if gpu_type is not None and not offering:
        return None, [FieldError("gpu_type", "no_runtime", _why_not_offered(world, gpu_type))]
    home = volume.runtime_id if volume is not None else None
    for runtime in offering:
        if home is None or runtime.id == home:
            return runtime, []
    sentence = (
        f"this volume lives on {_told(world, home)}, and this pod would run on {_told(world, offering[0].id)}; "
        "attach another volume (a new name makes one), or none"
    )
    return None, [FieldError("volume.name", "elsewhere", sentence)]


def _wrong_there(
    world: World,
    pod: PodRow,
    image: str | None,
    snapshot: TemplateSnapshot,
    gpu_type: GpuTypeRow | None,
    volume: Attachment | None,
) -> list[FieldError]:
    """Return what of an edit does not go where the pod is, which it never leaves; what is None stays as it is."""
    runtime_id = RuntimeId(pod.runtime_id)
    here, wrong = world.runtimes.get(runtime_id), []
    if image is not None and here is not None and not _can_run(here, image, snapshot):
        sentence = f"this pod is on {_told(world, runtime_id)}, which runs no container images"
        wrong.append(FieldError("image", "no_runtime", sentence))
    if gpu_type is not None and not may_have_type(world, pod, gpu_type):
        sentence = f"this pod is on {_told(world, runtime_id)}, where GPU type {gpu_type.name!r} is not offered"
        wrong.append(FieldError("gpu_type", "no_runtime", sentence))
    if volume is not None and volume.runtime_id not in {None, runtime_id}:
        sentence = (
            f"this volume lives on {_told(world, volume.runtime_id)}, and this pod on {_told(world, runtime_id)}; "
            "attach another volume (a new name makes one), or none"
        )
        wrong.append(FieldError("volume.name", "elsewhere", sentence))
    return wrong


def may_have_type(world: World, pod: PodRow, gpu_type: GpuTypeRow) -> bool:
    """Tell whether a type is offered where a pod is; while that is away, as far as is known."""
    here = world.runtimes.get(RuntimeId(pod.runtime_id))
    if here is not None:
        return _is_offered(world, gpu_type, here)
    return gpu_type.offered_on(world.runtimes.name_of(RuntimeId(pod.runtime_id)))


def _can_run(runtime: Runtime, image: str | None, snapshot: TemplateSnapshot) -> bool:
    abilities = runtime.capabilities
    if recipe_of(image, snapshot) is not None and Capability.RECIPES in abilities:
        return True
    return image is not None and Capability.IMAGES in abilities


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


def _told(world: World, runtime_id: RuntimeId | None) -> str:
    """Return what people call a runtime."""
    return (None if runtime_id is None else world.runtimes.name_of(runtime_id)) or "another machine or cluster"
