"""All SQL of the catalogue."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.engine import ReadSession, Session
from neuropod.db.reading import columns_of, read_rows

_GPU_TYPE = select(*columns_of(GpuTypeRow)).where(GpuTypeRow.name == bindparam("name"))


async def gpu_types(session: ReadSession, *, disabled: bool) -> Sequence[GpuTypeRow]:
    """Return the types in their order, with `disabled` those too that are not on offer."""
    query = select(GpuTypeRow).where(GpuTypeRow.deleted_at.is_(None)).order_by(GpuTypeRow.position, GpuTypeRow.name)
    if not disabled:
        query = query.where(GpuTypeRow.enabled)
    return (await session.scalars(query)).all()


async def gpu_type(session: ReadSession, name: str) -> GpuTypeRow | None:
    """Return a type, on offer or not, deleted or not: pods that have it keep to it."""
    found = await read_rows(session, GpuTypeRow, _GPU_TYPE, {"name": name})
    return found[0] if found else None


async def lock_gpu_type(session: Session, name: str) -> GpuTypeRow | None:
    """Return a type's row as it is now, locked until this transaction ends."""
    query = select(GpuTypeRow).where(GpuTypeRow.name == name).with_for_update()
    return await session.scalar(query.execution_options(populate_existing=True))


async def last_position(session: ReadSession) -> int:
    """Return the highest position in lists."""
    return await session.scalar(select(func.max(GpuTypeRow.position)).where(GpuTypeRow.deleted_at.is_(None))) or 0


async def add_missing(session: Session, types: Sequence[dict[str, Any]]) -> None:
    """Write the types whose names are not there; two servers that start at once do not disturb each other."""
    there = set(await session.scalars(select(GpuTypeRow.name)))
    missing = [columns for columns in types if columns["name"] not in there]
    if missing:
        insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        await session.execute(insert(GpuTypeRow).values(missing).on_conflict_do_nothing())
