"""A connected socket to a port of the pod, for the gateway. Called by `shim`; never blocks its loop."""

import socket
from collections.abc import Callable
from contextlib import suppress

from neuropod.runtimes.local.control import answer
from neuropod.runtimes.local.loop import Loop
from neuropod.runtimes.local.probe import LOOPBACKS, Inside, begin_connect

_ACCEPT_SECONDS = 5.0


def open_port(loop: Loop, inside: Inside, runs: bool, port: int, asker: socket.socket) -> None:
    """Connect to the port from inside the pod and answer `asker` with the socket, or say why not."""
    if not runs or not 0 < port < 65536:
        answer(asker, {"error": "it does not run", "kind": "not_ready"})
        return
    for family, host in LOOPBACKS:
        connection = begin_connect(inside, family, host, port)
        if connection is not None:
            _Opening(loop, port, connection, asker).start()
            return
    answer(asker, {"error": f"nothing listens on port {port}", "kind": "not_ready"})


class _Opening:
    """A connect that is accepted at once as a rule, and later where the listener's queue is full."""

    def __init__(self, loop: Loop, port: int, connection: socket.socket, asker: socket.socket) -> None:
        self._loop = loop
        self._port = port
        self._connection = connection
        self._asker = asker
        self._end: Callable[[], None] = lambda: None

    def start(self) -> None:
        self._end = self._loop.call_later(_ACCEPT_SECONDS, self._gave_up).cancel
        self._loop.add_writer(self._connection.fileno(), self._connected)

    def _connected(self) -> None:
        self._close_watch()
        if self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            answer(self._asker, {"ok": True}, self._connection.fileno())
        else:
            answer(self._asker, {"error": f"nothing listens on port {self._port}", "kind": "not_ready"})
        self._connection.close()

    def _gave_up(self) -> None:
        self._close_watch()
        answer(self._asker, {"error": f"port {self._port} does not accept connections", "kind": "not_ready"})
        self._connection.close()

    def _close_watch(self) -> None:
        with suppress(ValueError):
            self._loop.remove(self._connection.fileno())
        self._end()
