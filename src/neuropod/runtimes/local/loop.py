"""The shim's event loop: readable descriptors and timers, one thread. Standard library only.

asyncio would cost each launch 45 ms and each pod 9 MB (measured), for a process that watches ten descriptors. Used by
`shim` and by what it lets run in its loop (`dns`).
"""

import heapq
import itertools
import selectors
import time
from collections.abc import Callable

Callback = Callable[[], None]


class Timer:
    """A callback to come; `cancel` is allowed at any time."""

    __slots__ = ("at", "callback")

    def __init__(self, at: float, callback: Callback) -> None:
        self.at = at
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Do not call it any more."""
        self.callback = None


class Loop:
    """Calls back when a descriptor can be read or written, or when a time has come.

    A callback that raises ends `run` with its error: a shim whose loop has a defect ends, and its pod with it, loudly.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = False

    def add_reader(self, fd: int, callback: Callback) -> None:
        """Call back whenever `fd` can be read (or has ended), until `remove`."""
        self._watch(fd, selectors.EVENT_READ, callback)

    def add_writer(self, fd: int, callback: Callback) -> None:
        """Call back whenever `fd` can be written, until `remove`. One of reader and writer per descriptor."""
        self._watch(fd, selectors.EVENT_WRITE, callback)

    def _watch(self, fd: int, events: int, callback: Callback) -> None:
        self.remove(fd)
        self._selector.register(fd, events, callback)

    def remove(self, fd: int) -> None:
        """Watch `fd` no more; call it before closing. May be repeated; -1 (a closed socket's) is nothing."""
        if fd >= 0 and fd in self._selector.get_map():
            self._selector.unregister(fd)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, that much later."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        return timer

    def run(self) -> None:
        """Work until `stop`."""
        self._running = True
        while self._running:
            for key, _ in self._selector.select(self._next_wait()):
                # An earlier callback of this round may have removed it.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
            self._run_timers()

    def stop(self) -> None:
        """Let `run` return after the callback that calls this."""
        self._running = False

    def _next_wait(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if (callback := timer.callback) is not None:
                callback()
