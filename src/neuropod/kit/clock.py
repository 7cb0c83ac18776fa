"""The one place that reads the time.

Everything that decides takes a `now`; everything that waits takes a `Clock`, so that the tests can run hours in
milliseconds. A test in tests/architecture fails on `now()` anywhere else.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is recorded, a monotonic time for what is measured, a sleep for what waits."""

    def now(self) -> datetime:
        """Return the wall time, always in UTC and aware."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump back; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long on this clock."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
