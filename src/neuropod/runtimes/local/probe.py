"""Is the pod ready? Looks at its port from inside its network, without ever blocking the shim's loop.

Quick at first, since a launch should cost no more than its own start; rarer the longer it takes. Called by `shim`.
Ready is what DESIGN §4 says: the port accepts, and where it speaks HTTP it answers with a status below 500.
"""

import errno
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from neuropod.runtimes.local.loop import Loop, Timer
from neuropod.runtimes.readiness import ENOUGH_BYTES, REQUEST, is_good_answer, pause_seconds

_ANSWER_SECONDS = 10.0
LOOPBACKS: tuple[tuple[socket.AddressFamily, str], ...] = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))

Inside = Callable[[], AbstractContextManager[None]]


def begin_connect(inside: Inside, family: socket.AddressFamily, host: str, port: int) -> socket.socket | None:
    """Start connecting to a port from inside the pod's network; None when it is refused (on loopback: at once)."""
    with inside():
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if connection.connect_ex((host, port)) in (0, errno.EINPROGRESS):
        return connection
    connection.close()
    return None


class Probe:
    """Looks until it is ready, then calls `on_ready` once."""

    def __init__(self, loop: Loop, inside: Inside, port: int, *, http: bool, on_ready: Callable[[], None]) -> None:
        self._loop = loop
        self._inside = inside
        self._port = port
        self._http = http
        self._on_ready = on_ready
        self._elapsed = 0.0
        self._timer: Timer | None = None
        self._connection: socket.socket | None = None
        self._heard = b""
        self._family = 0  # index into LOOPBACKS

    def start(self) -> None:
        """Look for the first time a moment later."""
        self._again()

    def close(self) -> None:
        """Look no more; may be repeated."""
        if self._timer is not None:
            self._timer.cancel()
        self._drop()

    def _again(self) -> None:
        pause = pause_seconds(self._elapsed)
        self._elapsed += pause
        self._timer = self._loop.call_later(pause, self._look)

    def _look(self) -> None:
        # A program may listen on one family alone; most of them on the first that is tried.
        family, host = LOOPBACKS[self._family]
        connection = begin_connect(self._inside, family, host, self._port)
        if connection is None:
            self._family = (self._family + 1) % len(LOOPBACKS)
            self._again()
            return
        self._connection, self._heard = connection, b""
        self._timer = self._loop.call_later(_ANSWER_SECONDS, self._failed)
        self._loop.add_writer(connection.fileno(), self._connected)

    def _connected(self) -> None:
        if (connection := self._connection) is None:
            return
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
            self._failed()
        elif not self._http:
            self._ready()
        else:
            try:
                connection.send(REQUEST)
            except OSError:
                self._failed()
                return
            self._loop.add_reader(connection.fileno(), self._answered)

    def _answered(self) -> None:
        if (connection := self._connection) is None:
            return
        try:
            data = connection.recv(256)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard += data
        if is_good_answer(self._heard):
            self._ready()
        elif not data or len(self._heard) >= ENOUGH_BYTES:
            self._failed()

    def _ready(self) -> None:
        self.close()
        self._on_ready()

    def _failed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._drop()
        self._again()

    def _drop(self) -> None:
        if self._connection is not None:
            self._loop.remove(self._connection.fileno())
            self._connection.close()
            self._connection = None
