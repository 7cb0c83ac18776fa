"""Writing rows in plain statements, past the session's unit of work; the same on both databases."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Executable, Insert, bindparam, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from neuropod.db.engine import Session
from neuropod.db.reading import Parameters
from neuropod.db.record import Record, table_of


async def execute_now(session: Session, statement: Executable, rows: Parameters | Sequence[Parameters]) -> None:
    """Run a statement, once for each row, past the session, which would look for objects of its rows each time."""
    await session.run_sync(lambda _: session.connected().execute(statement, rows))


async def upsert(
    session: Session, record: type[Record], rows: Sequence[Mapping[str, Any]], *, key: Sequence[str]
) -> None:
    """Insert the rows, all with the same columns; one whose `key` is there already is changed instead."""
    if not rows:
        return
    inserting = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = inserting(record)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in key}
    await execute_now(session, statement.on_conflict_do_update(index_elements=list(key), set_=changed), list(rows))


async def insert_now(session: Session, *rows: Record) -> None:
    """Insert rows that were only just made; what one does not say has its column's default, here as in the database.

    `session.add` keeps, sorts and compares rows until it flushes them, and so costs more than the insert itself; this
    is for where it counts. PostgreSQL takes all in one trip, and checks references between them when all are there.
    The session does not know the rows afterwards: who wants to change one reads it first.
    """
    values = [_values(row) for row in rows]
    if session.get_bind().dialect.name == "postgresql":
        named = {f"{column}_{place}": value for place, row in enumerate(values) for column, value in row.items()}
        await session.execute(_insert_into_all(*(type(row) for row in rows)), named)
        return

    def insert_each(_: object) -> None:
        connection = session.connected()
        for row, columns in zip(rows, values, strict=True):
            connection.execute(_insert_into(type(row)), columns)

    await session.run_sync(insert_each)


def _values(row: Record) -> dict[str, Any]:
    """Return all columns of a row, after giving it the defaults of those that it does not say."""
    values = dict(row.__dict__)
    for column in table_of(type(row)).columns:
        if column.key not in values:
            default = column.default
            values[column.key] = default.arg if isinstance(default, ScalarElementColumnDefault) else None
            setattr(row, column.key, values[column.key])
    del values["_sa_instance_state"]
    return values


# Statements are the same every time. They are the table's, not the class's, and so go past the ORM.


@cache
def _insert_into(record: type[Record]) -> Insert:
    return insert(table_of(record))


@cache
def _insert_into_all(*records: type[Record]) -> Insert:
    """Return one statement for a row of each, all but the last as common table expressions."""
    inserts = [
        insert(table_of(record)).values(
            {column.key: bindparam(f"{column.key}_{place}", type_=column.type) for column in table_of(record).columns}
        )
        for place, record in enumerate(records)
    ]
    *others, last = inserts
    return last.add_cte(*(one.cte(f"row_{place}") for place, one in enumerate(others)))
