"""What administrators do to the catalogue: types made, changed, withdrawn, deleted, each with its audit row.

Called by api. It stands here and not in catalogue, since it asks which pods are of a type. A pod keeps what it accepted
at launch or start (size and price), so no change here touches one that runs; a type that is not on offer any more
(withdrawn) stays with those that have it and takes no others.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from neuropod.accounts.access import Actor
from neuropod.catalogue import rules, store
from neuropod.catalogue.devices import Finder
from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.audit import record_act
from neuropod.db.engine import Session
from neuropod.db.runtimes import runtime_names
from neuropod.kit.errors import ConflictError, FieldError, ForbiddenError, InvalidInputError, NotFoundError, taken
from neuropod.kit.money import Micros, decimal_text
from neuropod.pods.gpus.store import pods_of_type


@dataclass(frozen=True, slots=True)
class PriceRequest:
    """A price of an hour: as decimal text or in micros."""

    per_hour: str | None = None
    per_hour_micros: int | None = None


@dataclass(frozen=True, slots=True)
class TypeRequest:
    """A type to make, or what to change of one; what is None stays, or has its default."""

    title: str | None = None
    price: PriceRequest = PriceRequest()
    cpu_cores: int | None = None
    memory_gb: int | None = None
    gpus: int | None = None
    model_pattern: str | None = None
    gpu_resource: str | None = None
    node_selector: Mapping[str, str] | None = None
    runtimes: Sequence[str] | None = None
    position: int | None = None
    on_offer: bool | None = None


async def create_gpu_type(
    session: Session, name: str, asked: TypeRequest, *, planned: Collection[str], actor: Actor, now: datetime
) -> GpuTypeRow:
    """Put a type into the catalogue. Needs a price, cores, memory; title and place in lists have defaults.

    `planned`: the names of this server's runtimes; those that any server ever opened are known too.
    """
    _require_operator(actor)
    wrong = list(rules.wrong_name(name))
    needed = {"cpu_cores": asked.cpu_cores, "memory_gb": asked.memory_gb}
    wrong += [FieldError(field, "missing", f"{field} is needed") for field, value in needed.items() if value is None]
    row = None if wrong else await store.lock_gpu_type(session, name)
    if row is not None and row.deleted_at is None:
        raise taken("name", name)
    made = GpuTypeRow(
        name=name,
        title=name,
        position=0,
        enabled=True,
        price_micros_per_hour=Micros(0),
        cpu_cores=1,
        memory_gb=1,
        gpus=0,
        model_pattern="",
        gpu_resource="",
        node_selector={},
        runtimes=[],
    )
    amount, wrong_price = _checked(made, asked, await _runtime_names(session, planned))
    wrong += wrong_price
    if amount is None and not wrong_price:
        wrong.append(FieldError("price", "missing", "price is needed, as per_hour or per_hour_micros"))
    if wrong:
        raise _refusal(wrong)
    _apply(made, asked, amount)
    if asked.position is None:
        made.position = await store.last_position(session) + 1
    if row is not None:  # a name that was deleted is free again
        await session.delete(row)
        await session.flush()
    session.add(made)
    record_act(
        session, "create_gpu_type", f"gpu_type/{name}", at=now, actor_id=actor.user_id, via=actor.via, type=_told(made)
    )
    await session.flush()
    return made


async def edit_gpu_type(
    session: Session, name: str, asked: TypeRequest, *, planned: Collection[str], actor: Actor, now: datetime
) -> GpuTypeRow:
    """Change a type; pods have the new size and price with their next start by a person."""
    _require_operator(actor)
    row = await _there(session, name)
    amount, wrong = _checked(row, asked, await _runtime_names(session, planned))
    if wrong:
        raise _refusal(wrong)
    before = _told(row)
    _apply(row, asked, amount)
    after = _told(row)
    changed = {field: [before[field], value] for field, value in after.items() if before[field] != value}
    if changed:
        record_act(
            session, "edit_gpu_type", f"gpu_type/{name}", at=now, actor_id=actor.user_id, via=actor.via, changed=changed
        )
        await session.flush()
    return row


async def delete_gpu_type(session: Session, name: str, *, actor: Actor, now: datetime) -> None:
    """Take a type out of the catalogue for good; refused while pods are of it, stopped ones included.

    The row stays, so one that is launched at this very moment has its type as if it had been withdrawn.
    """
    _require_operator(actor)
    row = await _there(session, name)
    if pods := await pods_of_type(session, name):
        some = "1 pod is" if pods == 1 else f"{pods} pods are"
        sentence = (
            f"{some} of type {name!r}; withdraw it (on_offer: false), so that no other takes it, "
            "and delete it when they are gone"
        )
        raise ConflictError(sentence, code="gpu_type_in_use")
    row.deleted_at = now
    record_act(session, "delete_gpu_type", f"gpu_type/{name}", at=now, actor_id=actor.user_id, via=actor.via)
    await session.flush()


def _require_operator(actor: Actor) -> None:
    if not actor.is_admin:
        raise ForbiddenError("only administrators change GPU types", code="admin_needed")


async def _there(session: Session, name: str) -> GpuTypeRow:
    row = None if rules.wrong_name(name) else await store.lock_gpu_type(session, name)
    if row is None or row.deleted_at is not None:
        raise NotFoundError(f"no such GPU type: {name}")
    return row


async def _runtime_names(session: Session, planned: Collection[str]) -> set[str]:
    return {*planned, *(await runtime_names(session)).values()}


def _checked(row: GpuTypeRow, asked: TypeRequest, known: Collection[str]) -> tuple[Micros | None, list[FieldError]]:
    """Return the price that was asked for, and all that is wrong with the type as it would be."""
    wrong: list[FieldError] = []
    if asked.title is not None:
        wrong += rules.wrong_title(asked.title)
    limits = {
        "cpu_cores": rules.CPU_CORES,
        "memory_gb": rules.MEMORY_GB,
        "gpus": rules.GPUS,
        "position": rules.POSITION,
    }
    for field, (least, most) in limits.items():
        value = getattr(asked, field)
        if value is not None:
            wrong += rules.wrong_range(field, value, (least, most))
    gpus = row.gpus if asked.gpus is None else asked.gpus
    if any(value is not None for value in (asked.gpus, asked.model_pattern, asked.gpu_resource, asked.node_selector)):
        finder = Finder(
            row.model_pattern if asked.model_pattern is None else asked.model_pattern,
            row.gpu_resource if asked.gpu_resource is None else asked.gpu_resource,
            row.node_selector if asked.node_selector is None else asked.node_selector,
        )
        wrong += rules.wrong_finder(finder, gpus)
    if asked.runtimes is not None:
        wrong += rules.wrong_runtimes(asked.runtimes, known)
    amount, wrong_price = rules.price(asked.price.per_hour, asked.price.per_hour_micros)
    return amount, [*wrong, *wrong_price]


def _apply(row: GpuTypeRow, asked: TypeRequest, amount: Micros | None) -> None:
    for field in ("title", "cpu_cores", "memory_gb", "gpus", "model_pattern", "gpu_resource", "position"):
        value = getattr(asked, field)
        if value is not None:
            setattr(row, field, value)
    if asked.node_selector is not None:
        row.node_selector = dict(asked.node_selector)
    if asked.runtimes is not None:
        row.runtimes = list(asked.runtimes)
    if asked.on_offer is not None:
        row.enabled = asked.on_offer
    if amount is not None:
        row.price_micros_per_hour = amount


def _told(row: GpuTypeRow) -> dict[str, object]:
    """Return what the audit log says of a type."""
    return {
        "title": row.title,
        "price": decimal_text(row.price_micros_per_hour),
        "cpu_cores": row.cpu_cores,
        "memory_gb": row.memory_gb,
        "gpus": row.gpus,
        "model_pattern": row.model_pattern,
        "gpu_resource": row.gpu_resource,
        "node_selector": dict(row.node_selector),
        "runtimes": list(row.runtimes),
        "position": row.position,
        "on_offer": row.enabled,
    }


def _refusal(wrong: list[FieldError]) -> InvalidInputError:
    return InvalidInputError("; ".join(error.message for error in wrong), fields=wrong)
