"""The server's end of its shims: starting one, asking it something, hearing its nudges.

Called by `runtime`; the starter blocks for some milliseconds and is called in threads, all else belongs to one event
loop.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import neuropod
from neuropod.runtimes.contract import NotReadyError, RuntimeUnavailableError
from neuropod.runtimes.local import control
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.state import ProcessId, State, boot_id, write_state

_ANSWER_SECONDS = 8.0  # connect may wait 5 s for a full accept queue
_SOURCE = str(Path(neuropod.__file__).parents[1])
# Without `site` and with no environment: everything that runs there is ours and the standard library's.
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from neuropod.runtimes.local.starter import main; main()"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


class ShimStarter:
    """Starts shims, through the process they are forked from. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def warm_up(self) -> None:
        """Start the process now, so that the first launch need not wait for it."""
        with self._lock:
            self._connected()

    def start(self, plan: Plan, secrets: dict[str, str]) -> None:
        """Start the shim of a plan whose state directory is there. Raises RuntimeUnavailableError.

        The socket is listened on, and the first state written, before the shim has the plan; so whoever comes after
        this finds both. Secrets go through the pipe alone.
        """
        try:
            self._start(plan, secrets)
        except OSError:
            # The process was killed, before or after it forked. A fork without a plan ends by itself: once more.
            try:
                self._start(plan, secrets)
            except OSError as error:
                raise RuntimeUnavailableError(f"no shim can be started for {plan.pod}: {error}") from error

    def _start(self, plan: Plan, secrets: dict[str, str]) -> None:
        state_dir = plan.state_dir
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            with (
                os.fdopen(reading, "rb"),
                control.listen(state_dir) as listener,
                open(state_dir / "shim.err", "ab", opener=_private) as errors,
            ):
                pid = self._fork(f"shim {plan.pod_name}", [reading, listener.fileno(), errors.fileno()])
            shim = ProcessId.of(pid)
            state = State(plan.installation, plan.pod, plan.incarnation, boot_id(), shim.pid, shim.start_time)
            write_state(state_dir, state)
            told = memoryview(json.dumps({"plan": plan.to_json(), "secrets": secrets}).encode() + b"\n")
            while told:
                told = told[pipe.write(told) :]

    def _fork(self, name: str, fds: list[int]) -> int:
        with self._lock:
            try:
                socket.send_fds(self._connected(), [name.encode()[:15]], fds)
                answer = self._connected().recv(64)
            except OSError:
                self._end()
                raise
            if not answer:
                self._end()
                raise ConnectionResetError("the process that starts shims ended")
            return int(answer)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _BOOT, _SOURCE, str(theirs.fileno()), "neuropod-shims"],
                    stdin=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            ours.settimeout(_ANSWER_SECONDS)
            self._socket = ours
        return self._socket

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the process; the shims that it started live on. May be repeated, and `start` begins anew."""
        with self._lock:
            self._end()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a shim answered, and the socket that came with it."""

    content: control.Request
    socket: socket.socket | None


async def ask(state_dir: Path, request: control.Request) -> Answer:
    """Ask a shim. OSError when none is there, RuntimeUnavailableError when it is silent."""
    connection = control.dial(state_dir, request)
    with contextlib.closing(connection):
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(connection, lambda: None if readable.done() else readable.set_result(None))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await readable
        except TimeoutError:
            raise RuntimeUnavailableError("the pod's shim does not answer") from None
        finally:
            loop.remove_reader(connection)
        data, fds, _, _ = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
    received = socket.socket(fileno=fds[0]) if fds else None
    if not data:
        raise ConnectionResetError("the shim ended")
    return Answer(json.loads(data), received)


async def ask_for_port(state_dir: Path, port: int) -> socket.socket:
    """Return a socket connected to the port. Raises NotReadyError, RuntimeUnavailableError."""
    try:
        answer = await ask(state_dir, {"op": "connect", "port": port})
    except (OSError, ConnectionError) as error:
        raise NotReadyError("it does not run") from error
    if answer.socket is None:
        raise NotReadyError(str(answer.content.get("error", "it does not run")))
    return answer.socket


class Subscription(asyncio.Protocol):
    """Hears a shim's nudges. `on_nudge` is called for each, `on_end` when the shim ended or let go."""

    def __init__(self, on_nudge: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._on_nudge = on_nudge
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None

    @staticmethod
    async def open(
        state_dir: Path, op: str, *, on_nudge: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> "Subscription":
        """Subscribe; OSError when no shim listens."""
        connection = control.dial(state_dir, {"op": op})
        try:
            _, subscription = await asyncio.get_running_loop().create_unix_connection(
                lambda: Subscription(on_nudge, on_end), sock=connection
            )
        except BaseException:
            connection.close()
            raise
        return subscription

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of asyncio's

    def data_received(self, data: bytes) -> None:
        self._on_nudge(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._on_end()

    def leave(self) -> None:
        """Tell the shim that its log is not wanted any more."""
        if self._transport is not None:
            self._transport.write(b'{"op": "leave"}\n')

    def close(self) -> None:
        """Hear no more; `on_end` comes for this too."""
        if self._transport is not None:
            self._transport.close()
