"""`/api/v1/system/epoch`: after a restore, what runs and belongs to no row; confirmed, it is swept."""

from fastapi import APIRouter

from neuropod.api.deps import Operator
from neuropod.api.restores import confirm, epoch_answer
from neuropod.wire.machine import Epoch, EpochConfirmed

router = APIRouter(prefix="/system/epoch", tags=["system"])


@router.get("", operation_id="showEpoch")
async def show_epoch(caller: Operator) -> Epoch:
    """Return which restore this is, and what a confirmation would sweep away. For administrators."""
    return await epoch_answer(caller.parts)


@router.post("/confirm", operation_id="confirmEpoch")
async def confirm_epoch(caller: Operator) -> EpochConfirmed:
    """Confirm the restore: what belongs to no row is swept from now on. For administrators."""
    async with caller.writing() as session:
        epoch, changed = await confirm(session, actor=caller.actor, now=caller.parts.clock.now())
    return EpochConfirmed(epoch=epoch, changed=changed)
