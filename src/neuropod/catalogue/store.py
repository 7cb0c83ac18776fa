"""All SQL of the catalogue."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.engine import ReadSession, Session


async def gpu_types(session: ReadSession, *, disabled: bool) -> Sequence[GpuTypeRow]:
    """Return the types in their order, with `disabled` those too that are not on offer."""
    query = select(GpuTypeRow).order_by(GpuTypeRow.position, GpuTypeRow.name)
    if not disabled:
        query = query.where(GpuTypeRow.enabled)
    return (await session.scalars(query)).all()


async def gpu_type(session: ReadSession, name: str) -> GpuTypeRow | None:
    """Return a type, on offer or not."""
    return await session.get(GpuTypeRow, name)


async def add_missing(session: Session, types: Sequence[dict[str, Any]]) -> None:
    """Write the types whose names are not there; two servers that start at once do not disturb each other."""
    there = set(await session.scalars(select(GpuTypeRow.name)))
    missing = [columns for columns in types if columns["name"] not in there]
    if missing:
        insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        await session.execute(insert(GpuTypeRow).values(missing).on_conflict_do_nothing())
