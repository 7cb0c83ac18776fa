"""The one reader of events per server, which hands them out to all who follow.

A follower costs no query while it is idle. For each batch of new events there is one query for the events, a few for
their pods, and one for the rights of those who get something (SECURITY 24, 34): whoever lost them is ended instead, and
so is everybody else within `_LOOK_SECONDS`. Nudged by Topic.EVENTS (a commit here, or another server's by NOTIFY);
a lost nudge costs as long. While nobody follows nothing is read. Built by server, run as a task.

Ids of events grow in commit order (db.events), so that reading on from the newest one seen misses none.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError

from neuropod.accounts.service import Accounts
from neuropod.api.feeding.followers import Follower
from neuropod.api.feeding.frames import Frame, begun, frame_of, passing_frame, pods_of, position_of, reset
from neuropod.db.engine import Database, ReadSession, Topic
from neuropod.db.events import EventRow, bounds, events_after
from neuropod.ids import ApiKeyId, EventId, PodId, SessionId, UserId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import ThrottledError
from neuropod.kit.wakeups import Wakeup
from neuropod.observability.metrics import Metrics
from neuropod.pods.passing.store import passing_pods
from neuropod.pods.service import Pods
from neuropod.settings import Addresses, EventSettings

_LOOK_SECONDS = 3.0  # below the five in which a revocation must hold
_RETRY_SECONDS = 1.0
_REST = 2  # times as long as the last reading took: what comes meanwhile is read at once,
_PASSING_SECONDS = 1.0  # what passes is looked at no more often: it takes the views of all pods that start,
_PASSING_REST = 50  # and times as long as the last such look took: with a hundred of them they are many
_LEAST_REST_SECONDS = 0.05  # and so long at least: a burst of launches is told in tens rather than one by one
_BATCH = 200

log = structlog.get_logger(__name__)


class EventFeed:
    """The reader; `run` is its loop."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        pods: Pods,
        addresses: Addresses,
        settings: EventSettings,
        clock: Clock,
        *,
        epoch: int = 0,
    ) -> None:
        self.epoch = epoch
        self._database = database
        self._accounts = accounts
        self._pods = pods
        self._addresses = addresses
        self._settings = settings
        self._clock = clock
        self._position = EventId(0)  # the newest event that was handed out
        self._everybody: set[Follower] = set()  # who follows all owners
        self._of_owner: dict[UserId, set[Follower]] = {}
        self._passed: dict[PodId, bytes] = {}  # the passing changes that everybody knows
        self._passing_at = float("-inf")  # not before are they looked at again
        self._passing_due = False  # they may have moved since
        self._lock = asyncio.Lock()  # held by whoever moves the position
        self._wakeup = Wakeup()
        self._looked_at = clock.monotonic()
        database.listen(self._told)

    def measured_by(self, metrics: Metrics) -> "EventFeed":
        """Tell operators how many follow."""
        metrics.gauge("event_followers", "Open event streams.").set_function(lambda: len(self))
        return self

    def __len__(self) -> int:
        return len(self._everybody) + sum(len(followers) for followers in self._of_owner.values())

    def _all(self) -> list[Follower]:
        return [*self._everybody, *(follower for followers in self._of_owner.values() for follower in followers)]

    def _told(self, topics: frozenset[Topic]) -> None:
        if Topic.EVENTS in topics:
            self._wakeup.nudge()

    # ---- coming and going

    def require_room(self, user_id: UserId) -> None:
        """Raise ThrottledError for who has as many streams open as a user may have."""
        most = self._settings.streams_per_user
        if sum(follower.user_id == user_id for follower in self._all()) >= most:
            raise ThrottledError(f"you have {most} event streams open; close some", retry_after_seconds=60)

    async def join(self, follower: Follower, after: str | None) -> bytes:
        """Let somebody follow from now on, or from a position; return the first bytes of their stream."""
        async with self._lock:
            async with self._database.read() as session:
                kept = await bounds(session)
            if not len(self):
                self._position = kept.newest
            group = self._group(follower)
            group.add(follower)
            self.tell_passing_again()
            follower.position = self._position
            if after is None:
                return begun(self.epoch, self._position)
            event_id = position_of(after, self.epoch)
            if event_id is None or not kept.holds_all_after(event_id):
                gone = event_id is not None and event_id < kept.oldest
                return reset(self.epoch, self._position, "too_old" if gone else "unknown")
            follower.position = event_id
            follower.behind = event_id < self._position
            return b": goes on\n\n"

    def leave(self, follower: Follower) -> None:
        """Hand nothing more out to somebody."""
        follower.end()
        self._group(follower).discard(follower)
        owner_id = follower.selection.owner_id
        if owner_id is not None and not self._of_owner.get(owner_id):
            self._of_owner.pop(owner_id, None)

    def _group(self, follower: Follower) -> set[Follower]:
        owner_id = follower.selection.owner_id
        return self._everybody if owner_id is None else self._of_owner.setdefault(owner_id, set())

    def end(self) -> None:
        """End all streams: the server ends. Those who followed come back, here or to another server."""
        for follower in self._all():
            self.leave(follower)

    async def catch_up(self, follower: Follower) -> AsyncIterator[bytes]:
        """Yield what somebody who is behind has missed, from the database; what comes meanwhile waits for them."""
        follower.behind = False
        until, selection = self._position, follower.selection
        while follower.position < until and not follower.ended.is_set():
            async with self._database.read() as session:
                rows = await events_after(
                    session,
                    follower.position,
                    until=until,
                    owner_id=selection.owner_id,
                    pod_id=selection.pod_id,
                    limit=_BATCH,
                )
                frames = await self._frames(session, rows)
            follower.position = EventId(rows[-1].id) if rows else until
            yield b"".join(frame.data for frame in frames)
        self.tell_passing_again()

    def tell_passing_again(self) -> None:
        """Tell everybody at the next look what passes now: somebody does not know."""
        self._passed = {}
        self._passing_at = float("-inf")
        self._wakeup.nudge()

    # ---- the loop

    async def run(self) -> None:
        """Read and hand out until cancelled. A database that does not answer costs time; nothing is lost."""
        while True:
            await self._wakeup.sleep(self._seconds_to_next())
            began = self._clock.monotonic()
            try:
                while await self.look():
                    pass
            except (SQLAlchemyError, OSError) as error:
                log.warning("the events cannot be read; those who follow wait", error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
                self._wakeup.nudge()
                continue
            took = self._clock.monotonic() - began
            await self._clock.sleep(max(_REST * took, _LEAST_REST_SECONDS))

    def _seconds_to_next(self) -> float | None:
        if not len(self):
            return None
        return _PASSING_SECONDS if self._passing_due else _LOOK_SECONDS

    async def look(self) -> bool:
        """Hand out what is new, and end whoever lost the right; tell whether there is more already."""
        if not len(self):
            return False
        async with self._lock:
            async with self._database.read() as session:
                rows = await events_after(session, self._position, limit=_BATCH)
                frames = [*await self._frames(session, rows), *await self._passing(session, rows)]
                lost = await self._without_right(session, self._asked_after(frames))
            for follower in lost:
                self.leave(follower)
            # From here on nothing is awaited: who joined meanwhile joined at the old position and gets all of it.
            for frame in frames:
                for follower in self._wanting(frame):
                    follower.put(frame)
            if rows:
                self._position = EventId(rows[-1].id)
        return len(rows) == _BATCH

    async def _frames(self, session: ReadSession, rows: Sequence[EventRow]) -> list[Frame]:
        pod_ids = list(pods_of(rows))
        views = {view.id: view for view in await self._pods.views_for_routes(session, pod_ids)} if pod_ids else {}
        return [frame_of(row, views, self._addresses, self.epoch) for row in rows]

    async def _passing(self, session: ReadSession, rows: Collection[EventRow]) -> list[Frame]:
        """Return what has moved without an event since everybody was told."""
        began = self._clock.monotonic()
        self._passing_due = began < self._passing_at
        if self._passing_due:
            return []
        pod_ids = await passing_pods(session)
        views = await self._pods.views_for_routes(session, pod_ids) if pod_ids else []
        now = self._clock.monotonic()
        self._passing_at = max(began + _PASSING_SECONDS, now + _PASSING_REST * (now - began))
        frames = {view.id: passing_frame(view, self._addresses) for view in views}
        told, self._passed = self._passed, {pod_id: frame.data for pod_id, frame in frames.items()}
        just_told = pods_of(rows)
        return [frame for pod_id, frame in frames.items() if told.get(pod_id) != frame.data and pod_id not in just_told]

    def _asked_after(self, frames: Iterable[Frame]) -> Collection[Follower]:
        """Return whose rights are looked at now: all, now and then, else those who get something."""
        now = self._clock.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS * 0.9:
            self._looked_at = now
            return self._all()
        return {follower for frame in frames for follower in self._wanting(frame)}

    def _wanting(self, frame: Frame) -> list[Follower]:
        groups = (self._everybody, self._of_owner.get(frame.owner_id, ()))
        return [follower for group in groups for follower in group if follower.selection.takes(frame)]

    async def _without_right(self, session: ReadSession, followers: Collection[Follower]) -> list[Follower]:
        by_session = {follower.credential for follower in followers}
        standing = await self._accounts.still_signed_in(
            session,
            session_ids=[SessionId(one) for one in by_session if one.startswith("ses")],
            key_ids=[ApiKeyId(one) for one in by_session if one.startswith("key")],
        )
        return [
            follower
            for follower in followers
            if (actor := standing.get(follower.credential)) is None or not follower.selection.is_allowed(actor)
        ]
