"""Writing rows in plain statements, past the session's unit of work; the same on both databases."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.schema import ScalarElementColumnDefault

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


async def insert_now(session: Session, row: Record) -> None:
    """Insert a row that was only just made; what it does not say has its column's default, here as in the database.

    `session.add` keeps, sorts and compares rows until it flushes them, and so costs more than the insert itself; this
    is for where it counts. The session does not know the row afterwards: who wants to change it reads it first.
    """
    values = dict(row.__dict__)
    for column in type(row).__table__.columns:
        if column.key not in values:
            default = column.default
            values[column.key] = default.arg if isinstance(default, ScalarElementColumnDefault) else None
            setattr(row, column.key, values[column.key])
    del values["_sa_instance_state"]
    connection = await session.connection()
    await connection.execute(insert(type(row)), values)
