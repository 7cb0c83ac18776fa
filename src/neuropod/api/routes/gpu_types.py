"""`/api/v1/gpu-types`: what a pod can be launched on, what it costs, and how much of it is free.

Administrators edit it, and see which GPU is whose.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from neuropod.api.answers import price_answer
from neuropod.api.deps import Caller, Operator, Reader
from neuropod.api.errors import WrongFieldsToo
from neuropod.api.offers import capacities, units
from neuropod.api.trying import wrong_fields
from neuropod.catalogue.devices import fits
from neuropod.catalogue.records import GpuTypeRow
from neuropod.catalogue.service import list_gpu_types as types_on_offer
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import RuntimeId
from neuropod.kit.errors import FieldError, InvalidInputError
from neuropod.pods.gpus import editing
from neuropod.pods.gpus.editing import PriceRequest, TypeRequest
from neuropod.pods.gpus.health import Held
from neuropod.pods.gpus.store import held_devices, waiting_counts
from neuropod.pods.queue.store import taken_of
from neuropod.pods.room import Taken
from neuropod.runtimes.contract import Capacity
from neuropod.runtimes.opened import Runtimes
from neuropod.wire.gpu_types import GpuDevice, GpuType, GpuTypeCreate, GpuTypeEdit, GpuTypePage, PriceSet

router = APIRouter(prefix="/gpu-types", tags=["gpu types"])


@router.get("", operation_id="listGpuTypes")
async def list_gpu_types(caller: Reader) -> GpuTypePage:
    """Return all types on offer; they are few, so there is one page."""
    capacity_of = await capacities(caller.parts.runtimes)
    async with caller.reading() as session:
        rows = await types_on_offer(session, disabled=caller.actor.is_admin)
        seen = await _Seen.look(session, capacity_of, caller.parts.runtimes)
    return GpuTypePage(items=[seen.answer(row, names=caller.actor.is_admin) for row in rows])


@router.post("", status_code=201, operation_id="createGpuType")
async def create_gpu_type(body: GpuTypeCreate, caller: Operator, response: Response) -> GpuType:
    """Offer a type. For administrators."""
    capacity_of = await capacities(caller.parts.runtimes)
    async with caller.writing() as session:
        row = await _create(session, body, caller)
        seen = await _Seen.look(session, capacity_of, caller.parts.runtimes)
    response.headers["Location"] = f"/api/v1/gpu-types/{row.name}"
    return seen.answer(row, names=True)


@router.patch("/{gpu_type}", operation_id="editGpuType")
async def edit_gpu_type(gpu_type: str, body: GpuTypeEdit, caller: Operator) -> GpuType:
    """Change a type, or withdraw it (`on_offer: false`). Pods that run keep what they were started with."""
    capacity_of = await capacities(caller.parts.runtimes)
    async with caller.writing() as session:
        row = await _edit(session, gpu_type, body, caller)
        seen = await _Seen.look(session, capacity_of, caller.parts.runtimes)
    return seen.answer(row, names=True)


@router.delete("/{gpu_type}", status_code=204, operation_id="deleteGpuType")
async def delete_gpu_type(gpu_type: str, caller: Operator) -> None:
    """Delete a type of which there is no pod (409 `gpu_type_in_use` else: withdraw it)."""
    async with caller.writing() as session:
        await editing.delete_gpu_type(session, gpu_type, actor=caller.actor, now=caller.parts.clock.now())


class _Seen:
    """What the runtimes have, what of it is given to whom, and who waits: read once for all types."""

    def __init__(
        self,
        capacity_of: Mapping[RuntimeId, Capacity],
        names: Mapping[RuntimeId, str],
        taken: Mapping[RuntimeId, Taken],
        held: Sequence[Held],
        waiting: Mapping[tuple[RuntimeId, str], int],
    ) -> None:
        self._capacity_of = capacity_of
        self._names = names
        self._taken = taken
        self._holders = {(one.runtime_id, one.device): one for one in held}
        self._waiting = waiting

    @classmethod
    async def look(cls, session: ReadSession, capacity_of: Mapping[RuntimeId, Capacity], runtimes: Runtimes) -> "_Seen":
        runtime_ids = list(capacity_of)
        return cls(
            capacity_of,
            runtimes.names,
            await taken_of(session, runtime_ids),
            await held_devices(session, runtime_ids),
            await waiting_counts(session, runtime_ids),
        )

    def answer(self, row: GpuTypeRow, *, names: bool) -> GpuType:
        counts = [
            units(row, capacity, self._taken[runtime_id])
            for runtime_id, capacity in self._capacity_of.items()
            if row.offered_on(self._names[runtime_id])
        ]
        return GpuType(
            name=row.name,
            title=row.title,
            price=price_answer(row.price_micros_per_hour),
            cpu_cores=row.cpu_cores,
            memory_gb=row.memory_gb,
            gpus=row.gpus,
            free=sum(free for free, _ in counts),
            total=sum(total for _, total in counts),
            waiting=sum(count for (_, name), count in self._waiting.items() if name == row.name),
            on_offer=row.enabled,
            position=row.position,
            model_pattern=row.model_pattern,
            gpu_resource=row.gpu_resource,
            node_selector=dict(row.node_selector),
            runtimes=list(row.runtimes),
            devices=self._devices(row) if names else None,
        )

    def _devices(self, row: GpuTypeRow) -> list[GpuDevice]:
        found = []
        for runtime_id, capacity in self._capacity_of.items():
            for device in capacity.devices:
                if row.offered_on(self._names[runtime_id]) and fits(row.finder, device):
                    holder = self._holders.get((runtime_id, device.name))
                    found.append(
                        GpuDevice(
                            name=device.name,
                            model=device.model,
                            memory_bytes=device.memory_bytes,
                            runtime=runtime_id,
                            host=device.host,
                            trouble=device.trouble or None,
                            pod=holder and holder.pod_name,
                            owner=holder and holder.owner_email,
                        )
                    )
        return found


def _request(body: GpuTypeCreate | GpuTypeEdit) -> TypeRequest:
    """Return what the use-cases take. Null means nothing here: a field that stays is left out."""
    nulls = [name for name in body.model_fields_set if getattr(body, name) is None]
    if nulls:
        wrong = [FieldError(name, "type", "cannot be null; leave it out to keep it") for name in sorted(nulls)]
        raise InvalidInputError("; ".join(f"{error.field} {error.message}" for error in wrong), fields=wrong)
    price = body.price or PriceSet()
    return TypeRequest(
        title=body.title,
        price=PriceRequest(price.per_hour, price.per_hour_micros),
        cpu_cores=body.cpu_cores,
        memory_gb=body.memory_gb,
        gpus=body.gpus,
        model_pattern=body.model_pattern,
        gpu_resource=body.gpu_resource,
        node_selector=body.node_selector,
        runtimes=body.runtimes,
        position=body.position,
        on_offer=body.on_offer,
    )


async def _create(session: Session, body: GpuTypeCreate, caller: Caller) -> GpuTypeRow:
    now, planned = caller.parts.clock.now(), caller.parts.runtimes.planned_names
    return await editing.create_gpu_type(
        session, body.name, _request(body), planned=planned, actor=caller.actor, now=now
    )


async def _edit(session: Session, gpu_type: str, body: GpuTypeEdit, caller: Caller) -> GpuTypeRow:
    now, planned = caller.parts.clock.now(), caller.parts.runtimes.planned_names
    return await editing.edit_gpu_type(session, gpu_type, _request(body), planned=planned, actor=caller.actor, now=now)


# What else is wrong with a request whose shape is wrong


async def _wrong_with_create(request: Request, rest: dict[str, Any]) -> Sequence[FieldError]:
    caller: Caller = request.state.caller
    needed = {"name": "a", "cpu_cores": 1, "memory_gb": 1, "price": {"per_hour": "0"}}
    filled = needed | {field: value for field, value in rest.items() if value != {}}
    try:
        body = GpuTypeCreate.model_validate(filled)
    except ValidationError:
        return ()
    return await wrong_fields(caller, lambda session: _create(session, body, caller))


async def _wrong_with_edit(request: Request, rest: dict[str, Any]) -> Sequence[FieldError]:
    caller: Caller = request.state.caller
    try:
        body = GpuTypeEdit.model_validate(rest)
    except ValidationError:
        return ()
    gpu_type = request.path_params["gpu_type"]
    return await wrong_fields(caller, lambda session: _edit(session, gpu_type, body, caller))


CHECKS: dict[str, WrongFieldsToo] = {"create_gpu_type": _wrong_with_create, "edit_gpu_type": _wrong_with_edit}
