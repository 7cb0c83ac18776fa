"""SQLite for SQLAlchemy as `engine` wants it: most statements run right here, few take a trip to a thread.

aiosqlite runs each connection in a thread of its own, and a trip there costs more than a small statement does: a
hundred times as much while the server is busy, since the thread waits for the interpreter's lock at every row. So:

- What is small and waits for nobody runs on the caller's thread: an `INSERT` of values, an `UPDATE` of rows by their
  ids, and a `SELECT`, which has a budget of steps (https://www.sqlite.org/c3ref/progress_handler.html). One that takes
  more is interrupted and begins again on the connection's thread, so that no report stops the server. Another `UPDATE`
  or a `DELETE` may be long, and an interrupt would undo its transaction: they go to the thread at once.
- What waits goes to the thread: a commit for the disk; and what finds a lock of another process there
  (`SQLITE_BUSY`), which then waits for it as long as `_BUSY_MILLISECONDS`.
- No cursor of SQLite's is left open, whatever happens to who asked: an unfinished `UPDATE … RETURNING` would keep
  SQLite's lock, even over a rollback and the end of its connection, as long as somebody (an exception's frames) holds
  it. Rows are read whole, as SQLAlchemy does anyway; there are no streaming results.
- A transaction begins with its first statement: a reading one sees the state of its first read anyway, and writers of
  this process stand in line before they begin (`engine`). One without a statement costs nothing.

`Dialect` is SQLAlchemy's for aiosqlite with connections and cursors of ours: its own await five times for a statement,
and a listener to the beginning of transactions, instead of `do_begin`, would have it look for listeners everywhere
(https://docs.sqlalchemy.org/en/21/core/connections.html#registering-new-dialects).
"""

import asyncio
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import count
from typing import Any, cast

import aiosqlite
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_dbapi,
    SQLiteDialect_aiosqlite,
)
from sqlalchemy.engine import Connection
from sqlalchemy.util import await_only

NAME = "sqlite+neuropod"  # in the URL of an engine
_BUSY_MILLISECONDS = 10_000
_BUDGET_STEPS = 10_000  # of SQLite's machine, once to twice as many: a millisecond or so
_MOST_AT_A_STRETCH = 16  # statements of a connection, or rows of one, before whoever else waits is let in
_GOES_TO_THREAD = frozenset({sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY})

_Work = Callable[[sqlite3.Connection], None]


class _Nothing:
    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


_NOTHING = _Nothing()  # SQLAlchemy insists that a statement awaits something


class _Cursor:
    """What SQLAlchemy asks of a cursor: at SQLite only while its statement runs, afterwards what came of it."""

    __slots__ = ("_connection", "_rows", "arraysize", "description", "lastrowid", "rowcount")

    def __init__(self, connection: "_Connection") -> None:
        self._connection = connection
        self._rows: deque[Any] = deque()
        self.arraysize = 1
        self.description: Any = None
        self.lastrowid: int | None = None
        self.rowcount = -1

    def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> None:
        work = partial(self._run, sqlite3.Cursor.execute, sql, tuple(parameters or ()))
        reads = sql.startswith("SELECT")
        if not ((reads or _is_small(sql)) and self._connection.is_done_here(work, budget=reads)):
            self._connection.trip(work)

    def executemany(self, sql: str, parameters: Sequence[Any]) -> None:
        work = partial(self._run, sqlite3.Cursor.executemany, sql, parameters)
        few = len(parameters) <= _MOST_AT_A_STRETCH
        if not (few and _is_small(sql) and self._connection.is_done_here(work, budget=False)):
            self._connection.trip(work)

    def _run(self, execute: Callable[..., object], sql: str, parameters: Any, own: sqlite3.Connection) -> None:
        cursor = own.cursor()
        try:
            execute(cursor, sql, parameters)
            self._rows = deque(cursor)
            self.description, self.lastrowid, self.rowcount = cursor.description, cursor.lastrowid, cursor.rowcount
        finally:
            cursor.close()

    def fetchone(self) -> Any:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        return [self._rows.popleft() for _ in range(min(size or self.arraysize, len(self._rows)))]

    def fetchall(self) -> Sequence[Any]:
        rows, self._rows = self._rows, deque()
        return list(rows)

    def __iter__(self) -> Iterator[Any]:
        while self._rows:
            yield self._rows.popleft()

    def close(self) -> None:
        """Let go of what was not fetched; at SQLite it is closed already."""
        self._rows = deque()

    async def _async_soft_close(self) -> None:
        """Do nothing: SQLAlchemy lets go of a cursor this way before it hands the result out."""


@lru_cache(1000)  # a program has so many statements
def _is_small(sql: str) -> bool:
    """Tell whether this writes one row for each set of parameters, as SQLAlchemy spells it."""
    if "SELECT" in sql:
        return False
    return sql.startswith("INSERT") or re.fullmatch(r"UPDATE (\w+) SET .* WHERE \1\.id = \?", sql) is not None


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ("_at_a_stretch", "_begun", "_own", "_thread_busy", "_thread_knows", "begins_with")

    _cursor_cls = _Cursor  # type: ignore[assignment]
    _connection: aiosqlite.Connection  # type: ignore[assignment]

    def __init__(self, dbapi: Any, connection: aiosqlite.Connection) -> None:
        super().__init__(dbapi, connection)  # type: ignore[arg-type]  # its cursors are not asked for
        self._own: sqlite3.Connection = connection._conn  # noqa: SLF001 - aiosqlite's; it has no other name
        self.begins_with: str | None = None  # the beginning of a transaction that waits for its first statement
        self._begun = False  # a transaction may be open
        self._thread_knows = False  # some of it ran on the thread
        self._thread_busy = False  # a trip has not come back; one that was cut off may go on there
        self._at_a_stretch = 0

    def is_done_here(self, work: _Work, *, budget: bool) -> bool:
        """Do the work on the caller's thread; tell whether that was done, or it must go to the connection's."""
        if self._thread_busy:
            return False
        self._begun = True
        if budget:
            # The first look lets it go on: a statement that SQLite remembers counts its steps on from its last run.
            self._own.set_progress_handler(count().__next__, _BUDGET_STEPS)
        try:
            self._do(work)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _GOES_TO_THREAD:  # the primary code
                raise
            return False
        finally:
            if budget:
                self._own.set_progress_handler(None, 0)
        self._at_a_stretch += 1
        await_only(_NOTHING if self._at_a_stretch % _MOST_AT_A_STRETCH else asyncio.sleep(0))
        return True

    def trip(self, work: _Work) -> None:
        """Do the work on the connection's thread."""
        self._begun = self._thread_knows = self._thread_busy = True
        try:
            self._on_thread(self._do_patiently, work)
        except Exception:
            self._thread_busy = False
            raise
        self._thread_busy = False

    def _on_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            await_only(self._connection._execute(call, *arguments))  # type: ignore[no-untyped-call]  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - it raises, what is said of a closed connection in SQLAlchemy's words
            self._handle_exception(error)

    def _do_patiently(self, work: _Work) -> None:
        self._own.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        try:
            self._do(work)
        finally:
            self._own.execute("PRAGMA busy_timeout = 0")

    def _do(self, work: _Work) -> None:
        if self.begins_with is not None:
            self._own.execute(self.begins_with)
            self.begins_with = None  # not before: what found the lock taken begins again on the thread
        work(self._own)

    def commit(self) -> None:
        self._end(sqlite3.Connection.commit, waits=True)

    def rollback(self) -> None:
        self._end(sqlite3.Connection.rollback, waits=False)

    def _end(self, end: Callable[[sqlite3.Connection], None], *, waits: bool) -> None:
        """End what has begun; where nothing has, as before a connection goes back to the pool, nothing is done."""
        self.begins_with = None
        if not self._begun:
            return
        if self._thread_knows or waits:
            self._thread_knows = True
            self._on_thread(end, self._own)
        else:
            end(self._own)
        self._begun = self._thread_knows = self._thread_busy = False  # not where it failed, or was cut off


class _Driver(AsyncAdapt_aiosqlite_dbapi):
    def connect(self, database: str, **options: Any) -> _Connection:
        """Open a connection. One thread works with it at a time all the same, see `_thread_busy`."""
        options |= {"check_same_thread": False, "isolation_level": None}  # None: we say BEGIN ourselves
        connection = aiosqlite.Connection(partial(_opened, database, options), iter_chunk_size=64)
        connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: who forgets to close it can still exit
        return _Connection(self, await_only(connection))


def _opened(database: str, options: dict[str, Any]) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(database, **options)
    try:
        for setting, value in (
            ("busy_timeout", _BUSY_MILLISECONDS),
            ("journal_mode", "WAL"),
            ("synchronous", "FULL"),  # a launch that was answered survives a power cut
            ("foreign_keys", "ON"),
            ("busy_timeout", 0),
        ):
            connection.execute(f"PRAGMA {setting} = {value}")
    except BaseException:
        connection.close()
        raise
    return connection


class Dialect(SQLiteDialect_aiosqlite):
    """SQLAlchemy's, with connections and cursors of ours."""

    driver = "neuropod"
    supports_statement_cache = True
    supports_server_side_cursors = False

    @classmethod
    def import_dbapi(cls) -> AsyncAdapt_aiosqlite_dbapi:
        """Return the driver."""
        return _Driver(aiosqlite, sqlite3)

    def on_connect(self) -> None:  # type: ignore[override]
        """Set nothing: of the functions that SQLAlchemy adds to SQLite we use none."""

    def do_begin(self, dbapi_connection: Any) -> None:
        """Let a transaction begin with its first statement."""
        dbapi_connection.dbapi_connection.begins_with = "BEGIN"


registry.register(NAME.replace("+", "."), __name__, Dialect.__name__)


def begin_writing(connection: Connection) -> None:
    """Let the transaction, whose first statement is still to come, be one that writes: no other may meanwhile.

    With `BEGIN` alone it would have to be given up where another one wrote between its first read and its first write.
    """
    cast("_Connection", connection.connection.dbapi_connection).begins_with = "BEGIN IMMEDIATE"
