"""The SQL of usage. Written by reconcile.limits in one transaction a minute for all pods, read by the API."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, select

from neuropod.db.engine import ReadSession, Session
from neuropod.db.writing import upsert
from neuropod.ids import PodId
from neuropod.pods.usage.records import UsageRow
from neuropod.pods.usage.series import CHUNK, KEPT, Chunk


async def keep_chunks(session: Session, chunks: Mapping[PodId, Chunk]) -> None:
    """Write the chunks as they are now."""
    rows = [
        {"pod_id": pod_id, "began_at": chunk.began_at, "points": bytes(chunk.points)}
        for pod_id, chunk in chunks.items()
    ]
    await upsert(session, UsageRow, rows, key=("pod_id", "began_at"))


async def delete_old(session: Session, *, now: datetime) -> None:
    """Delete rows whose last point is older than what is shown."""
    old = delete(UsageRow).where(UsageRow.began_at < now - KEPT - CHUNK)
    await session.execute(old.execution_options(synchronize_session=False))


async def packed_points(session: ReadSession, pod_id: str, *, since: datetime) -> Sequence[bytes]:
    """Return a pod's rows that may hold points since then, the oldest first."""
    query = (
        select(UsageRow.points)
        .where(UsageRow.pod_id == pod_id, UsageRow.began_at >= since - CHUNK)
        .order_by(UsageRow.began_at)
    )
    return (await session.scalars(query)).all()
