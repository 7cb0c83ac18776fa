"""A wakeup: many nudges, one turn. Losing one costs latency, never correctness, since every sleeper also has an end."""

import asyncio


class Wakeup:
    """One sleeper, many callers. Nudges that come while nobody sleeps are kept as one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def nudge(self) -> None:
        """Wake the sleeper, or let its next sleep end at once."""
        self._event.set()

    async def sleep(self, seconds: float | None) -> bool:
        """Sleep until nudged (True) or until `seconds` have passed (False; None means for ever)."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
