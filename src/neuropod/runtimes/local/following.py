"""Reading a log for the contract's `logs`: what there is, then what comes. Called by `runtime`.

Nothing is polled: the shim sends a nudge after it wrote. Memory is one chunk and one unfinished line.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

from neuropod.runtimes.contract import LogLine, LogQuery
from neuropod.runtimes.local.shims import Subscription
from neuropod.runtimes.logfiles import LogReader, position_of_tail

_LINES_PER_TURN = 256  # then others get the event loop


async def lines_of(log_dir: Path, state_dir: Path, query: LogQuery) -> AsyncIterator[LogLine]:
    """Yield the lines that `query` asks for."""
    signal = _Signal()
    subscription = None
    if query.follow:
        # Subscribed before the first read, so that nothing falls between; a shim that is gone wrote all it had.
        with suppress(OSError):
            subscription = await Subscription.open(state_dir, "follow", on_nudge=signal.heard, on_end=signal.ended_now)
    if subscription is None:
        signal.ended_now()
    start = query.since or 0
    if query.tail is not None:
        start = max(start, position_of_tail(log_dir, query.tail))
    reader = LogReader(log_dir, start)
    try:
        async with aclosing(_lines(reader, signal)) as lines:
            async for line in lines:
                if query.since is None or line.position > query.since:
                    yield line
    finally:
        reader.close()
        if subscription is not None:
            subscription.close()


class _Signal:
    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.ended = False

    def heard(self, data: bytes) -> None:
        self.ended = self.ended or b"E" in data
        self.event.set()

    def ended_now(self) -> None:
        self.ended = True
        self.event.set()


async def _lines(reader: LogReader, signal: _Signal) -> AsyncGenerator[LogLine]:
    while True:
        signal.event.clear()
        ended = signal.ended
        for count, line in enumerate(reader.lines(ended=ended), 1):
            yield LogLine(line.position, line.text)
            if count % _LINES_PER_TURN == 0:
                await asyncio.sleep(0)
        if ended:
            return
        await signal.event.wait()
