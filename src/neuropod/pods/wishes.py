"""How a pod's row changes with a wish: a new one, another want, another shape. Called by service.

Only the wish's columns are written here, and `due_at = now`; facts and schedule belong to the loop.
"""

from collections.abc import Mapping
from datetime import datetime

from neuropod.accounts.access import Actor
from neuropod.accounts.records import UserRow
from neuropod.catalogue.pricing import disk_price, price_of
from neuropod.catalogue.records import GpuTypeRow
from neuropod.kit.money import Micros
from neuropod.kit.secrets import Secret
from neuropod.pods.drafts import Draft
from neuropod.pods.launch import UNSET, EditRequest
from neuropod.pods.records import PodRow
from neuropod.pods.sealing import Sealing
from neuropod.volumes.records import VolumeRow
from neuropod.words import Reason, Want


def wish(row: PodRow, want: Want, reason: Reason, *, now: datetime, anew: bool = False) -> None:
    """Change the wish and wake the loop. `anew`: what runs is not it any more, the next incarnation is.

    A pod that waits for room keeps its place: it asked when it asked.
    """
    if row.want != want or (anew and want is Want.RUNNING):
        row.want_at = now
    if anew:
        row.run_revision += 1
        if row.waiting_reason is None or row.want != want:
            row.requested_at = now
    row.want, row.want_reason = want, reason
    row.generation += 1
    row.due_at = now


def accept(row: PodRow, gpu_type: GpuTypeRow, count: int, disk_price_per_gb: Micros) -> None:
    """Write down the size and the price that are accepted with this launch, start or change.

    The container disk's size stands in the row already; a volume is paid for by itself, while it exists.
    """
    row.gpu_type, row.gpu_count = gpu_type.name, count
    row.cpu_cores = gpu_type.cpu_cores * count
    row.memory_gb = gpu_type.memory_gb * count
    row.gpus = gpu_type.gpus * count
    row.disk_micros_per_hour = disk_price(disk_price_per_gb, row.container_disk_gb)
    row.price_micros_per_hour = Micros(price_of(gpu_type.price_micros_per_hour, count) + row.disk_micros_per_hour)


def _accept_disk(row: PodRow, disk_price_per_gb: Micros) -> None:
    """Write down the price of a container disk of another size; that of the type stays as it was accepted."""
    of_type = row.price_micros_per_hour - row.disk_micros_per_hour
    row.disk_micros_per_hour = disk_price(disk_price_per_gb, row.container_disk_gb)
    row.price_micros_per_hour = Micros(of_type + row.disk_micros_per_hour)


def new_row(
    draft: Draft, sealing: Sealing, *, pod_id: str, name: str, owner: UserRow, actor: Actor, now: datetime
) -> PodRow:
    """Return the row of a pod that shall run; its volume is attached by the caller."""
    if draft.gpu_type is None:
        raise ValueError("a launch has a type")
    row = PodRow(
        id=pod_id,
        owner_id=owner.id,
        created_by=actor.user_id or owner.id,
        name=name,
        runtime_id=draft.runtime_id,
        created_at=now,
        want=Want.RUNNING,
        want_reason=Reason.REQUESTED,
        want_at=now,
        requested_at=now,
        due_at=now,
        template_id=draft.template_id,
        template=draft.snapshot.to_json(),
        image=draft.image,
        command=_command(draft),
        env_sealed=sealing.seal_env(pod_id, draft.env),
        env_secrets=dict(draft.env_secrets),
        container_disk_gb=draft.container_disk_gb,
        volume_id=None,
        jupyter=draft.jupyter,
        jupyter_token_sealed=sealing.new_token(pod_id, draft.jupyter),
        stop_after_seconds=draft.limits.stop_after_seconds,
        idle_stop_after_seconds=draft.limits.idle_stop_after_seconds,
    )
    accept(row, draft.gpu_type, draft.gpu_count, draft.disk_price)
    return row


def changed_fields(row: PodRow, request: EditRequest, draft: Draft, env: Mapping[str, Secret]) -> list[str]:
    """Return the fields that an edit really changes; `env` is what the row has now."""
    changed = {
        "image": draft.image != row.image,
        "command": _command(draft) != row.command,
        "gpu_type": draft.gpu_type is not None and draft.gpu_type.name != row.gpu_type,
        "gpu_count": draft.gpu_count != row.gpu_count,
        "container_disk_gb": draft.container_disk_gb != row.container_disk_gb,
        "volume": request.volume is not UNSET and _other_volume(row, draft),
        "env": request.env is not UNSET and (draft.env != env or dict(draft.env_secrets) != (row.env_secrets or {})),
        "jupyter": draft.jupyter != row.jupyter,
    }
    return [field for field, differs in changed.items() if differs]


def changed_limits(row: PodRow, draft: Draft) -> list[str]:
    """Return the limits of time that an edit changes; they need no new incarnation."""
    changed = {
        "stop_after_seconds": draft.limits.stop_after_seconds != row.stop_after_seconds,
        "idle_stop_after_seconds": draft.limits.idle_stop_after_seconds != row.idle_stop_after_seconds,
    }
    return [field for field, differs in changed.items() if differs]


def apply_limits(row: PodRow, draft: Draft) -> None:
    """Write the limits of time into the row; they hold at once."""
    row.stop_after_seconds = draft.limits.stop_after_seconds
    row.idle_stop_after_seconds = draft.limits.idle_stop_after_seconds
    row.generation += 1


def apply_edit(row: PodRow, request: EditRequest, draft: Draft, sealing: Sealing, *, volume: VolumeRow | None) -> None:
    """Write the edit into the row; `volume` is the one that the draft attaches."""
    row.image = draft.image
    row.command = _command(draft)
    other_disk = draft.container_disk_gb != row.container_disk_gb
    row.container_disk_gb = draft.container_disk_gb
    if draft.gpu_type is not None:
        accept(row, draft.gpu_type, draft.gpu_count, draft.disk_price)
    elif other_disk:
        _accept_disk(row, draft.disk_price)
    if request.env is not UNSET:
        row.env_sealed = sealing.seal_env(row.id, draft.env)
        row.env_secrets = dict(draft.env_secrets)
    if request.volume is not UNSET:
        row.volume_id = None if volume is None else volume.id
    if draft.jupyter != row.jupyter:
        row.jupyter = draft.jupyter
        row.jupyter_token_sealed = sealing.new_token(row.id, draft.jupyter)


def _command(draft: Draft) -> list[str] | None:
    return list(draft.command) if draft.command is not None else None


def _other_volume(row: PodRow, draft: Draft) -> bool:
    if draft.volume is None:
        return row.volume_id is not None
    return draft.volume.row is None or draft.volume.row.id != row.volume_id
