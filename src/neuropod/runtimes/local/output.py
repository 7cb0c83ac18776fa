"""What a pod prints: from its pipe into its log, at a bounded rate. Called by `shim`.

The pipe is always read on, so a pod never blocks for good; one that floods is slowed to `_BYTES_PER_SECOND` after a
burst, so that its log costs the neighbours neither the processor nor the disk (SECURITY 9).
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress

from neuropod.runtimes.local.loop import Loop
from neuropod.runtimes.logfiles import LogWriter

_CHUNK = 256 << 10
_BURST_BYTES = 64 << 20
_BYTES_PER_SECOND = 8 << 20
_PAUSE_SECONDS = 0.1


class Output:
    """Pumps one pipe until it ends; `on_written` tells that followers have something to read."""

    def __init__(self, loop: Loop, fd: int, log: LogWriter, on_written: Callable[[], None]) -> None:
        self._loop = loop
        self._fd = fd
        self._log = log
        self._on_written = on_written
        self._budget = float(_BURST_BYTES)
        self._paid_at = time.monotonic()
        loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove(self._fd)
            return
        self._log.write(data)
        self._on_written()
        now = time.monotonic()
        self._budget = min(_BURST_BYTES, self._budget + (now - self._paid_at) * _BYTES_PER_SECOND) - len(data)
        self._paid_at = now
        if self._budget < 0:
            self._loop.remove(self._fd)
            self._loop.call_later(_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def finish(self) -> None:
        """Take what is left in the pipe (its writers are gone, or are not waited for) and close it."""
        with suppress(BlockingIOError):
            while data := os.read(self._fd, _CHUNK):
                self._log.write(data)
        self._loop.remove(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._log.close()
        self._on_written()
