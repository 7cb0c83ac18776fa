"""SQLite's connections as `engine` wants them: most statements run right here, few take a trip to a thread.

aiosqlite runs each connection in a thread of its own. SQLAlchemy goes there four times for a query: for a cursor, to
execute, for the rows, to close the cursor. A trip costs more than a small statement does, and a hundred times as much
while the server is busy, since the thread waits for the interpreter's lock at every row. So:

- What is small and waits for nobody runs on the caller's thread: an `INSERT` of values, and a `SELECT`, which has a
  budget of steps (https://www.sqlite.org/c3ref/progress_handler.html). One that takes more is interrupted and begins
  again on the connection's thread, so that no report stops the server. An `UPDATE` or a `DELETE` may be long, and an
  interrupt would undo its transaction: they go to the thread at once.
- What waits goes to the thread: a commit for the disk; and what finds a lock of another process there
  (`SQLITE_BUSY`), which then waits for it as long as `_BUSY_MILLISECONDS`.
- A trip is one, not four. No cursor is left open, whatever happens to who asked: an unfinished `UPDATE … RETURNING`
  would keep SQLite's lock, even over a rollback and the end of its connection, as long as somebody (an exception's
  frames) holds it.
- A transaction begins with its first statement: a reading one sees the state of its first read anyway, and writers of
  this process stand in line before they begin (`engine`). One without a statement costs nothing.

Rows are read whole, as SQLAlchemy does anyway; there are no streaming results.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import aiosqlite

_BUSY_MILLISECONDS = 10_000
_BUDGET_STEPS = 10_000  # of SQLite's machine, once to twice as many: a millisecond or so
_MOST_AT_A_STRETCH = 16  # statements of a connection, before whoever else waits is let in
_GOES_TO_THREAD = frozenset({sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY})
_NOTHING_YET = SimpleNamespace(description=None, rowcount=-1, lastrowid=None, arraysize=1)


class _Cursor(aiosqlite.Cursor):
    """Exists only while its statement runs; afterwards it has what came of it."""

    _conn: "_Connection"

    def __init__(self, connection: "_Connection") -> None:  # the base wants a cursor that is open already
        self._conn = connection
        self._rows: list[Any] = []
        self._cursor = _NOTHING_YET  # type: ignore[assignment]

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> "_Cursor":
        work = partial(self._run, lambda cursor: cursor.execute(sql, tuple(parameters or ())))
        reads = sql.startswith("SELECT")
        if not ((reads or _is_small(sql)) and await self._conn.is_done_here(work, budget=reads)):
            await self._conn.trip(work)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> "_Cursor":
        await self._conn.trip(partial(self._run, lambda cursor: cursor.executemany(sql, parameters)))
        return self

    def _run(self, statement: Callable[[sqlite3.Cursor], object], own: sqlite3.Connection) -> None:
        with closing(own.cursor()) as self._cursor:
            statement(self._cursor)
            self._rows = self._cursor.fetchall()

    async def fetchall(self) -> Iterable[Any]:
        return self._rows

    async def close(self) -> None:
        """Do nothing: `_run` has closed it."""


def _is_small(sql: str) -> bool:
    return sql.startswith("INSERT") and "SELECT" not in sql


_Work = Callable[[sqlite3.Connection], None]


class _Connection(aiosqlite.Connection):
    begins_with: str | None = None  # the beginning of a transaction that waits for its first statement
    _begun = False  # a transaction may be open
    _thread_knows = False  # some of it ran on the thread
    _thread_busy = False  # a trip has not come back; one that was cut off may go on there
    _at_a_stretch = 0

    def cursor(self) -> _Cursor:  # type: ignore[override]
        return _Cursor(self)

    async def is_done_here(self, work: _Work, *, budget: bool) -> bool:
        """Do the work on the caller's thread; tell whether that was done, or it must go to the connection's."""
        if self._thread_busy:
            return False
        self._begun = True
        if budget:
            # The first look lets it go on: a statement that SQLite remembers counts its steps on from its last run.
            self._conn.set_progress_handler(count().__next__, _BUDGET_STEPS)
        try:
            self._do(work)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _GOES_TO_THREAD:  # the primary code
                raise
            return False
        finally:
            self._conn.set_progress_handler(None, 0)
        self._at_a_stretch += 1
        if self._at_a_stretch % _MOST_AT_A_STRETCH == 0:
            await asyncio.sleep(0)
        return True

    async def trip(self, work: _Work) -> None:
        """Do the work on the connection's thread."""
        self._begun = self._thread_knows = self._thread_busy = True
        try:
            await self._execute(self._do_patiently, work)  # type: ignore[no-untyped-call]
        except Exception:
            self._thread_busy = False
            raise
        self._thread_busy = False

    def _do_patiently(self, work: _Work) -> None:
        self._conn.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        try:
            self._do(work)
        finally:
            self._conn.execute("PRAGMA busy_timeout = 0")

    def _do(self, work: _Work) -> None:
        if self.begins_with is not None:
            self._conn.execute(self.begins_with)
            self.begins_with = None  # not before: what found the lock taken begins again on the thread
        work(self._conn)

    async def commit(self) -> None:
        await self._end(sqlite3.Connection.commit, waits=True)

    async def rollback(self) -> None:
        await self._end(sqlite3.Connection.rollback, waits=False)

    async def _end(self, end: Callable[[sqlite3.Connection], None], *, waits: bool) -> None:
        """End what has begun; where nothing has, as before a connection goes back to the pool, nothing is done."""
        self.begins_with = None
        if not self._begun:
            return
        if self._thread_knows or waits:
            self._thread_knows = True
            await self._execute(end, self._conn)  # type: ignore[no-untyped-call]
        else:
            end(self._conn)
        self._begun = self._thread_knows = self._thread_busy = False  # not where it failed, or was cut off


def begin(connection: object, *, writes: bool) -> None:
    """Let a transaction begin with its first statement, on a connection of `connect`.

    No statement of SQLAlchemy's: that costs seven times as much as a small SELECT itself, for every session.
    """
    assert isinstance(connection, _Connection), connection
    connection.begins_with = "BEGIN IMMEDIATE" if writes else "BEGIN"


def connect(database: str, **options: Any) -> aiosqlite.Connection:
    """Return a connection to be awaited; `engine` hands it to SQLAlchemy as its `async_creator_fn`."""
    options |= {"check_same_thread": False, "timeout": 0}  # one thread at a time all the same, see `_thread_busy`
    connection = _Connection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: who forgets to close it can still exit
    return connection
