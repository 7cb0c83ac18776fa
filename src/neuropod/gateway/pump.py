"""Moves the rest of a long body from a pod's socket to the client's inside the kernel, by splice(2).

Used by upstream for bodies of known length once both transports have nothing waiting: bytes that nobody looks at need
not be copied into Python and out again, which halves what a download costs (docs/benchmarks.md). Where it cannot be
had (TLS, not Linux, something still waiting to be written) bodies go the ordinary way.

It works on duplicates of both descriptors, so the transports keep theirs; the connection ends only when the duplicates
are closed too, so whoever ends a transport stops the pump first.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from typing import Any

LEAST_BYTES = 1024 * 1024  # below this the set-up costs more than it saves
_PIPE_BYTES = 1024 * 1024
_SPLICE: Callable[..., int] | None = getattr(os, "splice", None)
_FLAGS: int = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


class Pump:
    """One body on its way. `on_end` is called once, with whether all of it has been handed to the client's socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        nbytes: int,
        on_progress: Callable[[int], None],
        on_end: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._left = nbytes
        self._waiting = 0  # in the pipe
        self._on_progress = on_progress
        self._on_end = on_end
        self._fds: list[int] = []
        self._writing = False

    @staticmethod
    def possible(source: asyncio.Transport, target: asyncio.Transport) -> bool:
        """Tell whether both ends are plain sockets and nothing waits to be written."""
        return (
            _SPLICE is not None
            and target.get_write_buffer_size() == 0
            and not target.is_closing()
            and not source.is_closing()
            and all(
                transport.get_extra_info("sslcontext") is None and transport.get_extra_info("socket") is not None
                for transport in (source, target)
            )
        )

    def start(self, source: asyncio.Transport, target: asyncio.Transport) -> bool:
        """Begin; the source's transport must not be reading. False when descriptors have run out."""
        try:
            for transport in (source, target):
                self._fds.append(os.dup(_fileno(transport)))
            self._fds += os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._close()
            return False
        self._source, self._target, self._out, self._in = self._fds
        with contextlib.suppress(OSError):  # the user's share of pipe memory is used up: a smaller pipe does too
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._loop.add_reader(self._source, self._fill)
        return True

    def stop(self) -> None:
        """End it here, without `on_end`."""
        if self._fds:
            self._loop.remove_reader(self._source)
            self._loop.remove_writer(self._target)
            self._close()

    def _close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _fill(self) -> None:
        """Take what the pod has sent, as much as the pipe holds, and pass it on."""
        try:
            moved = _splice(self._source, self._in, min(self._left, _PIPE_BYTES))
        except BlockingIOError:
            return
        except OSError:
            self._end(complete=False)
            return
        if moved == 0:
            self._end(complete=False)
            return
        self._left -= moved
        self._waiting += moved
        self._drain()

    def _drain(self) -> None:
        """Give the client what is in the pipe; while it takes nothing, nothing is read from the pod."""
        moved = 0
        try:
            while moved < self._waiting:
                moved += _splice(self._out, self._target, self._waiting - moved)
        except BlockingIOError:
            pass
        except OSError:
            self._end(complete=False)
            return
        self._waiting -= moved
        if moved:
            self._on_progress(moved)
        if not self._fds:
            return
        if self._waiting == 0 and self._left == 0:
            self._end(complete=True)
        elif (self._waiting > 0) != self._writing:
            self._writing = self._waiting > 0
            if self._writing:
                self._loop.remove_reader(self._source)
                self._loop.add_writer(self._target, self._drain)
            else:
                self._loop.remove_writer(self._target)
                self._loop.add_reader(self._source, self._fill)

    def _end(self, *, complete: bool) -> None:
        self.stop()
        self._on_end(complete)


def _fileno(transport: asyncio.Transport) -> int:
    connection: Any = transport.get_extra_info("socket")
    return int(connection.fileno())


def _splice(source: int, target: int, nbytes: int) -> int:
    if _SPLICE is None:
        raise OSError("splice is not there")
    return _SPLICE(source, target, nbytes, flags=_FLAGS)
