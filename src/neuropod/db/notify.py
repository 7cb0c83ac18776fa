"""Hears what other servers on the same PostgreSQL notified, and gives it out here as nudges. Nothing to do on SQLite.

NOTIFY only nudges: while the connection is away nudges are lost, and after every (re)connect all topics are told once,
so that a sleeper looks for itself.
"""

import asyncio

import asyncpg
import structlog

from neuropod.db.engine import CHANNEL, Database, Topic
from neuropod.kit.clock import Clock

_RETRY_SECONDS = 1.0
_CHECK_SECONDS = 30.0

log = structlog.get_logger(__name__)


async def hear(database: Database, clock: Clock) -> None:
    """Listen for ever; made a task by server."""
    while True:
        try:
            await _hear_once(database)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("notifications lost, connecting again", error=str(error))
        await clock.sleep(_RETRY_SECONDS)


async def _hear_once(database: Database) -> None:
    lost = asyncio.Event()

    def heard(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        database.tell(frozenset(topic for topic in Topic if topic in str(payload).split(",")))

    connection = await asyncpg.connect(database.url)
    try:
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, heard)
        database.tell(frozenset(Topic))
        while not await _set_within(lost, _CHECK_SECONDS):
            await connection.execute("SELECT 1")  # a connection that died without a word is found by asking
    finally:
        connection.terminate()  # nothing to say good-bye to: listening changes nothing


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
