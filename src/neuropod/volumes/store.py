"""All SQL of volumes, but for which pods attach them (`pods.attachments.store`)."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select, update

from neuropod.accounts.access import Actor
from neuropod.accounts.records import UserRow
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import RuntimeId, UserId, VolumeId
from neuropod.kit.paging import Page, decode_cursor, page_of
from neuropod.volumes.records import VolumeRow
from neuropod.words import VolumesAtEnd

_KEPT = VolumeRow.deleted_at.is_(None)


async def volume_by_name(session: ReadSession, owner_id: UserId, name: str) -> VolumeRow | None:
    """Return the owner's volume of this name."""
    return await session.scalar(select(VolumeRow).where(VolumeRow.owner_id == owner_id, VolumeRow.name == name, _KEPT))


async def lock_volume(session: Session, volume_id: str) -> VolumeRow:
    """Return a volume as it is now, locked until this transaction ends."""
    query = select(VolumeRow).where(VolumeRow.id == volume_id).with_for_update()
    return (await session.scalars(query.execution_options(populate_existing=True))).one()


async def volumes_by_id(session: ReadSession, ids: Collection[str]) -> dict[VolumeId, VolumeRow]:
    """Return volumes by their ids."""
    if not ids:
        return {}
    rows = await session.scalars(select(VolumeRow).where(VolumeRow.id.in_(ids)))
    return {VolumeId(row.id): row for row in rows}


async def count_volumes(session: ReadSession, owner_id: UserId) -> int:
    """Return how many volumes an owner has."""
    query = select(func.count(VolumeRow.id)).where(VolumeRow.owner_id == owner_id, _KEPT)
    return await session.scalar(query) or 0


def _in_sight_of(actor: Actor) -> ColumnElement[bool]:
    return _KEPT if actor.is_admin else and_(_KEPT, VolumeRow.owner_id == (actor.user_id or ""))


async def volume_in_sight(session: ReadSession, volume: str, *, actor: Actor) -> tuple[VolumeRow, UserRow] | None:
    """Return a volume and its owner, by its id or by the name of one of the actor's own (a name is never an id)."""
    own_name = and_(VolumeRow.name == volume, VolumeRow.owner_id == (actor.user_id or ""))
    query = (
        select(VolumeRow, UserRow)
        .join(UserRow, UserRow.id == VolumeRow.owner_id)
        .where(_in_sight_of(actor), (VolumeRow.id == volume) | own_name)
    )
    row = (await session.execute(query)).first()
    return None if row is None else (row[0], row[1])


async def volumes_page(
    session: ReadSession, *, actor: Actor, owner_id: UserId | None, cursor: str | None, limit: int
) -> Page[tuple[VolumeRow, UserRow]]:
    """Return a page of the volumes in sight, newest first: of one owner, or of all that the actor sees."""
    query = (
        select(VolumeRow, UserRow)
        .join(UserRow, UserRow.id == VolumeRow.owner_id)
        .where(_in_sight_of(actor))
        .order_by(VolumeRow.id.desc())
        .limit(limit + 1)
    )
    if owner_id is not None:
        query = query.where(VolumeRow.owner_id == owner_id)
    if cursor is not None:
        query = query.where(VolumeRow.id < str(decode_cursor(cursor, 1)[0]))
    rows = [(volume, owner) for volume, owner in await session.execute(query)]  # rows become plain pairs
    return page_of(rows, limit, lambda row: (row[0].id,))


# For the loop


async def volumes_going(session: ReadSession, runtime_ids: Collection[RuntimeId]) -> Sequence[tuple[RuntimeId, str]]:
    """Return runtime and id of deleted volumes whose data are to be removed."""
    query = select(VolumeRow.runtime_id, VolumeRow.id).where(
        VolumeRow.runtime_id.in_(runtime_ids), VolumeRow.deleted_at.is_not(None), VolumeRow.removed_at.is_(None)
    )
    return [(RuntimeId(runtime_id), volume_id) for runtime_id, volume_id in await session.execute(query)]


async def volumes_of_leaving(session: ReadSession) -> Sequence[tuple[str, str]]:
    """Return owner and id of the volumes of deleted users with whom they shall go."""
    query = (
        select(VolumeRow.owner_id, VolumeRow.id)
        .join(UserRow, UserRow.id == VolumeRow.owner_id)
        .where(_KEPT, UserRow.deleted_at.is_not(None), UserRow.volumes_at_end == VolumesAtEnd.DELETE)
    )
    return [(owner_id, volume_id) for owner_id, volume_id in await session.execute(query)]


async def mark_removed(session: Session, volume_id: str, *, now: datetime) -> None:
    """Record that the runtime confirmed that nothing of a deleted volume is left."""
    await session.execute(
        update(VolumeRow)
        .where(VolumeRow.id == volume_id, VolumeRow.deleted_at.is_not(None), VolumeRow.removed_at.is_(None))
        .values(removed_at=now)
    )


async def mark_full(session: Session, volume_id: str, since: datetime | None) -> None:
    """Record since when a volume is full, None: it is not."""
    await session.execute(update(VolumeRow).where(VolumeRow.id == volume_id).values(full_since=since))
