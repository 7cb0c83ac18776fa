"""The route feed of a server: keeps the table as the database wants it.

One loop per server. It reads all routes when Topic.ROUTES is nudged (by a commit of this server, or another's by
NOTIFY), and now and then without being asked, since a nudge may be lost. It takes no input but that something changed:
what changed is found by comparing. Reading never takes more than a fifth of its time, however often it is nudged.
"""

from collections.abc import Sequence
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from neuropod.db.engine import Database, ReadSession, Topic
from neuropod.gateway.routes import wanted_routes
from neuropod.gateway.table import RouteTable
from neuropod.kit.clock import Clock
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.views import PodView

_UNASKED_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_REST = 4  # times as long as the last reading took,
_LEAST_REST_SECONDS = 0.05  # and so long at least: in a burst of launches many routes are read at once

log = structlog.get_logger(__name__)


class RoutedPods(Protocol):
    """The part of pods.service.Pods that the feed reads."""

    async def views_for_routes(self, session: ReadSession) -> Sequence[PodView]:
        """Return every pod that is not closed."""
        ...


class DatabaseFeed:
    """Follows the database; `run` is its loop."""

    def __init__(self, table: RouteTable, database: Database, pods: RoutedPods, clock: Clock) -> None:
        self._table = table
        self._database = database
        self._pods = pods
        self._clock = clock
        self._wakeup = Wakeup()
        database.listen(self._told)

    def _told(self, topics: frozenset[Topic]) -> None:
        if Topic.ROUTES in topics:
            self._wakeup.nudge()

    async def run(self) -> None:
        """Follow until cancelled. A database that does not answer leaves the table as it is."""
        while True:
            began = self._clock.monotonic()
            try:
                await self.load()
            except (SQLAlchemyError, OSError) as error:
                log.warning("the routes cannot be read; those known are still served", error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            took = self._clock.monotonic() - began
            await self._clock.sleep(max(_REST * took, _LEAST_REST_SECONDS))
            await self._wakeup.sleep(_UNASKED_SECONDS)

    async def load(self) -> None:
        """Read all routes and serve them."""
        async with self._database.read() as session:
            pods = await self._pods.views_for_routes(session)
        self._table.replace(wanted_routes(pods))
