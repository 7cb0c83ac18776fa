"""What follows a restore, for administrators by the API and for the machine's owner by its socket.

What runs and belongs to no row is only listed until somebody confirms the epoch; then the resync loop sweeps it.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from neuropod.accounts.access import Actor
from neuropod.api.parts import ApiParts
from neuropod.db.audit import record_act
from neuropod.db.engine import Session
from neuropod.db.installation import confirm_epoch, epochs
from neuropod.ids import RuntimeId
from neuropod.pods.resync.store import without_row
from neuropod.runtimes.contract import Runtime, RuntimeUnavailableError, Seen
from neuropod.wire.machine import Epoch, UnknownWorkload

_ASK_SECONDS = 10.0


async def epoch_answer(parts: ApiParts) -> Epoch:
    """Return the epoch and what belongs to no row, as the runtimes show it now."""
    asked = list(parts.runtimes)  # while they answer another one may be opened
    listed = await asyncio.gather(*(_list(parts.runtimes[runtime_id]) for runtime_id in asked))
    seen = [(runtime_id, one) for runtime_id, found in zip(asked, listed, strict=True) for one in found or ()]
    async with parts.database.read() as session:
        epoch, confirmed = await epochs(session)
        unknown = {one.id for one in await without_row(session, [one for _, one in seen])}
    return Epoch(
        epoch=epoch,
        confirmed=epoch <= confirmed,
        unknown=[_unknown(runtime_id, one) for runtime_id, one in seen if one.id in unknown],
        silent=[runtime_id for runtime_id, found in zip(asked, listed, strict=True) if found is None],
    )


async def _list(runtime: Runtime) -> Sequence[Seen] | None:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            return await runtime.list_seen()
    except (RuntimeUnavailableError, TimeoutError):
        return None


def _unknown(runtime_id: RuntimeId, one: Seen) -> UnknownWorkload:
    return UnknownWorkload(
        runtime=runtime_id,
        pod=one.id.pod,
        incarnation=one.id.incarnation,
        phase=one.phase,
        started_at=one.started_at,
    )


async def confirm(session: Session, *, actor: Actor, now: datetime) -> tuple[int, bool]:
    """Confirm the present epoch; return it, and whether that changed anything."""
    epoch, changed = await confirm_epoch(session)
    if changed:
        record_act(session, "confirm_epoch", "installation", at=now, actor_id=actor.user_id, via=actor.via, epoch=epoch)
    return epoch, changed
