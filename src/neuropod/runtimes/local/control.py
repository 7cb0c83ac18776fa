"""The way between a server and a shim: a Unix socket in the state directory, one request per connection.

A request is one line of JSON, `{"op": …}`:

    watch      the shim sends a byte whenever its state changes, and closes at its own end
    follow     the shim sends a byte whenever log was written, `E` once the log is complete
    connect    {"port": n} → one line, `{"ok": true}` with the connected socket (SCM_RIGHTS) or {"error": …, "kind": …}
    stop       {"reason": …} → {"ok": true}
    kill       {"reason": …} → {"ok": true}
    exec       a command beside the pod's own process; the conversation is told in `execs`
    leave      the log is not wanted any more → no answer; the shim of an ended workload ends at once

The socket is reached through /proc/self/fd, since a Unix address holds 107 bytes and a data directory may be deep. It
is 0600 in a 0700 directory, and the shim looks at the caller's uid as well. Standard library only; used by both sides.
"""

import json
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from neuropod.runtimes.local.loop import Loop

SOCKET_NAME = "s"
_MAX_REQUEST = 4096
_AGAIN_SECONDS = 0.1
_CREDENTIALS = struct.Struct("3i")

Request = dict[str, Any]


def listen(state_dir: Path) -> socket.socket:
    """Make the socket; done by the server before it starts the shim, so that nobody comes too early."""
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (state_dir / SOCKET_NAME).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
            (state_dir / SOCKET_NAME).chmod(0o600)
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
    finally:
        os.close(directory)
    return listener


def dial(state_dir: Path, request: Request) -> socket.socket:
    """Send a request and return the connection, not blocking. OSError when no shim listens there."""
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
            connection.sendall(json.dumps(request).encode() + b"\n")
        except BaseException:
            connection.close()
            raise
    finally:
        os.close(directory)
    return connection


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return pid and uid of the process at the other end, as the kernel tells them."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


@dataclass(slots=True)
class ControlServer:
    """The shim's end. `on_request` is called with each request and its connection, which is then its own to answer.

    Watchers and followers are kept here.
    """

    loop: Loop
    listener: socket.socket
    on_request: Callable[[Request, socket.socket], None]
    watchers: set[socket.socket] = field(default_factory=set)
    followers: set[socket.socket] = field(default_factory=set)
    on_followers_gone: Callable[[], None] | None = None
    log_ended: bool = False  # told to every follower, those that come after it too

    def start(self) -> None:
        """Take requests. `listen` again makes this process the one that peers see."""
        self.listener.setblocking(False)
        self.listener.listen(128)
        self.loop.add_reader(self.listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        if peer(connection)[1] not in (0, os.getuid()):
            connection.close()
            return
        connection.setblocking(False)
        self.loop.add_reader(connection.fileno(), lambda: self._read(connection))

    def _read(self, connection: socket.socket) -> None:
        self.loop.remove(connection.fileno())
        try:
            line = connection.recv(_MAX_REQUEST)
            request = json.loads(line) if line.endswith(b"\n") else {}
        except (OSError, ValueError):
            request = {}
        match request.get("op"):
            case "watch":
                self._keep(connection, self.watchers)
            case "follow":
                self._keep(connection, self.followers)
            case str():
                self.on_request(request, connection)
            case _:
                connection.close()

    def _keep(self, connection: socket.socket, kept: set[socket.socket]) -> None:
        kept.add(connection)
        self.loop.add_reader(connection.fileno(), lambda: self._heard(connection, kept))
        if self.log_ended and kept is self.followers:
            self._tell_end(connection)
        else:
            self._nudge(connection)

    def _heard(self, connection: socket.socket, kept: set[socket.socket]) -> None:
        """Take what came: a watcher says `leave` or goes; a follower only goes."""
        try:
            data = connection.recv(_MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data.endswith(b"\n") and kept is self.watchers:
            with suppress(ValueError):
                self.on_request(json.loads(data), connection)
            return
        self.loop.remove(connection.fileno())
        kept.discard(connection)
        connection.close()
        if kept is self.followers and not kept and self.on_followers_gone is not None:
            self.on_followers_gone()

    def nudge_watchers(self) -> None:
        """Tell that the state changed."""
        for connection in self.watchers:
            self._nudge(connection)

    def nudge_followers(self, *, ended: bool = False) -> None:
        """Tell that log was written, or that it is complete."""
        self.log_ended = self.log_ended or ended
        for connection in self.followers:
            if ended:
                self._tell_end(connection)
            else:
                self._nudge(connection)

    @staticmethod
    def _nudge(connection: socket.socket) -> None:
        # A full buffer holds nudges enough; one that has gone is noticed by its reader.
        with suppress(OSError):
            connection.send(b".")

    def _tell_end(self, connection: socket.socket) -> None:
        # Told once and waited for, so it may not be lost as a nudge may: again when the buffer was full.
        try:
            connection.send(b"E")
        except BlockingIOError:
            self.loop.call_later(_AGAIN_SECONDS, partial(self._tell_end, connection))
        except OSError:
            pass  # gone

    def close(self) -> None:
        """Stop listening; watchers and followers see the end."""
        for connection in (self.listener, *self.watchers, *self.followers):
            self.loop.remove(connection.fileno())
            connection.close()
        self.watchers.clear()
        self.followers.clear()


def answer(connection: socket.socket, reply: Request, *fds: int) -> None:
    """Send the one answer, with descriptors where there are any, and close."""
    with suppress(OSError):
        socket.send_fds(connection, [json.dumps(reply).encode() + b"\n"], list(fds))
    connection.close()
