"""Somebody who follows the events: what they asked for, and the frames that wait for them. Made by routes.events.

What waits is bounded. A reader that is too slow loses the queue and is marked `behind`: it then reads the same events
from the database, at its own pace (`EventFeed.catch_up`): a slow reader costs time and no memory, and misses nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from neuropod.accounts.access import Actor
from neuropod.api.feeding.frames import Frame
from neuropod.ids import ApiKeyId, EventId, PodId, SessionId, UserId
from neuropod.words import Scope

MOST_WAITING = 500  # frames, which all followers share


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events are asked for."""

    owner_id: UserId | None  # None: everybody's, for administrators
    pod_id: PodId | None = None

    def takes(self, frame: Frame) -> bool:
        """Tell whether a frame is one of them."""
        return self.owner_id in {None, frame.owner_id} and self.pod_id in {None, frame.pod_id}

    def is_allowed(self, actor: Actor) -> bool:
        """Tell whether this is the actor's to see, by their rights of now."""
        return Scope.READ in actor.scopes and (actor.is_admin or self.owner_id == actor.user_id)


class Follower:
    """One open stream."""

    def __init__(self, selection: Selection, actor: Actor) -> None:
        credential = actor.session_id or actor.key_id
        if credential is None or actor.user_id is None:
            raise ValueError("only sessions and keys follow events")
        self.selection = selection
        self.user_id = actor.user_id
        self.credential: SessionId | ApiKeyId = credential
        self.position = EventId(0)  # the newest event that was handed out
        self.behind = False
        self.ended = asyncio.Event()
        self._waiting: list[Frame] = []
        self._news = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """Let a frame wait, unless the follower is behind and will read it from the database."""
        if self.behind or (frame.id is not None and frame.id <= self.position):
            return
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.clear()
            self.behind = True
        else:
            self._waiting.append(frame)
        self._news.set()

    def end(self) -> None:
        """Send nothing more: the rights have ended, or the server does."""
        self._waiting.clear()
        self.ended.set()
        self._news.set()

    async def take(self, seconds: float) -> Sequence[Frame]:
        """Return what waits, as soon as something does; nothing after so many seconds, or at the end."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return ()
        if not self.ended.is_set():
            self._news.clear()
        frames, self._waiting = self._waiting, []
        self.position = max([self.position, *(frame.id for frame in frames if frame.id is not None)])
        return frames
