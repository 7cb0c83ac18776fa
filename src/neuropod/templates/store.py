"""All SQL of templates."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from neuropod.accounts.access import Actor
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import UserId
from neuropod.kit.errors import NotFoundError
from neuropod.kit.paging import Page, decode_cursor, page_of
from neuropod.templates.records import TemplateRow

# Starters first; below them the people's, by name.
_RANK = case((TemplateRow.author_id.is_(None), 0), else_=1)


def _in_sight_of(actor: Actor) -> ColumnElement[bool]:
    """Starters, public ones, the actor's own; an administrator sees all."""
    if actor.is_admin:
        return TemplateRow.id.is_not(None)
    return or_(
        TemplateRow.author_id.is_(None),
        TemplateRow.public,
        TemplateRow.author_id == actor.user_id if actor.user_id is not None else TemplateRow.id.is_(None),
    )


async def templates(session: ReadSession, *, actor: Actor, cursor: str | None, limit: int) -> Page[TemplateRow]:
    """Return a page of what the actor may see."""
    query = select(TemplateRow).where(_in_sight_of(actor)).order_by(_RANK, TemplateRow.name, TemplateRow.id)
    if cursor is not None:
        after = decode_cursor(cursor, 3)
        query = query.where(tuple_(_RANK, TemplateRow.name, TemplateRow.id) > tuple_(*after))
    rows = (await session.scalars(query.limit(limit + 1))).all()
    return page_of(rows, limit, lambda row: (int(row.author_id is not None), row.name, row.id))


async def template_by_id(session: ReadSession, template_id: str, *, actor: Actor) -> TemplateRow | None:
    """Return the template if the actor may see it."""
    return await session.scalar(select(TemplateRow).where(TemplateRow.id == template_id, _in_sight_of(actor)))


async def template_by_name(session: ReadSession, name: str, *, actor: Actor) -> TemplateRow | None:
    """Return the actor's own template of this name, else the starter; those of others are found by id alone."""
    own = TemplateRow.author_id == actor.user_id if actor.user_id is not None else TemplateRow.id.is_(None)
    return await session.scalar(
        select(TemplateRow)
        .where(TemplateRow.name == name, or_(own, TemplateRow.author_id.is_(None)))
        .order_by(_RANK.desc())
        .limit(1)
    )


async def starter_rows(session: ReadSession) -> Sequence[TemplateRow]:
    """Return all starters."""
    return (await session.scalars(select(TemplateRow).where(TemplateRow.author_id.is_(None)))).all()


async def add_starter(session: Session, columns: dict[str, Any]) -> None:
    """Write a starter, unless another server that starts at the same time has just done so."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    await session.execute(insert(TemplateRow).values(columns).on_conflict_do_nothing())


async def change_starter(session: Session, template_id: str, columns: dict[str, Any]) -> None:
    """Write what is new of a starter."""
    await session.execute(update(TemplateRow).where(TemplateRow.id == template_id).values(columns))


async def remove_starters(session: Session, ids: Sequence[str]) -> None:
    """Take starters away that are shipped no longer; pods keep what they were launched from."""
    await session.execute(delete(TemplateRow).where(TemplateRow.id.in_(ids), TemplateRow.author_id.is_(None)))


async def own_of_name(session: ReadSession, author_id: UserId, name: str) -> bool:
    """Tell whether the person has a template of this name."""
    query = select(TemplateRow.id).where(TemplateRow.author_id == author_id, TemplateRow.name == name)
    return await session.scalar(query) is not None


async def count_own(session: ReadSession, author_id: UserId) -> int:
    """Return how many templates the person keeps."""
    return await session.scalar(select(func.count()).where(TemplateRow.author_id == author_id)) or 0


async def lock_template(session: Session, template_id: str) -> TemplateRow:
    """Return the row as it is now, nobody else changing it until the end of the transaction."""
    query = select(TemplateRow).where(TemplateRow.id == template_id).with_for_update()
    row = await session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        raise NotFoundError(f"no such template: {template_id}")
    return row
