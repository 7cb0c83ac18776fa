"""The nudges of one runtime: about which pods something may have changed, told to each that follows its `watch`.

Every runtime has one and sends by it what it notices; whoever loses a nudge learns of the change a little later.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from neuropod.ids import PodId

_KEPT = 10_000  # for a follower that is busy


class Nudges:
    """What one runtime sends, to all that follow."""

    def __init__(self) -> None:
        self._followers: set[asyncio.Queue[PodId]] = set()
        self._later: dict[PodId, asyncio.TimerHandle] = {}

    async def follow(self) -> AsyncIterator[PodId]:
        """Yield the pods about which something may have changed, from the first step on; it does not end by itself."""
        queue: asyncio.Queue[PodId] = asyncio.Queue(_KEPT)
        self._followers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._followers.discard(queue)

    def send(self, pod: PodId) -> None:
        """Tell all that follow; what was to be told of the pod later is told by it."""
        if (timer := self._later.pop(pod, None)) is not None:
            timer.cancel()
        for queue in self._followers:
            with suppress(asyncio.QueueFull):  # lost, as a nudge may be
                queue.put_nowait(pod)

    def send_later(self, pod: PodId, seconds: float) -> None:
        """Tell them then: about what changes without a sign. One at a time per pod: the first that was asked for."""
        if pod not in self._later:
            self._later[pod] = asyncio.get_running_loop().call_later(seconds, self.send, pod)

    def close(self) -> None:
        """Send nothing later any more."""
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
