"""Hands out what happens to all who follow the events of this server.

What happened it is told by the reader of news (`pods.news`), so a follower costs no query of their own. For those who
get something there is one query for their rights (SECURITY 24, 34): whoever lost them is ended instead, and so is
everybody else within `_LOOK_SECONDS`. What passes without an event (a place in a queue, a percentage) is looked at
while somebody follows. Built by server, run as a task.
"""

from collections.abc import AsyncIterator, Collection, Iterable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from neuropod.accounts.service import Accounts
from neuropod.api.feeding.followers import Follower
from neuropod.api.feeding.frames import Frame, begun, frame_of, passing_frame, position_of, reset
from neuropod.db.engine import ReadSession
from neuropod.db.events import bounds, events_after
from neuropod.ids import ApiKeyId, EventId, PodId, SessionId, UserId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import ThrottledError
from neuropod.kit.wakeups import Wakeup
from neuropod.observability.metrics import Metrics
from neuropod.pods.news import NOTHING, News, NewsReader, news_of
from neuropod.pods.passing.store import passing_pods
from neuropod.pods.service import Pods
from neuropod.settings import Addresses, EventSettings

_LOOK_SECONDS = 3.0  # below the five in which a revocation must hold
_RETRY_SECONDS = 1.0
_REST = 2  # times as long as the last look took, and so long at least: many may come at once, each with a nudge
_LEAST_REST_SECONDS = 0.05
_PASSING_SECONDS = 1.0  # what passes is looked at no more often: it takes the views of all pods that start,
_PASSING_REST = 100  # and times as long as the last such look took: with a hundred of them they are many
_BATCH = 200

log = structlog.get_logger(__name__)


class EventFeed:
    """The followers; `run` is the loop for what nobody tells."""

    def __init__(
        self,
        news: NewsReader,
        accounts: Accounts,
        pods: Pods,
        addresses: Addresses,
        settings: EventSettings,
        clock: Clock,
        *,
        epoch: int = 0,
    ) -> None:
        self.epoch = epoch
        self._news = news
        self._accounts = accounts
        self._pods = pods
        self._addresses = addresses
        self._settings = settings
        self._clock = clock
        self._everybody: set[Follower] = set()  # who follows all owners
        self._of_owner: dict[UserId, set[Follower]] = {}
        self._passed: dict[PodId, bytes] = {}  # the passing changes that everybody knows
        self._passing_at = float("-inf")  # not before are they looked at again
        self._passing_due = False  # they may have moved since
        self._wakeup = Wakeup()
        self._looked_at = clock.monotonic()
        news.listen(self.hand_out)

    def measured_by(self, metrics: Metrics) -> "EventFeed":
        """Tell operators how many follow."""
        metrics.gauge("event_followers", "Open event streams.").set_function(lambda: len(self))
        return self

    def __len__(self) -> int:
        return len(self._everybody) + sum(len(followers) for followers in self._of_owner.values())

    def _all(self) -> list[Follower]:
        return [*self._everybody, *(follower for followers in self._of_owner.values() for follower in followers)]

    # ---- coming and going

    def require_room(self, user_id: UserId) -> None:
        """Raise ThrottledError for who has as many streams open as a user may have."""
        most = self._settings.streams_per_user
        if sum(follower.user_id == user_id for follower in self._all()) >= most:
            raise ThrottledError(f"you have {most} event streams open; close some", retry_after_seconds=60)

    async def join(self, follower: Follower, after: str | None) -> bytes:
        """Let somebody follow from now on, or from a position; return the first bytes of their stream."""
        async with self._news.reading() as session:
            kept, position = await bounds(session), self._news.position
            self._group(follower).add(follower)
            self.tell_passing_again()
            follower.position = position
            if after is None:
                return begun(self.epoch, position)
            event_id = position_of(after, self.epoch)
            if event_id is None or not kept.holds_all_after(event_id):
                gone = event_id is not None and event_id < kept.oldest
                return reset(self.epoch, position, "too_old" if gone else "unknown")
            follower.position = event_id
            follower.behind = event_id < position
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
        until, selection = self._news.position, follower.selection
        while follower.position < until and not follower.ended.is_set():
            async with self._news.database.read() as session:
                rows = await events_after(
                    session,
                    follower.position,
                    until=until,
                    owner_id=selection.owner_id,
                    pod_id=selection.pod_id,
                    limit=_BATCH,
                )
                frames = self._frames(await news_of(session, self._pods, rows))
            follower.position = EventId(rows[-1].id) if rows else until
            yield b"".join(frame.data for frame in frames)
        self.tell_passing_again()

    def tell_passing_again(self) -> None:
        """Tell everybody at the next look what passes now: somebody does not know."""
        self._passed = {}
        self._passing_at = float("-inf")
        self._wakeup.nudge()

    # ---- handing out

    async def run(self) -> None:
        """Look after what nobody tells until cancelled. A database that does not answer costs time."""
        while True:
            await self._wakeup.sleep(self._seconds_to_next())
            began = self._clock.monotonic()
            try:
                await self.look()
            except (SQLAlchemyError, OSError) as error:
                log.warning("the rights of those who follow cannot be read", error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
                self._wakeup.nudge()
                continue
            await self._clock.sleep(max(_REST * (self._clock.monotonic() - began), _LEAST_REST_SECONDS))

    def _seconds_to_next(self) -> float | None:
        if not len(self):
            return None
        rights_due = max(0.0, self._looked_at + _LOOK_SECONDS - self._clock.monotonic())
        return min(_PASSING_SECONDS, rights_due) if self._passing_due else rights_due

    async def look(self) -> None:
        """Hand out what has passed, and end whoever lost the right."""
        if len(self):
            async with self._news.reading() as session:
                await self.hand_out(session, NOTHING)

    async def hand_out(self, session: ReadSession, news: News) -> None:
        """Hand out what is new to those who may see it, and what has passed; called while nobody can join."""
        if not len(self):
            return
        frames = [*self._frames(news), *await self._passing(session, news)]
        for follower in await self._without_right(session, self._asked_after(frames)):
            self.leave(follower)
        for frame in frames:
            for follower in self._wanting(frame):
                follower.put(frame)

    def _frames(self, news: News) -> list[Frame]:
        return [frame_of(row, news.views, self._addresses, self.epoch) for row in news.rows]

    async def _passing(self, session: ReadSession, news: News) -> list[Frame]:
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
        return [
            frame
            for pod_id, frame in frames.items()
            if told.get(pod_id) != frame.data and pod_id not in news.views  # of those it was told just now
        ]

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
