"""What happened, read once for all of this server who follow it: the gateway's routes and the API's event streams.

One reader per server, nudged by Topic.EVENTS (a commit here, or another server's by NOTIFY); a lost nudge costs
`_UNASKED_SECONDS`. For each batch of new events it reads the events and their pods as they are now, and tells those who
follow one after another, in the order in which they came: routes stand before anybody hears of them. Built by server,
`run` as a task.

Ids of events grow in commit order (db.events), so that reading on from the newest one seen misses none.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from neuropod.db.engine import Database, ReadSession, Topic
from neuropod.db.events import EventRow, bounds, events_after
from neuropod.ids import EventId, PodId
from neuropod.kit.clock import Clock
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.views import PodView

_UNASKED_SECONDS = 3.0
_RETRY_SECONDS = 1.0
_REST = 3  # times as long as the last reading took: what comes meanwhile is read at once,
_REST_SECONDS = 0.03  # and so long for each event that was told: a burst is told in tens rather than one by one,
_LONGEST_REST_SECONDS = 0.15
_BATCH = 200

log = structlog.get_logger(__name__)


class ViewedPods(Protocol):
    """The part of pods.service.Pods that those who follow read."""

    async def views_for_routes(self, session: ReadSession, pod_ids: Sequence[PodId] | None = None) -> Sequence[PodView]:
        """Return every pod that is not closed, or of these ids those that are not."""
        ...


@dataclass(frozen=True, slots=True)
class News:
    """Events, in order, and the pods that they are about, as they are now; those that are gone for good are missing."""

    rows: Sequence[EventRow]
    views: Mapping[PodId, PodView]


NOTHING = News((), {})

NewsListener = Callable[[ReadSession, News], Awaitable[None]]


class NewsReader:
    """The reader; `run` is its loop."""

    def __init__(self, database: Database, pods: ViewedPods, clock: Clock) -> None:
        self.database = database  # for who follows and reads at their own pace
        self._pods = pods
        self._clock = clock
        self._listeners: list[NewsListener] = []
        self._position: EventId | None = None
        self._lock = asyncio.Lock()
        self._wakeup = Wakeup()
        database.listen(self._told)

    def listen(self, listener: NewsListener) -> None:
        """Tell `listener` all that happens from now on, after those that came before; after an error the same again."""
        self._listeners.append(listener)

    @property
    def position(self) -> EventId:
        """The newest event that those who follow were told; known since the first reading."""
        if self._position is None:
            raise RuntimeError("nothing was read yet")
        return self._position

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadSession]:
        """Open a session for one who follows. Meanwhile the position stands still and nobody else of them reads.

        So whoever keeps what they read never puts an older state over a newer one.
        """
        async with self._lock, self.database.read() as session:
            if self._position is None:
                self._position = (await bounds(session)).newest
            yield session

    def _told(self, topics: frozenset[Topic]) -> None:
        if Topic.EVENTS in topics:
            self._wakeup.nudge()

    async def run(self) -> None:
        """Read and tell until cancelled. A database that does not answer costs time; nothing is lost."""
        while True:
            began, before = self._clock.monotonic(), self._position or 0
            try:
                while await self.look():
                    pass
            except (SQLAlchemyError, OSError) as error:
                log.warning("the events cannot be read; those who follow wait", error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            together_seconds = min(_REST_SECONDS * (self.position - before), _LONGEST_REST_SECONDS)
            await self._clock.sleep(max(_REST * (self._clock.monotonic() - began), together_seconds))
            await self._wakeup.sleep(_UNASKED_SECONDS)

    async def look(self) -> bool:
        """Tell what is new; return whether there is more already."""
        async with self.reading() as session:
            rows = await events_after(session, self.position, limit=_BATCH)
            if rows:
                news = await news_of(session, self._pods, rows)
                for listener in self._listeners:
                    await listener(session, news)
                self._position = EventId(rows[-1].id)
        return len(rows) == _BATCH


async def news_of(session: ReadSession, pods: ViewedPods, rows: Sequence[EventRow]) -> News:
    """Return events with the pods that they are about."""
    pod_ids = sorted({PodId(row.pod_id) for row in rows if row.pod_id is not None})
    views = await pods.views_for_routes(session, pod_ids) if pod_ids else ()
    return News(rows, {view.id: view for view in views})
