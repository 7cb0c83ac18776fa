"""`/api/v1/gpu-types`: what a pod can be launched on, what it costs, and how much of it is free."""

from fastapi import APIRouter

from neuropod.api.answers import price_answer
from neuropod.api.deps import Reader
from neuropod.api.offers import capacities, units
from neuropod.catalogue.service import list_gpu_types as types_on_offer
from neuropod.pods.queue.store import taken_of
from neuropod.wire.gpu_types import GpuType, GpuTypePage

router = APIRouter(prefix="/gpu-types", tags=["gpu types"])


@router.get("", operation_id="listGpuTypes")
async def list_gpu_types(caller: Reader) -> GpuTypePage:
    """Return all types on offer; they are few, so there is one page."""
    capacity_of = await capacities(caller.parts.runtimes)
    async with caller.reading() as session:
        rows = await types_on_offer(session, disabled=caller.actor.is_admin)
        taken = await taken_of(session, list(capacity_of))
    items = []
    for row in rows:
        counts = [units(row, capacity, taken[runtime_id]) for runtime_id, capacity in capacity_of.items()]
        items.append(
            GpuType(
                name=row.name,
                title=row.title,
                price=price_answer(row.price_micros_per_hour),
                cpu_cores=row.cpu_cores,
                memory_gb=row.memory_gb,
                gpus=row.gpus,
                free=sum(free for free, _ in counts),
                total=sum(total for _, total in counts),
            )
        )
    return GpuTypePage(items=items)
