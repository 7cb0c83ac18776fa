"""Alembic's environment: runs on the connection that `neuropod.db.migrate` hands in, inside its transaction."""

from typing import Any, Literal

from alembic import context

from neuropod.db.record import UtcDateTime

connection = context.config.attributes["connection"]
if connection is None:
    raise RuntimeError("migrations run through neuropod.db.migrate; see docs/howto/change-the-schema.md")


def render_item(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Write our types as what the databases have: a migration must not change when our code does."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


context.configure(
    connection=connection,
    target_metadata=context.config.attributes.get("metadata"),
    render_as_batch=True,
    render_item=render_item,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
