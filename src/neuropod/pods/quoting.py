"""What a launch would meet, without launching: room, place, price, limits, and what stands against it.

Called by api with the body of a launch. It reads and never writes, takes no lock, and asks the very functions that a
launch asks (`draft_launch`, `admission.obstacles`, `room`). It promises nothing: it is true at that moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuropod.accounts.access import Actor, require_scope
from neuropod.accounts.records import UserRow
from neuropod.catalogue.devices import fits
from neuropod.catalogue.pricing import disk_price, price_of
from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.engine import ReadSession
from neuropod.ids import RuntimeId
from neuropod.kit.errors import NeuropodError, NotFoundError
from neuropod.kit.money import Micros
from neuropod.pods import store
from neuropod.pods.admission import obstacles
from neuropod.pods.drafts import Draft, draft_launch, need_of_launch, with_new_volume
from neuropod.pods.gpus.health import Held
from neuropod.pods.gpus.holders import Holder, holders_of
from neuropod.pods.gpus.store import held_devices, waiting_counts
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.lifecycle import Room
from neuropod.pods.owners.named import future_owner
from neuropod.pods.placing import World
from neuropod.pods.queue.store import room, taken_of
from neuropod.pods.room import Need, Taken, emptied, shortage, tied_to
from neuropod.runtimes.contract import Capacity
from neuropod.words import Reason, Role, Scope


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether it would start now; if not why, at which place it would wait, and who has what it waits for."""

    now: bool
    reason: Reason | None
    message: str
    place: int | None = None
    ever: bool = True  # False: the machine or cluster has not that much at all
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True)
class QuotedPrice:
    """Prices of an hour, by part."""

    gpu_type: Micros
    container_disk: Micros
    volume: Micros  # while it exists, pod or no pod

    @property
    def pod(self) -> Micros:
        """What the pod costs while it runs: the price that a launch accepts."""
        return Micros(self.gpu_type + self.container_disk)

    @property
    def total(self) -> Micros:
        """All of it."""
        return Micros(self.pod + self.volume)


@dataclass(frozen=True, slots=True)
class Quote:
    """The answer. `obstacles`: what a launch would be refused with, whether there is room or not."""

    draft: Draft
    gpu_type: GpuTypeRow
    fit: Fit
    price: QuotedPrice
    obstacles: Sequence[NeuropodError]
    pods: int
    pods_most: int | None  # None: the owner is not limited


async def quote_pod(
    session: ReadSession,
    request: LaunchRequest,
    world: World,
    *,
    capacities: Mapping[RuntimeId, Capacity],
    actor: Actor,
) -> Quote:
    """Return what a launch would meet. Raises what a launch raises for wrong fields: InvalidInputError."""
    require_scope(actor, Scope.WRITE)
    owner_id = await future_owner(session, request, world, owner_id=None, actor=actor)
    has = await store.belongings(session, owner_id, request.name)
    if has is None or has.owner.deleted_at is not None:
        raise NotFoundError("no such user")
    draft = await draft_launch(session, request, world, owner=has.owner, actor=actor, capacities=capacities)
    if draft.gpu_type is None:
        raise ValueError("a launch has a type")
    capacity = capacities.get(draft.runtime_id)
    fit = _UNREACHABLE if capacity is None else await _fit(session, draft, draft.gpu_type, capacity)
    return Quote(
        draft=draft,
        gpu_type=draft.gpu_type,
        fit=fit,
        price=_price(draft, draft.gpu_type),
        obstacles=obstacles(has, draft, world, request.name),
        pods=has.pods,
        pods_most=_most(has.owner, world),
    )


_UNREACHABLE = Fit(
    now=False,
    reason=Reason.RUNTIME_UNREACHABLE,
    message="The machine or cluster that would run it gives no answer now.",
)


def _most(owner: UserRow, world: World) -> int | None:
    return None if owner.role == Role.ADMIN else world.settings.limits.pods_per_user


async def _fit(session: ReadSession, draft: Draft, gpu_type: GpuTypeRow, capacity: Capacity) -> Fit:
    runtime_id = draft.runtime_id
    need = need_of_launch(gpu_type, draft.gpu_count, draft.container_disk_gb, draft.volume)
    taken = (await taken_of(session, [runtime_id]))[runtime_id]
    waiting = (await waiting_counts(session, [runtime_id])).get((runtime_id, gpu_type.name), 0)
    held = await held_devices(session, [runtime_id]) if need.gpus else ()
    return fit_of(need, capacity, with_new_volume(taken, draft.volume), waiting=waiting, held=held, name=gpu_type.name)


def fit_of(need: Need, capacity: Capacity, taken: Taken, *, waiting: int, held: Sequence[Held], name: str) -> Fit:
    """Return whether a pod fits now, by the rule of Open; pure. `waiting`: how many wait for the same already."""
    found = room(shortage(need, capacity, taken), waiting, need)
    if found.free:
        return Fit(now=True, reason=None, message=f"It starts at once{_on_which(tied_to(need, capacity))}.")
    missing = shortage(need, emptied(capacity), Taken())
    of_type = {device.name for device in capacity.devices if fits(need.finder, device)}
    ours = [one for one in held if one.device in of_type]
    holders = holders_of(ours) if found.reason is Reason.NO_GPU else ()
    ever = missing is None
    if found.reason is Reason.VOLUME_ELSEWHERE or missing is Reason.VOLUME_ELSEWHERE:
        message = _elsewhere(len(tied_to(need, capacity) or ()), need, name, ever=ever)
    else:
        message = _waits(found, need, name, ours) if ever else _never(missing, need, name)
    return Fit(now=False, reason=found.reason, message=message, place=found.place, ever=ever, holders=holders)


def _waits(found: Room, need: Need, name: str, ours: Sequence[Held]) -> str:
    place = (
        "It would be the next one" if found.place == 1 else f"It would wait behind {found.place - 1} that asked earlier"
    )
    if found.reason is Reason.NO_GPU:
        what = f"No {name} is free" if need.gpus == 1 else f"Not {need.gpus} {name} are free"
        return f"{what} ({len(ours)} in use). {place}; waiting is free."
    return f"There is no room now for its CPU cores, memory or disk. {place}; waiting is free."


def _on_which(tied: frozenset[str] | None) -> str:
    if tied is None:
        return ""
    return ", on " + ("the machine" if len(tied) == 1 else "one of the machines") + " that its volume is tied to now"


def _elsewhere(machines: int, need: Need, name: str, *, ever: bool) -> str:
    """Say that none of the machines on which its volume can be used has room; `ever`: they will have it."""
    if not machines:
        return (
            "Its volume can be used on no machine that the cluster has now. It would wait until it can; waiting is "
            "free. Attach another volume, or none."
        )
    alone = "one machine" if machines == 1 else f"{machines} machines"
    which = "that one" if machines == 1 else "none of them"
    has = "has" if machines > 1 else "has no"
    if ever:
        room = "room for its CPU cores, memory or disk" if not need.gpus else f"free {name}"
        told = f"and {which} {has} {room}. It would wait until one has; waiting is free."
    else:
        room = name if need.gpus else "room for so large a pod"
        told = (
            f"and {which} {has} {room} at all. It would wait until the volume can be used elsewhere, which it can be "
            "once no pod has it, unless its data are on such a machine alone. Attach another volume, or none."
        )
    return f"Its volume can be used on {alone} of the cluster alone now, {told}"


def _never(missing: Reason | None, need: Need, name: str) -> str:
    if missing is Reason.NO_GPU:
        what = f"a {name}" if need.gpus == 1 else f"{need.gpus} {name}"
        return f"The machine or cluster does not have {what}: it would wait until it has."
    return "The machine or cluster is too small for its CPU cores, memory or disk: it would wait until it is larger."


def _price(draft: Draft, gpu_type: GpuTypeRow) -> QuotedPrice:
    volume_gb = 0 if draft.volume is None else draft.volume.size_gb
    return QuotedPrice(
        gpu_type=price_of(gpu_type.price_micros_per_hour, draft.gpu_count),
        container_disk=disk_price(draft.disk_price, draft.container_disk_gb),
        volume=disk_price(draft.disk_price, volume_gb),
    )
