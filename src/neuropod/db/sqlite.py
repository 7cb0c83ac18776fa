"""SQLite's connections as `engine` wants them: one trip to the connection's thread for each statement.

aiosqlite runs each connection in a thread of its own. SQLAlchemy goes there four times for a query: for a cursor, to
execute, for the rows, to close the cursor. A trip costs more than a small statement does, so here all of that is one.
It also leaves no cursor open, whatever happens to who asked: an unfinished `UPDATE … RETURNING` would keep SQLite's
lock, even over a rollback and the end of its connection, as long as somebody (an exception's frames) holds it.

Rows are read whole, as SQLAlchemy does anyway; there are no streaming results.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import aiosqlite


class _Cursor(aiosqlite.Cursor):
    """Exists on the connection's thread only while its statement runs; afterwards it has what came of it."""

    _conn: "_Connection"

    def __init__(self, connection: "_Connection") -> None:  # the base wants a cursor that is open already
        self._conn = connection
        self._rows: list[Any] = []

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> "_Cursor":
        await self._conn.trip(self._run, lambda cursor: cursor.execute(sql, tuple(parameters or ())))
        return self

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> "_Cursor":
        await self._conn.trip(self._run, lambda cursor: cursor.executemany(sql, parameters))
        return self

    def _run(self, statement: Callable[[sqlite3.Cursor], object]) -> None:
        with closing(self._conn.here().cursor()) as self._cursor:
            statement(self._cursor)
            self._rows = self._cursor.fetchall()

    async def fetchall(self) -> Iterable[Any]:
        return self._rows

    async def close(self) -> None:
        """Do nothing: `_run` has closed it."""


class _Connection(aiosqlite.Connection):
    def cursor(self) -> _Cursor:  # type: ignore[override]
        return _Cursor(self)

    async def trip(self, work: Callable[..., None], *arguments: object) -> None:
        """Do the work on the connection's thread."""
        await self._execute(work, *arguments)  # type: ignore[no-untyped-call]

    def here(self) -> sqlite3.Connection:
        """Return the connection, for its thread."""
        return self._conn


def connect(database: str, **options: Any) -> aiosqlite.Connection:
    """Return a connection to be awaited; `engine` hands it to SQLAlchemy as its `async_creator_fn`."""
    connection = _Connection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: who forgets to close it can still exit
    return connection
