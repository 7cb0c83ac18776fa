"""The use-cases of templates, and the templates that Neuropod ships with. Called by api, pods and server.

Starters belong to the program: every start makes their rows equal to the shipped files, so that an upgrade brings new
package lists. A pod keeps the template as it was at its launch (`snapshot`), whatever becomes of the row.
"""

from datetime import datetime
from typing import Any

from neuropod.accounts.access import Actor
from neuropod.db.engine import ReadSession, Session
from neuropod.kit.errors import NotFoundError
from neuropod.kit.identifiers import new_id
from neuropod.kit.paging import Page
from neuropod.templates import store
from neuropod.templates.records import TemplateRow
from neuropod.templates.snapshot import TemplateSnapshot
from neuropod.templates.starters import Starter, starters


async def list_templates(
    session: ReadSession, *, actor: Actor, cursor: str | None = None, limit: int = 50
) -> Page[TemplateRow]:
    """Return what the actor may start from: starters first, then public ones and their own, by name."""
    return await store.templates(session, actor=actor, cursor=cursor, limit=limit)


async def show_template(session: ReadSession, template: str, *, actor: Actor) -> TemplateRow:
    """Return a template by its id, or by name: the actor's own, else the starter. Raises NotFoundError."""
    row = await store.template_by_id(session, template, actor=actor)
    if row is None:
        row = await store.template_by_name(session, template, actor=actor)
    if row is None:
        raise NotFoundError(f"no such template: {template}")
    return row


def snapshot_of(row: TemplateRow) -> TemplateSnapshot:
    """Return what the template says of a pod, as a value."""
    return TemplateSnapshot.from_json(row.snapshot)


async def load_starters(session: Session, *, now: datetime, shipped: list[Starter] | None = None) -> None:
    """Make the starters' rows equal to what is shipped; called at every start, writes only what differs."""
    wanted = {starter.snapshot.name: _columns(starter) for starter in (starters() if shipped is None else shipped)}
    actual = {row.name: row for row in await store.starter_rows(session)}
    for name, columns in wanted.items():
        row = actual.get(name)
        if row is None:
            await store.add_starter(
                session, {**columns, "id": new_id("tpl"), "author_id": None, "created_at": now, "updated_at": now}
            )
        elif any(getattr(row, column) != value for column, value in columns.items()):
            await store.change_starter(session, row.id, {**columns, "updated_at": now})
    gone = [row.id for name, row in actual.items() if name not in wanted]
    if gone:
        await store.remove_starters(session, gone)


def _columns(starter: Starter) -> dict[str, Any]:
    return {
        "name": starter.snapshot.name,
        "public": True,
        "title": starter.snapshot.title,
        "description": starter.description,
        "readme": starter.readme,
        "snapshot": starter.snapshot.to_json(),
    }
