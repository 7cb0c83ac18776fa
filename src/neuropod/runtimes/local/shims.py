"""The server's end of its shims: starting one, asking it something, hearing its nudges, reaping it.

Called by `runtime`. Everything here belongs to one event loop; `start_shim` blocks for some milliseconds and is called
in a thread.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import neuropod
from neuropod.runtimes.contract import NotReadyError, RuntimeUnavailableError
from neuropod.runtimes.local import control
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.state import ProcessId, State, boot_id, write_state

_ANSWER_SECONDS = 8.0  # connect may wait 5 s for a full accept queue
_SOURCE = str(Path(neuropod.__file__).parents[1])
# Without `site` and with no environment: the shim is ours from its first line on, and starts 10 ms sooner.
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from neuropod.runtimes.local.shim import main; main()"


def start_shim(plan: Plan, secrets: dict[str, str]) -> int:
    """Start the shim of a plan whose state directory is there, and return its pid.

    The socket is listened on, and the first state written, before the shim has the plan; so whoever comes after this
    finds both. Secrets go through the pipe alone.
    """
    state_dir = plan.state_dir
    with control.listen(state_dir) as listener, (state_dir / "shim.err").open("ab") as errors:
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                _BOOT,
                _SOURCE,
                str(listener.fileno()),
                f"{plan.pod}.{plan.incarnation}",
            ],
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            env={},
            cwd="/",
            close_fds=True,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    # Its end is heard through a descriptor (`Reaper`), not through this object.
    process.returncode = 0
    shim = ProcessId.of(process.pid)
    state = State(plan.installation, plan.pod, plan.incarnation, boot_id(), shim.pid, shim.start_time)
    write_state(state_dir, state)
    told = json.dumps({"plan": plan.to_json(), "secrets": secrets}).encode() + b"\n"
    try:
        if process.stdin is not None:
            with process.stdin as pipe:
                pipe.write(told)
    except BrokenPipeError as error:
        raise RuntimeUnavailableError(f"the shim of {plan.pod} ended at once; see shim.err beside its state") from error
    return process.pid


class Reaper:
    """Waits for the children that are ours, so that none stays a zombie; those of an earlier server are init's."""

    def __init__(self) -> None:
        self._pidfds: set[int] = set()

    def add(self, pid: int) -> None:
        """Reap it when it ends."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self._pidfds.add(pidfd)
        asyncio.get_running_loop().add_reader(pidfd, self._ended, pidfd, pid)

    def _ended(self, pidfd: int, pid: int) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        self._forget(pidfd)

    def _forget(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        self._pidfds.discard(pidfd)
        os.close(pidfd)

    def close(self) -> None:
        """Wait for none any more."""
        for pidfd in list(self._pidfds):
            self._forget(pidfd)


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
        data, fds, _, _ = socket.recv_fds(connection, 4096, 1)
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
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

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
