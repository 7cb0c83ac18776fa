"""The SQL of pods by owner."""

from collections.abc import Collection, Sequence

from sqlalchemy import func, select

from neuropod.accounts.records import UserRow
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import PodId, UserId
from neuropod.pods.records import PodRow


async def lock_pods_of(session: Session, owner_id: UserId) -> Sequence[PodRow]:
    """Return all pods of an owner that are not closed, as they are now, locked in order until this transaction ends."""
    query = select(PodRow).where(PodRow.owner_id == owner_id, PodRow.closed_at.is_(None)).order_by(PodRow.id)
    return (await session.scalars(query.with_for_update().execution_options(populate_existing=True))).all()


async def open_pods_of(session: ReadSession, owner_id: UserId) -> Sequence[PodId]:
    """Return the ids of an owner's pods that are not closed."""
    query = select(PodRow.id).where(PodRow.owner_id == owner_id, PodRow.closed_at.is_(None))
    return [PodId(pod_id) for pod_id in await session.scalars(query)]


async def count_pods(session: ReadSession, owner_ids: Collection[str]) -> dict[str, int]:
    """Return how many pods that are not closed each owner has; those without are left out."""
    if not owner_ids:
        return {}
    query = (
        select(PodRow.owner_id, func.count())
        .where(PodRow.owner_id.in_(owner_ids), PodRow.closed_at.is_(None))
        .group_by(PodRow.owner_id)
    )
    return {str(owner_id): int(count) for owner_id, count in await session.execute(query)}


async def active_user_by_email(session: ReadSession, email: str) -> UserRow | None:
    """Return the active user with an address."""
    query = select(UserRow).where(UserRow.email == email, UserRow.suspended_at.is_(None), UserRow.deleted_at.is_(None))
    return await session.scalar(query)


async def users_by_id(session: ReadSession, ids: Collection[str]) -> dict[str, UserRow]:
    """Return users by their ids, deleted ones too."""
    if not ids:
        return {}
    return {row.id: row for row in await session.scalars(select(UserRow).where(UserRow.id.in_(ids)))}
