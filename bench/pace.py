"""How fast the machine computes while something is measured: on a virtual one a second of CPU is worth now more, now less.

Seconds of CPU can be held against those of another day by it, as the same steps of Python took them in both.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

STEPS = 50_000  # a few milliseconds
_EVERY_SECONDS = 0.5  # so that it takes about a hundredth of a core


@dataclass
class Pace:
    """What the steps took, in milliseconds of CPU, each time they were taken."""

    samples: list[float] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        return statistics.median(self.samples)

    def take(self) -> None:
        began, number = time.thread_time(), 0
        for step in range(STEPS):
            number = (31 * number + step) & 0xFFFFFFFF
        self.samples.append(1000 * (time.thread_time() - began))


@asynccontextmanager
async def paced() -> AsyncIterator[Pace]:
    """Take the steps now and again while the block runs, on its loop, which waits for them."""
    pace = Pace()

    async def on() -> None:
        while True:
            pace.take()
            await asyncio.sleep(_EVERY_SECONDS)

    taking = asyncio.create_task(on())
    try:
        await asyncio.sleep(0)
        yield pace
    finally:
        taking.cancel()
