"""The route feed of a server: keeps the table as the database wants it.

One loop per server. It reads all routes when Topic.ROUTES is nudged (by a commit of this server, or another's by
NOTIFY), and now and then without being asked, since a nudge may be lost. It takes no input but that something changed:
what changed is found by comparing. Reading never takes more than a fifth of its time, however often it is nudged; so
while many pods start, those of the newest events are read alone first, and all of them a moment later.
"""

from collections.abc import Sequence
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from neuropod.db.engine import Database, ReadSession, Topic
from neuropod.db.events import bounds, events_after
from neuropod.gateway.routes import Change, wanted_routes
from neuropod.gateway.table import RouteTable
from neuropod.ids import EventId, PodId
from neuropod.kit.clock import Clock
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.views import PodView

_UNASKED_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_REST = 4  # times as long as the last reading took,
_LEAST_REST_SECONDS = 0.05  # and so long at least: in a burst of launches many routes are read at once
_ALL_REST_SECONDS = 2.0  # likewise, between two readings of all; a right that was taken away counts within five
_MOST_EVENTS = 200

log = structlog.get_logger(__name__)


class RoutedPods(Protocol):
    """The part of pods.service.Pods that the feed reads."""

    async def views_for_routes(self, session: ReadSession, pod_ids: Sequence[PodId] | None = None) -> Sequence[PodView]:
        """Return every pod that is not closed, or of these ids those that are not."""
        ...


class DatabaseFeed:
    """Follows the database; `run` is its loop."""

    def __init__(self, table: RouteTable, database: Database, pods: RoutedPods, clock: Clock) -> None:
        self._table = table
        self._database = database
        self._pods = pods
        self._clock = clock
        self._wakeup = Wakeup()
        self._position = EventId(0)  # the newest event that the table knows
        self._all_at = float("-inf")  # not before are all read again,
        self._soonest_at = float("-inf")  # but so soon where nothing else helps
        self._all_due = False
        database.listen(self._told)

    def _told(self, topics: frozenset[Topic]) -> None:
        if Topic.ROUTES in topics:
            self._wakeup.nudge()

    async def run(self) -> None:
        """Follow until cancelled. A database that does not answer leaves the table as it is."""
        while True:
            began = self._clock.monotonic()
            whole = began >= self._all_at
            try:
                await (self.load() if whole else self.follow())
            except (SQLAlchemyError, OSError) as error:
                log.warning("the routes cannot be read; those known are still served", error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            took = self._clock.monotonic() - began
            await self._clock.sleep(_LEAST_REST_SECONDS if whole else max(_REST * took, _LEAST_REST_SECONDS))
            until_all = max(0.0, self._all_at - self._clock.monotonic())
            await self._wakeup.sleep(until_all if self._all_due else _UNASKED_SECONDS)

    async def load(self) -> None:
        """Read all routes and serve them."""
        began = self._clock.monotonic()
        async with self._database.read() as session:
            position = (await bounds(session)).newest
            pods = await self._pods.views_for_routes(session)
        self._table.replace(wanted_routes(pods))
        now = self._clock.monotonic()
        self._position, self._all_due = position, False
        self._soonest_at = now + _REST * (now - began)
        self._all_at = max(self._soonest_at, now + _ALL_REST_SECONDS)

    async def follow(self) -> None:
        """Read the routes of pods to which something happened, and serve them; what else changed waits for `load`.

        Where nothing happened to a pod something else did, and all are read as soon as may be.
        """
        self._all_due = True
        async with self._database.read() as session:
            rows = await events_after(session, self._position, limit=_MOST_EVENTS)
            pod_ids = sorted({PodId(row.pod_id) for row in rows if row.pod_id is not None})
            pods = await self._pods.views_for_routes(session, pod_ids) if pod_ids else []
        if not pod_ids:
            self._all_at = self._soonest_at
            return
        self._position = EventId(rows[-1].id)
        known = self._table.routes
        changed = [route for host, route in wanted_routes(pods).items() if known.get(host) != route]
        self._table.apply(Change(set=tuple(changed), gone=()))
