"""Many rows in one statement, whichever of them are there already; the same on both databases."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite

from neuropod.db.engine import Session
from neuropod.db.record import Record


async def upsert(
    session: Session, record: type[Record], rows: Sequence[Mapping[str, Any]], *, key: Sequence[str]
) -> None:
    """Insert the rows, all with the same columns; one whose `key` is there already is changed instead."""
    if not rows:
        return
    inserting = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = inserting(record)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in key}
    connection = await session.connection()
    await connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changed), list(rows))
