"""The engine and the two kinds of session, the same on SQLite and PostgreSQL.

Made once by server. A writing session commits when its block ends without an error, and only then are its nudges
given out: in this process by callback, to other servers by NOTIFY (PostgreSQL), which may be lost.

SQLite: WAL, and BEGIN IMMEDIATE for every writing transaction: with the driver's default, two transactions that read
first and write later lose updates silently or fail half-way. One asyncio lock queues this process's writers in order,
since SQLite's own busy handler is a lottery; a lock on the data directory keeps a second process out.
"""

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from enum import StrEnum
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from neuropod.db import sqlite
from neuropod.kit.errors import NoSpaceError

log = structlog.get_logger(__name__)

CHANNEL = "neuropod"  # of NOTIFY
_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', :payload)")
# The second: the index of the log cannot be made longer.
_FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_FULL_STATE = "53100"  # PostgreSQL's disk_full
_AWAY_STATES = ("08", "57P")  # connection exceptions; it ends or does not take any yet


class Topic(StrEnum):
    """What changed, told to sleepers after a commit. A lost nudge costs latency, never correctness."""

    PODS = "pods"  # a pod is due
    ROUTES = "routes"  # what the gateway serves, and who may pass
    EVENTS = "events"  # a new event can be read
    VOLUMES = "volumes"  # one was deleted: its data are to be removed
    SERVERS = "servers"  # a server came or went
    LIMITS = "limits"  # a pod's limit of time has changed
    RUNTIMES = "runtimes"  # a server has opened one that it could not open before


NudgeListener = Callable[[frozenset[Topic]], None]


class ReadSession(AsyncSession):
    """A session that only reads. A function that takes one changes nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connected: Connection | None = None

    def connected(self) -> Connection:
        """Return the connection of this session's one transaction, for `db.reading` and `db.writing`, in `run_sync`.

        The session itself looks for it anew at each statement.
        """
        if self._connected is None:
            self._connected = self.sync_session.connection()
        return self._connected


class Session(ReadSession):
    """A session of one writing transaction."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.topics: set[Topic] = set()
        self._notified: set[Topic] = set()

    def nudge(self, topic: Topic) -> None:
        """Wake the sleepers of a topic once this transaction has committed."""
        self.topics.add(topic)

    def take_payload(self) -> str:
        """Return what other servers are to be notified of; the caller sends it (PostgreSQL) before the commit."""
        fresh = self.topics - self._notified
        self._notified |= fresh
        return ",".join(sorted(fresh))


SessionT = TypeVar("SessionT", bound=ReadSession)


class Database:
    """Opens sessions on one database."""

    def __init__(self, url: str) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self.url = url
        self.engine = _sqlite_engine(url) if self.is_sqlite else _postgresql_engine(url)
        self.write_transactions = 0  # counted for the metrics and for bench/
        self._writers: asyncio.Lock | nullcontext[None] = asyncio.Lock() if self.is_sqlite else nullcontext()
        self._listeners: list[NudgeListener] = []

    def listen(self, listener: NudgeListener) -> None:
        """Call `listener` with the topics of each commit of this process."""
        self._listeners.append(listener)

    def tell(self, topics: frozenset[Topic]) -> None:
        """Give nudges out in this process; also called with what other servers notified."""
        for listener in self._listeners:
            listener(topics)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        """Open a session that sees one state and changes nothing."""
        async with self._open(ReadSession) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Session]:
        """Open a writing session: committed when the block ends, rolled back when it raises.

        Raises NoSpaceError when the disk is full: it was rolled back, and another try may succeed.
        """
        try:
            async with self._writers, self._open(Session) as session:
                if self.is_sqlite:
                    await session.run_sync(lambda _: sqlite.begin_writing(session.connected()))
                yield session
                if not self.is_sqlite and (payload := session.take_payload()):
                    await session.execute(_NOTIFY, {"payload": payload})
                await session.commit()
                self.write_transactions += 1
        except DBAPIError as error:
            if is_full(error):
                raise NoSpaceError("the server cannot write, its disk is full; nothing was changed") from error
            raise
        if session.topics:
            self.tell(frozenset(session.topics))

    @asynccontextmanager
    async def _open(self, kind: type[SessionT]) -> AsyncIterator[SessionT]:
        session = kind(self.engine, expire_on_commit=False)
        try:
            yield session
        finally:
            if self.is_sqlite:  # which mostly waits for nothing here, and needs no task that is safe from being cut off
                await session.close()
            else:
                await session.__aexit__(None, None, None)

    async def answers(self, within_seconds: float) -> bool:
        """Tell whether the database can be asked now; used by `/readyz`, which a balancer acts on."""
        try:
            async with asyncio.timeout(within_seconds), self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (DBAPIError, OSError) as error:  # a time-out is an OSError too
            log.warning("the database does not answer", error=type(error).__name__)
            return False
        return True

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def is_full(error: DBAPIError) -> bool:
    """Tell whether the database could not write for want of room."""
    own = error.orig
    if isinstance(own, sqlite3.Error):
        return getattr(own, "sqlite_errorcode", None) in _FULL_CODES
    return getattr(own, "sqlstate", None) == _FULL_STATE


def is_away(error: BaseException) -> bool:
    """Tell whether PostgreSQL could not be reached, or cut the connection since it ends: another try may succeed."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or state.startswith(_AWAY_STATES)
    return isinstance(error, ConnectionError | TimeoutError | socket.gaierror)


def _sqlite_engine(url: str) -> AsyncEngine:
    return create_async_engine(url.replace("sqlite", sqlite.NAME, 1), pool_size=8, max_overflow=24)


def _postgresql_engine(url: str) -> AsyncEngine:
    """READ COMMITTED, as PostgreSQL has it: what must not change meanwhile is locked by name (leases, account rows)."""
    asked = make_url(url)
    query = dict(asked.query)
    if "sslmode" in query:  # libpq's word for it, which people and providers write; asyncpg calls it `ssl`
        query["ssl"] = query.pop("sslmode")
    asked = asked.set(drivername="postgresql+asyncpg", query=query)
    return create_async_engine(asked, pool_size=10, max_overflow=20, pool_pre_ping=True)
