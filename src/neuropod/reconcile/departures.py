"""Deleted users: written down as gone once nothing of them is left. Called by the resync loop, at each of its turns.

Their pods are deleted with the wish of the deletion and go by the pods loop, their volumes by the volumes loop; here is
only looked whether that is done. A pod or volume on a runtime that no server serves keeps its owner `deleting`.
"""

import structlog

from neuropod.accounts.access import SYSTEM
from neuropod.pods.owners.store import departed
from neuropod.reconcile.world import World

log = structlog.get_logger(__name__)


async def close_departed(world: World) -> int:
    """Close deleted users of whom nothing is left; return how many."""
    async with world.database.read() as session:
        gone = await departed(session)
    for user_id in gone:
        async with world.database.write() as session:
            await world.accounts.people.close(session, user_id, actor=SYSTEM)
        log.info("nothing is left of a deleted user", user=user_id)
    return len(gone)
