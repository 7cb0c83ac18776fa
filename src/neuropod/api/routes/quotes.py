"""`/api/v1/pods/quote`: what a launch would meet, with the same body; nothing is made and nothing reserved."""

from fastapi import APIRouter

from neuropod.accounts.access import Actor
from neuropod.api.answers import holder_answers, price_answer
from neuropod.api.deps import Writer
from neuropod.api.offers import capacities
from neuropod.api.routes.pods import launch_request, wrong_with_create
from neuropod.pods.quoting import Quote, QuotedPrice
from neuropod.wire import quotes as wire
from neuropod.wire.pods import PodCreate

router = APIRouter(prefix="/pods", tags=["pods"])

CHECKS = {"quote_pod": wrong_with_create}


@router.post("/quote", operation_id="quotePod")
async def quote_pod(body: PodCreate, caller: Writer) -> wire.Quote:
    """Tell whether such a pod would start now, where it would wait and for whom, and what an hour of it costs."""
    capacity_of = await capacities(caller.parts.runtimes)
    async with caller.reading() as session:
        quote = await caller.parts.pods.quote_pod(
            session, launch_request(body), capacities=capacity_of, actor=caller.actor
        )
    return _answer(quote, caller.actor)


def _answer(quote: Quote, actor: Actor) -> wire.Quote:
    draft, fit, gpu_type = quote.draft, quote.fit, quote.gpu_type
    volume = draft.volume
    return wire.Quote(
        launchable=not quote.obstacles,
        obstacles=[wire.Obstacle(code=error.code, message=error.message) for error in quote.obstacles],
        fits=fit.now,
        ever_fits=fit.ever,
        reason=fit.reason,
        message=fit.message,
        place=fit.place,
        holders=holder_answers(fit.holders, actor),
        limits=wire.AccountLimits(pods=quote.pods, pods_most=quote.pods_most),
        prices=_prices(quote.price),
        gpu_type=gpu_type.name,
        gpu_count=draft.gpu_count,
        gpus=gpu_type.gpus * draft.gpu_count,
        cpu_cores=gpu_type.cpu_cores * draft.gpu_count,
        memory_gb=gpu_type.memory_gb * draft.gpu_count,
        container_disk_gb=draft.container_disk_gb,
        volume=volume and volume.name,
        volume_gb=volume and volume.size_gb,
        volume_is_new=volume is not None and volume.row is None,
        runtime=draft.runtime_id,
    )


def _prices(price: QuotedPrice) -> wire.QuotedPrices:
    return wire.QuotedPrices(
        gpu_type=price_answer(price.gpu_type),
        container_disk=price_answer(price.container_disk),
        volume=price_answer(price.volume),
        pod=price_answer(price.pod),
        total=price_answer(price.total),
    )
