"""The SQL of it: which pods have a place in a queue or a progress that may move. Called by api.feeding."""

from collections.abc import Sequence

from sqlalchemy import String, cast, exists, or_, select

from neuropod.db.engine import ReadSession
from neuropod.db.reading import read_values
from neuropod.ids import PodId
from neuropod.pods.queue.store import QUEUE_REASONS
from neuropod.pods.records import IncarnationRow, PodRow
from neuropod.runtimes.contract import Phase
from neuropod.words import Want

_MOST = 500  # told at once; who waits behind so many is told with the next event of theirs

_PREPARED = exists().where(
    IncarnationRow.pod_id == PodRow.id,
    IncarnationRow.ended_at.is_(None),
    IncarnationRow.phase == Phase.PENDING,
    cast(IncarnationRow.progress, String) != "null",  # JSON's; of a start that tells no progress nothing passes
)
_PASSING = (
    select(PodRow.id)
    .where(
        PodRow.closed_at.is_(None),
        PodRow.want == Want.RUNNING,
        or_(PodRow.waiting_reason.in_(QUEUE_REASONS), _PREPARED),
    )
    .order_by(PodRow.requested_at, PodRow.id)
    .limit(_MOST)
)


async def passing_pods(session: ReadSession) -> Sequence[PodId]:
    """Return the pods that wait in a queue, or whose preparation tells how far it is; oldest request first."""
    return [PodId(pod_id) for (pod_id,) in await read_values(session, _PASSING, {})]
