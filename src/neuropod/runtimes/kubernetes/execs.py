"""Commands in a running container, through the API server's `exec`. Called by `runtime.exec`.

The API knows no environment, no signals and no end of a command whose caller went away, so where the image has a shell
two commands are started: the one that was asked for, behind a few lines that say its number and wait for a word, and
one that listens for signals and ends the first when its own input ends, as it does when we close it or die. An image
without a shell runs the bare command: it gets no signals, and goes on when nobody listens.

How many run is counted by this server alone.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import structlog

from neuropod.kit.tasks import TaskSet
from neuropod.kube.channels import Channel, ChannelSocket
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import KubeError, KubeUnavailableError
from neuropod.runtimes.contract import NotReadyError, NotSupportedError, RuntimeUnavailableError, WorkloadId
from neuropod.runtimes.execution import (
    LOGIN_SHELL,
    ExecRequest,
    OutputChunk,
    OutputStream,
    TerminalSize,
    TooManyExecutionsError,
)
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.shapes import PodShape
from neuropod.runtimes.kubernetes.standing import Standing

log = structlog.get_logger(__name__)

_KILLED = 137
_NOT_FOUND = 127
_END_OF_INPUT = b"\x04"
_HANDSHAKE_SECONDS = 10.0
_GRACE_SECONDS = 5  # between SIGHUP and SIGKILL for one that was let go
_LAST_SECONDS = 10.0  # after that its connection is cut

_KILL_SECONDS = 4.0
_KILL_ALL = ("/bin/sh", "-c", "kill -KILL -1")  # of the container; the Pod's first process, which is not its, stays

_HERE, _BEGINS = b"\x01neuropod ", b"\x02neuropod"

# Its number goes out, a word comes in, and then it is the command. What came before is taken out of its output.
_BEFORE = (
    'while [ "$1" != -- ]; do export "$1"; shift; done; shift; '
    "printf '\\001neuropod %s\\n' \"$$\" >&2; read -r neuropod_go || exit 129; unset neuropod_go; "
    "printf '\\002neuropod\\n' >&2; "
    'command -v "$1" >/dev/null 2>&1 || { printf \'%s: command not found\\n\' "$1" >&2; exit 127; }; exec "$@"'
)
_BESIDE = (
    "read -r pid || exit 0; "
    'while read -r word; do [ "$word" = over ] && exit 0; kill -"$word" -"$pid" 2>/dev/null; done; '
    f'kill -HUP -"$pid" 2>/dev/null; sleep {_GRACE_SECONDS}; kill -KILL -"$pid" 2>/dev/null'
)


class _NoShellError(Exception):
    """The image has no shell."""


class Execs:
    """The commands that run in one cluster's Pods by this server."""

    def __init__(self, client: KubeClient, standing: Standing, tasks: TaskSet) -> None:
        self._client = client
        self._standing = standing
        self._tasks = tasks
        self._running: dict[WorkloadId, int] = {}

    async def start(self, workload_id: WorkloadId, request: ExecRequest) -> "ClusterExecution":
        """See the contract."""
        pod = await self._standing.running(workload_id)
        if pod is None:
            raise NotReadyError("it does not run")
        if self._running.get(workload_id, 0) >= request.at_most:
            raise TooManyExecutionsError("too many commands run in it")
        self._running[workload_id] = self._running.get(workload_id, 0) + 1
        try:
            begun = await self._begin(pod, workload_id, request)
        except BaseException:
            self._over(workload_id)
            raise
        return ClusterExecution(begun, request.terminal, self._tasks, lambda: self._over(workload_id))

    async def kill_all(self, pod: PodShape) -> bool:
        """Send SIGKILL to all processes of a container; False: that was not possible. They may still be ending."""
        try:
            async with asyncio.timeout(_KILL_SECONDS):
                socket = await self._client.exec_socket(
                    pod.metadata.namespace, pod.metadata.name, names.CONTAINER, _KILL_ALL, tty=False, stdin=False
                )
                try:
                    return await socket.wait() in {0, _KILLED}
                finally:
                    await socket.aclose()
        except (KubeError, KubeUnavailableError, TimeoutError) as error:
            log.info("a container cannot be killed from inside", pod=pod.metadata.name, error=str(error))
            return False

    def _over(self, workload_id: WorkloadId) -> None:
        left = self._running.get(workload_id, 0) - 1
        if left > 0:
            self._running[workload_id] = left
        else:
            self._running.pop(workload_id, None)

    async def _begin(self, pod: PodShape, workload_id: WorkloadId, request: ExecRequest) -> "_Begun":
        command = request.command or LOGIN_SHELL
        try:
            return await self._behind_a_shell(pod, workload_id, request, command)
        except _NoShellError:
            if not request.command:
                sentence = "its image has no shell (/bin/sh): name a program that is in it"
                raise NotSupportedError(sentence) from None
            socket = await self._open(pod, workload_id, command, tty=request.terminal is not None)
            return _Begun(socket, None, [], command[0])

    async def _open(
        self, pod: PodShape, workload_id: WorkloadId, command: Sequence[str], *, tty: bool = False
    ) -> ChannelSocket:
        try:
            socket = await self._client.exec_socket(
                pod.metadata.namespace, pod.metadata.name, names.CONTAINER, command, tty=tty, stdin=True
            )
        except KubeUnavailableError as error:
            raise RuntimeUnavailableError(str(error)) from error
        except KubeError as error:
            raise NotReadyError(f"no command can be run in it: {error.message}") from error
        # The path names the place: by now another may stand there.
        now = await self._standing.find(workload_id)
        if now is None or now.metadata.uid != pod.metadata.uid:
            await socket.aclose()
            raise NotReadyError("it has ended")
        return socket

    async def _behind_a_shell(
        self, pod: PodShape, workload_id: WorkloadId, request: ExecRequest, command: Sequence[str]
    ) -> "_Begun":
        tty = request.terminal is not None
        variables = [f"{name}={value}" for name, value in request.env.items()]
        before = ("/bin/sh", "-c", _BEFORE, "sh", *variables, "--", *command)
        opening = [
            asyncio.ensure_future(self._open(pod, workload_id, before, tty=tty)),
            asyncio.ensure_future(self._open(pod, workload_id, ("/bin/sh", "-c", _BESIDE))),
        ]
        try:
            main, beside = await asyncio.gather(*opening)
        except BaseException:
            await _close_all(opening)
            raise
        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                if request.terminal is not None:
                    main.resize(request.terminal.rows, request.terminal.columns)
                ear = _Ear(main, Channel.STDOUT if tty else Channel.STDERR)
                number = await ear.line_with(_HERE)
                await beside.write(number + b"\n")
                await main.write(b"\n")
                await ear.line_with(_BEGINS)
            return _Begun(main, beside, ear.rest(), command[0])
        except BaseException as error:
            await main.aclose()
            await beside.aclose()
            if isinstance(error, TimeoutError | KubeUnavailableError):
                raise RuntimeUnavailableError(f"the command gives no answer: {error}") from error
            raise


async def _close_all(opening: "Sequence[asyncio.Future[ChannelSocket]]") -> None:
    for one in opening:
        one.cancel()
    for done in await asyncio.gather(*opening, return_exceptions=True):
        if isinstance(done, ChannelSocket):
            await done.aclose()


class _Ear:
    """Listens for lines of ours in a command's output, and keeps what is not."""

    def __init__(self, socket: ChannelSocket, stream: Channel) -> None:
        self._socket = socket
        self._stream = stream
        self._heard = b""
        self._others: list[tuple[Channel, bytes]] = []

    async def line_with(self, words: bytes) -> bytes:
        """Return the rest of the line that has the words, and drop what came before. _NoShellError: there is none."""
        while b"\n" not in self._heard.partition(words)[2]:
            chunk = await self._socket.read()
            if chunk is None:
                await self._not_begun()
            if chunk[0] is self._stream:
                self._heard += chunk[1]
            else:
                self._others.append(chunk)
        line, _, self._heard = self._heard.partition(words)[2].partition(b"\n")
        return line.strip()

    async def _not_begun(self) -> NoReturn:
        try:
            await self._socket.wait()
        except KubeError as error:  # it could not be started, and it is a shell
            raise _NoShellError from error
        raise NotReadyError("it has ended")

    def rest(self) -> list[tuple[Channel, bytes]]:
        """Return what came already after the last such line."""
        return [*self._others, *([(self._stream, self._heard)] if self._heard else [])]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A command that runs, what ends it, and what it wrote already."""

    socket: ChannelSocket
    beside: ChannelSocket | None
    early: list[tuple[Channel, bytes]]
    program: str  # what it was asked to run


class ClusterExecution:
    """See runtimes.execution.Execution."""

    def __init__(self, begun: _Begun, terminal: TerminalSize | None, tasks: TaskSet, over: Callable[[], None]) -> None:
        self._socket = begun.socket
        self._beside = begun.beside
        self._program = begun.program
        self._early = deque(begun.early)
        self._terminal = terminal
        self._tasks = tasks
        self._code: asyncio.Task[int] = tasks.start(self._to_the_end(over), name="command in a pod")
        self._complaint = b""
        self._closed = False

    async def _to_the_end(self, over: Callable[[], None]) -> int:
        try:
            return await self._socket.wait()
        except KubeUnavailableError:  # with its container, most likely, or with our connection
            return _KILLED
        except KubeError as error:
            self._complaint = f"{_complaint(self._program, error.message)}\n".encode()
            return _NOT_FOUND
        finally:
            over()
            if self._beside is not None:
                with suppress(BrokenPipeError, KubeUnavailableError):
                    await self._beside.write(b"over\n")
                await self._beside.aclose()

    async def read(self) -> OutputChunk | None:
        """Return what it wrote next; None when it has ended and all was read."""
        if self._early:
            return _chunk(*self._early.popleft())
        try:
            found = await self._socket.read()
        except KubeUnavailableError:
            found = None
        if found is not None:
            return _chunk(*found)
        await self.wait()
        if self._complaint:
            complaint, self._complaint = self._complaint, b""
            return OutputChunk(OutputStream.STDERR if self._terminal is None else OutputStream.STDOUT, complaint)
        return None

    async def write(self, data: bytes) -> None:
        """Give it input."""
        await self._socket.write(data)

    async def end_input(self) -> None:
        """Let it see the end of its input."""
        if self._terminal is None:
            await self._socket.end_input()
        else:
            with suppress(BrokenPipeError):
                await self._socket.write(_END_OF_INPUT)

    def resize(self, size: TerminalSize) -> None:
        """Change the size of its terminal."""
        if self._terminal is not None and not self._code.done():
            self._socket.resize(size.rows, size.columns)

    def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        if self._beside is not None and not self._code.done():
            self._tasks.start(self._send(self._beside, number), name="signal to a command in a pod")

    async def _send(self, beside: ChannelSocket, number: int) -> None:
        with suppress(BrokenPipeError, KubeUnavailableError):
            await beside.write(b"%d\n" % number)

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        return await asyncio.shield(self._code)

    async def aclose(self) -> None:
        """Let go: one that still runs is ended, and counts until it has."""
        if self._closed:
            return
        self._closed = True
        if self._code.done():
            await self._socket.aclose()
        else:
            self._tasks.start(self._end(), name="end of a command in a pod")

    async def _end(self) -> None:
        """See it ended: by what runs beside it, whose input ends here."""
        if self._beside is not None:
            await self._beside.end_input()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                while not self._code.done() and await self.read() is not None:
                    pass
        await self._socket.aclose()


def _complaint(program: str, message: str) -> str:
    """Return why a bare command could not be started; a container's runtime tells it at the end of a long chain."""
    if "executable file not found" in message or "no such file or directory" in message:
        return f"{program}: no such program in this image, which has no shell either"
    return f"{program}: {message.rpartition('unable to start container process: ')[2]}"


def _chunk(channel: Channel, data: bytes) -> OutputChunk:
    return OutputChunk(OutputStream.STDERR if channel is Channel.STDERR else OutputStream.STDOUT, data)
