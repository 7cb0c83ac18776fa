"""The answer that carries events to one follower, until they go or are ended. Returned by routes.events."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from neuropod.api.feeding.feed import EventFeed
from neuropod.api.feeding.followers import Follower
from neuropod.api.feeding.frames import BEAT

MEDIA_TYPE = "text/event-stream"
BEAT_SECONDS = 15.0  # a comment keeps proxies from cutting the stream
_LAST_SECONDS = 1.0


class EventStream(StreamingResponse):
    """Sends frames as they come. One that is ended is cut also when its reader takes nothing any more."""

    def __init__(self, feed: EventFeed, follower: Follower, after: str | None) -> None:
        super().__init__(_frames(feed, follower, after), media_type=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})
        self._feed = feed
        self._follower = follower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        streaming = asyncio.create_task(self.stream_response(send))
        others = [
            asyncio.create_task(self.listen_for_disconnect(receive)),
            asyncio.create_task(self._follower.ended.wait()),
        ]
        try:
            await asyncio.wait({streaming, *others}, return_when=asyncio.FIRST_COMPLETED)
            if self._follower.ended.is_set():
                await asyncio.wait({streaming}, timeout=_LAST_SECONDS)
        finally:
            self._feed.leave(self._follower)
            for task in (streaming, *others):
                task.cancel()
            await asyncio.gather(streaming, *others, return_exceptions=True)
        if not streaming.cancelled() and (error := streaming.exception()) is not None:
            raise error


async def _frames(feed: EventFeed, follower: Follower, after: str | None) -> AsyncIterator[bytes]:
    yield await feed.join(follower, after)
    while not follower.ended.is_set():
        if follower.behind:
            async for data in feed.catch_up(follower):
                yield data
            continue
        frames = await follower.take(BEAT_SECONDS)
        if follower.ended.is_set():
            return
        if not follower.behind:
            yield b"".join(frame.data for frame in frames) or BEAT
