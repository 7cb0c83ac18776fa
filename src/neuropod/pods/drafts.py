"""From what was asked to what a pod will be: template, defaults, type, volume and runtime, and all that is wrong.

Called by service for launch and edit, under the owner's account lock. Every wrong field is in the one error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from neuropod.accounts.access import Actor
from neuropod.accounts.records import UserRow
from neuropod.catalogue.records import GpuTypeRow
from neuropod.catalogue.service import gpu_type_on_offer
from neuropod.db.engine import ReadSession
from neuropod.ids import RuntimeId, UserId
from neuropod.kit.errors import FieldError, InvalidInputError, NotFoundError
from neuropod.kit.money import Micros
from neuropod.kit.secrets import Secret
from neuropod.pods import rules
from neuropod.pods.choice import Prospect, chosen, could_ever
from neuropod.pods.gpus.store import waiting_counts
from neuropod.pods.launch import UNSET, EditRequest, LaunchRequest, NotSent, VolumeRequest
from neuropod.pods.limits.bounds import AskedLimits, TimeLimits, limits_at_launch, limits_of
from neuropod.pods.placing import Wanted, World, away_for, places_for, wrong_there
from neuropod.pods.queue.store import taken_of
from neuropod.pods.records import PodRow
from neuropod.pods.room import BYTES_PER_GB, Need, Taken, need_of
from neuropod.pods.secrets.resolving import wrong_secrets
from neuropod.runtimes.contract import Capacity, Runtime
from neuropod.templates.service import show_template, snapshot_of
from neuropod.templates.snapshot import TemplatePort, TemplateSnapshot
from neuropod.volumes.service import Attachment, find_attachment
from neuropod.words import JupyterMode

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


def refusal(wrong: Sequence[FieldError]) -> InvalidInputError:
    """Return the error with all wrong fields; a single rule's own code is the error's where programs look for it."""
    code = "no_runtime" if {error.code for error in wrong} == {"no_runtime"} else None
    return InvalidInputError("; ".join(error.message for error in wrong), code=code, fields=wrong)


async def draft_launch(
    session: ReadSession,
    request: LaunchRequest,
    world: World,
    *,
    owner: UserRow,
    actor: Actor,
    capacities: Mapping[RuntimeId, Capacity] | None = None,
) -> Draft:
    """Return the pod that the request makes. Raises InvalidInputError with every wrong field.

    Where it may run on several runtimes, `capacities` say which has room; without them it is the first.
    """
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
    places: Sequence[Runtime] = ()
    if not wrong_template:
        places, wrong_runtime = places_for(world, Wanted(snapshot.image, snapshot, gpu_type, volume), owner)
        wrong += wrong_runtime
    if wrong or gpu_type is None:
        raise refusal(wrong)
    need = need_of_launch(gpu_type, request.gpu_count, disk_gb, volume)
    runtime_ids = [runtime.id for runtime in places]
    _require_a_place(world, runtime_ids, need, gpu_type, volume, capacities or {})
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
        runtime_id=await _chosen(session, runtime_ids, need, gpu_type.name, volume, capacities or {}),
        limits=limits,
    )


def need_of_launch(gpu_type: GpuTypeRow, count: int, container_disk_gb: int, volume: Attachment | None) -> Need:
    """Return what a pod of so many units of a type takes."""
    return need_of(
        cpu_cores=gpu_type.cpu_cores * count,
        memory_gb=gpu_type.memory_gb * count,
        container_disk_gb=container_disk_gb,
        gpus=gpu_type.gpus * count,
        finder=gpu_type.finder,
        volume_id=None if volume is None or volume.row is None else volume.row.id,
    )


def with_new_volume(taken: Taken, volume: Attachment | None) -> Taken:
    """Return what is taken once the launch has made its volume."""
    if volume is None or volume.row is not None:
        return taken
    return replace(taken, volume_bytes=taken.volume_bytes + volume.size_gb * BYTES_PER_GB)


def _require_a_place(
    world: World,
    places: Sequence[RuntimeId],
    need: Need,
    gpu_type: GpuTypeRow,
    volume: Attachment | None,
    capacities: Mapping[RuntimeId, Capacity],
) -> None:
    """Refuse what none of the places can ever run while a runtime that perhaps can is away: a pod never moves there."""
    away = away_for(world, gpu_type)
    bound = volume is not None and volume.runtime_id is not None
    if not away or bound or any(one not in capacities or could_ever(capacities[one], need) for one in places):
        return
    sentence = (
        f"no machine or cluster that answers has so much of GPU type {gpu_type.name!r}, and {', '.join(away)} gives no "
        "answer now; try again later"
    )
    raise refusal([FieldError("gpu_type", "no_runtime", sentence)])


async def _chosen(
    session: ReadSession,
    places: Sequence[RuntimeId],
    need: Need,
    gpu_type: str,
    volume: Attachment | None,
    capacities: Mapping[RuntimeId, Capacity],
) -> RuntimeId:
    """Return to which of the places the pod goes; of one alone nothing is read."""
    if len(places) == 1:
        return places[0]
    taken = await taken_of(session, places)
    waiting = await waiting_counts(session, places)
    prospects = [
        Prospect(one, capacities.get(one), with_new_volume(taken[one], volume), waiting.get((one, gpu_type), 0))
        for one in places
    ]
    return chosen(prospects, need)


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
    wanted = Wanted(image if request.image is not UNSET else None, snapshot, gpu_type, volume)
    wrong += wrong_there(world, pod, wanted, owner)
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
