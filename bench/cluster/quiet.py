"""Rest between two measurements: what a burst leaves behind is cleared away for a while, at the cost of the next one.

The node takes the networks, mounts and containers of what has ended away, and rules are written anew: with a hundred
Pods that goes on for seconds after the last of them is gone from the API.
"""

import asyncio
import os
import time
from pathlib import Path

_BUSY = 0.15  # of all cores: a cluster that does nothing is below
_WINDOW_SECONDS = 2.0
_LONGEST_SECONDS = 120.0


async def until_quiet() -> None:
    """Return once the machine has done next to nothing for two seconds. Raises TimeoutError after two minutes."""
    async with asyncio.timeout(_LONGEST_SECONDS):
        while await _busy() > _BUSY:
            pass


async def _busy() -> float:
    """Return the part of all cores that was in use over a window from now on."""
    before, began = _idle_seconds(), time.perf_counter()
    await asyncio.sleep(_WINDOW_SECONDS)
    seconds = time.perf_counter() - began
    return 1 - (_idle_seconds() - before) / (seconds * (os.cpu_count() or 1))


def _idle_seconds() -> float:
    """Return how long the machine's cores did nothing since it was started, all together; see proc_stat(5)."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
