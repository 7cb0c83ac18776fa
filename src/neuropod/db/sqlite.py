"""SQLite's connections as `engine` wants them: one trip to the connection's thread for each statement.

aiosqlite runs each connection in a thread of its own. SQLAlchemy goes there four times for a query: for a cursor, to
execute, for the rows, to close the cursor. A trip costs more than a small statement does, so here all of that is one.
It also leaves no cursor open, whatever happens to who asked: an unfinished `UPDATE … RETURNING` would keep SQLite's
lock, even over a rollback and the end of its connection, as long as somebody (an exception's frames) holds it.

A transaction begins with its first statement, in the same trip: a reading one sees the state of its first read anyway,
and writers of this process stand in line before they begin (`engine`). One without a statement takes no trip at all.

Rows are read whole, as SQLAlchemy does anyway; there are no streaming results.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import aiosqlite

_BEGINS = frozenset({"BEGIN", "BEGIN IMMEDIATE"})
_NOTHING_YET = SimpleNamespace(description=None, rowcount=-1, lastrowid=None, arraysize=1)


class _Cursor(aiosqlite.Cursor):
    """Exists on the connection's thread only while its statement runs; afterwards it has what came of it."""

    _conn: "_Connection"

    def __init__(self, connection: "_Connection") -> None:  # the base wants a cursor that is open already
        self._conn = connection
        self._rows: list[Any] = []
        self._cursor = _NOTHING_YET  # type: ignore[assignment]

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> "_Cursor":
        if sql in _BEGINS:
            self._conn.begins_with = sql
        else:
            await self._trip(lambda cursor: cursor.execute(sql, tuple(parameters or ())))
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> "_Cursor":
        await self._trip(lambda cursor: cursor.executemany(sql, parameters))
        return self

    async def _trip(self, statement: Callable[[sqlite3.Cursor], object]) -> None:
        await self._conn.trip(self._run, self._conn.take_beginning(), statement)

    def _run(self, begin: str | None, statement: Callable[[sqlite3.Cursor], object]) -> None:
        with closing(self._conn.here().cursor()) as self._cursor:
            if begin is not None:
                self._cursor.execute(begin)
            statement(self._cursor)
            self._rows = self._cursor.fetchall()

    async def fetchall(self) -> Iterable[Any]:
        return self._rows

    async def close(self) -> None:
        """Do nothing: `_run` has closed it."""


class _Connection(aiosqlite.Connection):
    begins_with: str | None = None  # the beginning of a transaction that waits for its first statement
    _begun = False  # a transaction may be open

    def cursor(self) -> _Cursor:  # type: ignore[override]
        return _Cursor(self)

    def take_beginning(self) -> str | None:
        """Return what goes before the next statement. From now on there may be something to roll back."""
        begins, self.begins_with = self.begins_with, None
        self._begun = self._begun or begins is not None
        return begins

    async def commit(self) -> None:
        await self._end(super().commit)

    async def rollback(self) -> None:
        await self._end(super().rollback)

    async def _end(self, end: Callable[[], Awaitable[None]]) -> None:
        """End what has begun; where nothing has, as before a connection goes back to the pool, there is no trip."""
        self.begins_with = None
        if self._begun:
            await end()
            self._begun = False  # not where it failed, or was cut off

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
