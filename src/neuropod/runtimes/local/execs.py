"""Commands that run in the pod beside its own process, as the shim keeps them (`pod exec`, terminals).

Called by `shim`. The server asks `{"op": "exec", "order_bytes": n, "at_most": m}` and then talks on that connection:

    shim    {"ok": true}                         go on; or {"error": …, "kind": "not_ready" | "too_many"} and the end
    server  n bytes: {"command": […], "env": {…}, "terminal": [rows, columns] | null}
    shim    {"started": true}                    with our ends (SCM_RIGHTS): input, output, error, or the terminal's one
    server  {"signal": n}                        any number of times
    shim    {"exit": code}                       and the end

The data never passes the shim. A connection that ends before the command does is a server that let go or died: the
command gets SIGHUP, and SIGKILL if that did not end it. Standard library only.
"""

import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from neuropod.runtimes.local import entering, launcher, linux
from neuropod.runtimes.local.control import Request, answer
from neuropod.runtimes.local.loop import Loop, Timer
from neuropod.runtimes.local.podenv import Start

_MOST_ORDER_BYTES = 1 << 20
_HELLO_SECONDS = 20.0
_KILL_SECONDS = 5.0
_KILLED = 137
_CREDENTIALS = struct.Struct("3i")
_CREDENTIALS_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size)
_DESCRIPTOR_BYTES = socket.CMSG_SPACE(4)


@dataclass(frozen=True, slots=True)
class Doors:
    """What the shim knows of its pod: how it is entered, and how its own process was started."""

    entrance: entering.Entrance
    start: Start
    enter_cgroup: Callable[[int], None]


class Execs:
    """All of one pod. `doors` tells how to get in now; None while its process does not run."""

    def __init__(self, loop: Loop, doors: Callable[[], Doors | None]) -> None:
        self.loop = loop
        self.doors = doors
        self.running: set[_Command] = set()

    def requested(self, request: Request, connection: socket.socket) -> None:
        """Take a request; the connection is ours from now on."""
        size = request.get("order_bytes")
        if self.doors() is None:
            answer(connection, {"error": "it does not run", "kind": "not_ready"})
        elif len(self.running) >= int(request.get("at_most", 1)):
            answer(connection, {"error": "too many commands run in it", "kind": "too_many"})
        elif not isinstance(size, int) or not 0 < size <= _MOST_ORDER_BYTES:
            answer(connection, {"error": "the command is too long", "kind": "not_ready"})
        else:
            self.running.add(_Command(self, connection, size))

    def end(self) -> None:
        """End all now, since the pod has ended, and tell so."""
        for command in list(self.running):
            command.end()


class _Command:
    """One command, from its order to its end; among the running ones until no process of it is left to be reaped."""

    def __init__(self, execs: Execs, connection: socket.socket, order_bytes: int) -> None:
        self._execs = execs
        self._loop = execs.loop
        self._connection: socket.socket | None = connection
        self._left = order_bytes
        self._order = b""
        self._heard = b""
        self._entered: entering.Entered | None = None
        self._doors: Doors | None = None
        self._channel: socket.socket | None = None
        self._unsent = b""
        self._terminal: int | None = None  # the other end of its terminal, until the server has it
        self._wants_terminal = False
        self._streams: tuple[int, ...] = ()
        self._pidfd: int | None = None  # of the helper, then of the command
        self._pid: int | None = None  # the command's
        self._timer: Timer | None = None
        self._say({"ok": True})
        self._loop.add_reader(connection.fileno(), self._hear_order)

    # ---- the way in

    def _hear_order(self) -> None:
        data = self._receive()
        if data is None:
            return
        if not data or len(data) > self._left:
            self._drop()
            return
        self._order += data
        self._left -= len(data)
        if self._left == 0:
            self._begin()

    def _begin(self) -> None:
        if self._connection is not None:
            self._loop.remove(self._connection.fileno())
        self._doors = doors = self._execs.doors()
        if doors is None:
            self._refuse("it does not run")
            return
        try:
            order = json.loads(self._order)
            size = None if order["terminal"] is None else (int(order["terminal"][0]), int(order["terminal"][1]))
            command = tuple(str(word) for word in order["command"])
            env = {str(name): str(value) for name, value in order["env"].items()}
            self._unsent = launcher.encode_order(command, doors.start.env | env, doors.start.cwd, ("", "", ""))
            entered = entering.enter(doors.entrance, size=size, enter_cgroup=doors.enter_cgroup)
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            self._refuse(f"it cannot be entered: {error}")
            return
        self._order = b""
        self._entered, self._wants_terminal = entered, size is not None
        self._streams, self._channel = entered.streams, entered.channel
        self._pidfd = os.pidfd_open(entered.helper)
        self._timer = self._loop.call_later(_HELLO_SECONDS, partial(self._refuse, "it does not let anybody in"))
        if entered.report is None:
            self._has_begun(entered.helper)
        else:
            self._loop.add_reader(self._pidfd, self._helper_ended)

    def _helper_ended(self) -> None:
        """Take over the command's process, whose parent is this one from now on."""
        if self._entered is None or self._entered.report is None or self._pidfd is None:
            return
        self._loop.remove(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = None
        os.waitpid(self._entered.helper, 0)
        told = os.read(self._entered.report, 32)
        os.close(self._entered.report)
        self._entered = None
        if told:
            self._pidfd = os.pidfd_open(int(told))  # not another's: only this process can reap it
            self._has_begun(int(told))
        elif self._channel is not None:
            self._hear_channel()  # why it did not get in
        else:
            self._drop()

    def _has_begun(self, pid: int) -> None:
        if self._pidfd is None:
            return
        self._pid = pid
        self._loop.add_reader(self._pidfd, self._ended)
        if self._channel is not None:
            self._loop.add_reader(self._channel.fileno(), self._hear_channel)
        else:
            self._drop()  # it was given up meanwhile

    def _hear_channel(self) -> None:
        """Hear what comes before the order: the terminal, then the launcher's hello; or what went wrong.

        The terminal is sent by our own code, before the pod could speak here; the hello perhaps by the pod.
        """
        if self._channel is None:
            return
        expects_terminal = self._wants_terminal and self._terminal is None
        space = _CREDENTIALS_BYTES + (_DESCRIPTOR_BYTES if expects_terminal else 0)
        try:
            data, ancillary, _, _ = self._channel.recvmsg(1024, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        uid = None
        for level, kind, raw in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._terminal = int.from_bytes(raw[:4], sys.byteorder)
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                _, uid, _ = _CREDENTIALS.unpack(raw[: _CREDENTIALS.size])
        if data.startswith(entering.TROUBLE):
            self._refuse(f"it cannot be entered: {data[1:].decode('utf-8', 'replace')}")
        elif expects_terminal and data == entering.TERMINAL and self._terminal is not None:
            pass  # the hello comes next
        elif data == launcher.HELLO and not expects_terminal:
            self._said_hello(uid)
        else:
            self._refuse("it ended meanwhile")

    def _said_hello(self, uid: int | None) -> None:
        if self._doors is None or self._channel is None or self._connection is None:
            self._drop()
            return
        entrance = self._doors.entrance
        if entrance.isolated and not entrance.user_namespace and uid != entrance.uid:
            self._refuse("it did not drop its privileges")
            return
        self._cancel_timer()
        self._loop.add_writer(self._channel.fileno(), self._send_order)
        ours = self._streams if self._terminal is None else (self._terminal,)
        with suppress(OSError):
            socket.send_fds(self._connection, [b'{"started": true}\n'], list(ours))
        self._close_streams()
        self._loop.add_reader(self._connection.fileno(), self._hear_server)

    def _send_order(self) -> None:
        if self._channel is None:
            return
        try:
            self._unsent = self._unsent[self._channel.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # killed meanwhile: its end comes next
            self._unsent = b""
        if not self._unsent:
            # Its end tells that the launcher has become the command, or has said on its standard error why not.
            self._loop.add_reader(self._channel.fileno(), self._close_channel)

    # ---- while it runs

    def _hear_server(self) -> None:
        data = self._receive()
        if data is None:
            return
        if not data:
            self._let_go()
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            with suppress(ValueError, LookupError, TypeError):
                self._signal(int(json.loads(line)["signal"]))

    def _signal(self, number: int) -> None:
        if self._pid is not None and self._pidfd is not None:
            with suppress(OSError):
                linux.signal_group(self._pidfd, self._pid, number)

    def _let_go(self) -> None:
        """End the command by and by, since the server is gone."""
        self._close_connection()
        self._signal(signal.SIGHUP)
        self._timer = self._loop.call_later(_KILL_SECONDS, partial(self._signal, signal.SIGKILL))

    # ---- the end

    def _ended(self) -> None:
        code = self._reap()
        self._say({"exit": code})
        self._drop()

    def _reap(self) -> int:
        """Wait for the command's process, which has ended or has been killed, and return its exit code."""
        if self._pid is None:
            return _KILLED
        status = os.waitpid(self._pid, 0)[1]
        self._pid = None
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def end(self) -> None:
        """End it now: the pod has ended. A zombie of it would keep the PID namespace from ending, so it is reaped."""
        if self._entered is not None and self._entered.report is not None:
            self._helper_ended()  # a matter of milliseconds, if it is not over already
        if self._pid is None:
            self._refuse("it ended meanwhile")
            return
        self._kill()
        self._ended()

    def _kill(self) -> None:
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _refuse(self, sentence: str) -> None:
        self._say({"error": sentence, "kind": "not_ready"})
        self._drop()

    def _drop(self) -> None:
        """Let go of everything; a process that is there yet is killed, and its end brings us here again."""
        self._cancel_timer()
        self._close_channel()
        self._close_streams()
        self._close_connection()
        if self._entered is not None and self._entered.report is not None:
            return  # the helper's end comes, and then that of what it started
        if self._pid is not None:
            self._kill()
            return
        if self._pidfd is not None:
            self._loop.remove(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self._execs.running.discard(self)

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._loop.remove(self._connection.fileno())
            self._connection.close()
            self._connection = None

    def _close_streams(self) -> None:
        for fd in (*self._streams, *(() if self._terminal is None else (self._terminal,))):
            os.close(fd)
        self._streams, self._terminal = (), None

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._loop.remove(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _receive(self) -> bytes | None:
        """Return what came, nothing at the end, None when there is nothing yet."""
        if self._connection is None:
            return None
        try:
            return self._connection.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _say(self, words: dict[str, Any]) -> None:
        if self._connection is not None:
            with suppress(OSError):  # who asked is gone; its end is heard by the reader
                self._connection.send(json.dumps(words).encode() + b"\n")
