"""The route feed of a server: keeps the table as the database wants it.

One per server. What happened to pods it is told by the reader of news (`pods.news`), within milliseconds: all that
matters of their routes, and that rights may have changed. All routes it reads when Topic.ROUTES is nudged (by a commit
of this server, or another's by NOTIFY) without an event; else a while later, for what shows without one (a message on
a page); and now and then without being asked, since a nudge may be lost. It takes no input but that something changed:
what changed is found by comparing. Reading all never takes more than a fifth of its time, however often it is nudged.
"""

import structlog
from sqlalchemy.exc import SQLAlchemyError

from neuropod.db.engine import Database, ReadSession, Topic
from neuropod.gateway.routes import Route, change_between, wanted_routes
from neuropod.gateway.table import RouteTable
from neuropod.ids import PodId
from neuropod.kit.clock import Clock
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.news import News, NewsReader, ViewedPods

_UNASKED_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_REST = 4  # times as long as the last reading took,
_LEAST_REST_SECONDS = 0.05  # and so long at least
_TOLD_SECONDS = 30.0  # so long after what was told: with many pods to read all takes long

log = structlog.get_logger(__name__)


class DatabaseFeed:
    """Follows the database; `run` is its loop."""

    def __init__(self, table: RouteTable, database: Database, news: NewsReader, pods: ViewedPods, clock: Clock) -> None:
        self._table = table
        self._news = news
        self._pods = pods
        self._clock = clock
        self._wakeup = Wakeup()
        self._due_at = float("-inf")  # when all are read again
        self._soonest_at = float("-inf")  # not before
        self._hosts: dict[PodId, set[str]] = {}
        news.listen(self.heard)
        database.listen(self._told)

    def _told(self, topics: frozenset[Topic]) -> None:
        if Topic.ROUTES in topics:
            told = Topic.EVENTS in topics and Topic.SERVERS not in topics  # a server's coming and going concerns many
            self._all_within(_TOLD_SECONDS if told else 0.0)

    def _all_within(self, seconds: float) -> None:
        due_at = max(self._soonest_at, self._clock.monotonic() + seconds)
        if due_at < self._due_at:
            self._due_at = due_at
            self._wakeup.nudge()

    async def run(self) -> None:
        """Follow until cancelled. A database that does not answer leaves the table as it is."""
        while True:
            await self._wakeup.sleep(max(0.0, self._due_at - self._clock.monotonic()))
            if self._clock.monotonic() < self._due_at:
                continue
            try:
                await self.load()
            except (SQLAlchemyError, OSError) as error:
                log.warning("the routes cannot be read; those known are still served", error=str(error))
                self._due_at = self._clock.monotonic() + _RETRY_SECONDS

    async def load(self) -> None:
        """Read all routes and serve them."""
        began = self._clock.monotonic()
        self._due_at = began + _UNASKED_SECONDS  # what is nudged from here on makes it sooner
        async with self._news.reading() as session:
            wanted = wanted_routes(await self._pods.views_for_routes(session))
        self._hosts = {}
        for host, route in wanted.items():
            self._hosts.setdefault(route.pod_id, set()).add(host)
        self._table.replace(wanted)
        now = self._clock.monotonic()
        self._soonest_at = now + max(_REST * (now - began), _LEAST_REST_SECONDS)
        self._due_at = max(self._due_at, self._soonest_at)

    async def heard(self, _session: ReadSession, news: News) -> None:
        """Serve the routes of pods to which something happened. What else changed waits for `load`."""
        if any(row.pod_id is None for row in news.rows):  # it may be about many pods
            self._all_within(0.0)
        served: dict[str, Route] = {}
        wanted: dict[str, Route] = {}
        for pod_id in {PodId(row.pod_id) for row in news.rows if row.pod_id is not None}:
            hosts = self._hosts.pop(pod_id, set())
            served |= {host: route for host in hosts if (route := self._table.get(host)) is not None}
            if (view := news.views.get(pod_id)) is not None:
                routes = wanted_routes([view])
                self._hosts[pod_id] = set(routes)
                wanted |= routes
        self._table.apply(change_between(served, wanted))
