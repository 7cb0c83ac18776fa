"""The SQL of pods by owner."""

from collections.abc import Collection, Sequence

from sqlalchemy import exists, func, or_, select

from neuropod.accounts.records import UserRow
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import UserId
from neuropod.pods.records import PodRow
from neuropod.volumes.records import VolumeRow
from neuropod.words import VolumesAtEnd


async def lock_pods_of(session: Session, owner_id: UserId) -> Sequence[PodRow]:
    """Return all pods of an owner that are not closed, as they are now, locked in order until this transaction ends."""
    query = select(PodRow).where(PodRow.owner_id == owner_id, PodRow.closed_at.is_(None)).order_by(PodRow.id)
    return (await session.scalars(query.with_for_update().execution_options(populate_existing=True))).all()


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


async def departed(session: ReadSession) -> Sequence[UserId]:
    """Return deleted users of whom nothing is left but what was to be kept: no pod, and no volume that was to go."""
    pods = exists().where(PodRow.owner_id == UserRow.id, PodRow.closed_at.is_(None))
    volumes = exists().where(VolumeRow.owner_id == UserRow.id, VolumeRow.removed_at.is_(None))
    query = select(UserRow.id).where(
        UserRow.deleted_at.is_not(None),
        UserRow.closed_at.is_(None),
        ~pods,
        or_(UserRow.volumes_at_end == VolumesAtEnd.KEEP, ~volumes),
    )
    return [UserId(user_id) for user_id in await session.scalars(query)]


async def active_user_by_email(session: ReadSession, email: str) -> UserRow | None:
    """Return the active user with an address."""
    query = select(UserRow).where(UserRow.email == email, UserRow.suspended_at.is_(None), UserRow.deleted_at.is_(None))
    return await session.scalar(query)


async def users_by_id(session: ReadSession, ids: Collection[str]) -> dict[str, UserRow]:
    """Return users by their ids, deleted ones too."""
    if not ids:
        return {}
    return {row.id: row for row in await session.scalars(select(UserRow).where(UserRow.id.in_(ids)))}
