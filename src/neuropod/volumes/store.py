"""All SQL of volumes."""

from collections.abc import Collection, Sequence

from sqlalchemy import select

from neuropod.db.engine import ReadSession, Session
from neuropod.ids import UserId, VolumeId
from neuropod.volumes.records import VolumeRow


async def volume_by_name(session: ReadSession, owner_id: UserId, name: str) -> VolumeRow | None:
    """Return the owner's volume of this name."""
    return await session.scalar(select(VolumeRow).where(VolumeRow.owner_id == owner_id, VolumeRow.name == name))


async def lock_volume(session: Session, owner_id: UserId, name: str) -> VolumeRow | None:
    """Return the owner's volume of this name, locked until this transaction ends."""
    query = select(VolumeRow).where(VolumeRow.owner_id == owner_id, VolumeRow.name == name).with_for_update()
    return await session.scalar(query.execution_options(populate_existing=True))


async def volumes_by_id(session: ReadSession, ids: Collection[str]) -> dict[VolumeId, VolumeRow]:
    """Return volumes by their ids."""
    if not ids:
        return {}
    rows = await session.scalars(select(VolumeRow).where(VolumeRow.id.in_(ids)))
    return {VolumeId(row.id): row for row in rows}


async def volumes_of(session: ReadSession, owner_id: UserId) -> Sequence[VolumeRow]:
    """Return the owner's volumes by name."""
    query = select(VolumeRow).where(VolumeRow.owner_id == owner_id).order_by(VolumeRow.name)
    return (await session.scalars(query)).all()
