"""The server's end of a command in a pod: a LocalExecution over the descriptors that the pod's shim hands out.

Called by `runtime`. The data goes straight between this process and the command, through its pipes or its terminal,
whose ends here are this process's alone: the pod cannot make a read of them block. The conversation with the shim is
told in `execs`.
"""

import asyncio
import fcntl
import json
import os
import socket
import struct
import termios
from contextlib import suppress
from pathlib import Path

from neuropod.runtimes.contract import NotReadyError, RuntimeUnavailableError
from neuropod.runtimes.execution import (
    LOGIN_SHELL,
    ExecRequest,
    OutputChunk,
    OutputStream,
    TerminalSize,
    TooManyExecutionsError,
)
from neuropod.runtimes.local import control

_ANSWER_SECONDS = 30.0  # more than the shim gives the launcher to say hello
_CHUNK = 64 << 10
_END_OF_INPUT = b"\x04"  # Ctrl-D
_LAST_BYTES = 1 << 20  # of what a command left in its pipe or terminal when it ended; more was written by others
_LAST_SECONDS = 0.25  # a terminal may hand on a moment later what was written before the end
_KILLED = 137


async def start(state_dir: Path, request: ExecRequest) -> "LocalExecution":
    """Start a command by way of the shim. Raises NotReadyError, TooManyExecutionsError, RuntimeUnavailableError."""
    size = None if request.terminal is None else [request.terminal.rows, request.terminal.columns]
    command = request.command or LOGIN_SHELL
    order = json.dumps({"command": command, "env": dict(request.env), "terminal": size}).encode()
    try:
        connection = control.dial(state_dir, {"op": "exec", "order_bytes": len(order), "at_most": request.at_most})
    except OSError as error:
        raise NotReadyError("it does not run") from error
    fds: list[int] = []
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await _answer(connection, [])
            await asyncio.get_running_loop().sock_sendall(connection, order)
            await _answer(connection, fds)
        return LocalExecution(connection, fds, terminal=request.terminal is not None)
    except BaseException as error:
        for fd in fds:
            os.close(fd)
        connection.close()
        if isinstance(error, TimeoutError):
            raise RuntimeUnavailableError("the pod's shim does not answer") from None
        if isinstance(error, OSError):
            raise NotReadyError("it ended meanwhile") from error
        raise


async def _answer(connection: socket.socket, fds: list[int]) -> None:
    """Wait for the shim's next line, and put the descriptors that come with it into `fds`."""
    await _when_readable(connection.fileno())
    data, received, _, _ = socket.recv_fds(connection, 4096, 3, socket.MSG_CMSG_CLOEXEC)
    fds += received
    if not data:
        raise ConnectionResetError("the shim ended")
    told = json.loads(data.split(b"\n", 1)[0])
    if "error" in told:
        kind = TooManyExecutionsError if told.get("kind") == "too_many" else NotReadyError
        raise kind(str(told["error"]))


async def _when_readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(fd)


class LocalExecution:
    """One command."""

    def __init__(self, connection: socket.socket, fds: list[int], *, terminal: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._terminal = terminal
        self._input: int | None = fds[0]
        self._outputs = {OutputStream.STDOUT: fds[0]} if terminal else dict(zip(OutputStream, fds[1:], strict=True))
        self._fds = set(fds)
        self._moved = asyncio.Event()  # there is something to read, or it has ended
        self._ended = asyncio.Event()
        self._exit_code: int | None = None
        self._heard = b""
        self._last_bytes = _LAST_BYTES
        self._writer: asyncio.Future[None] | None = None
        self._loop.add_reader(connection.fileno(), self._hear_shim)

    # ---- what it says

    async def read(self) -> OutputChunk | None:
        """Return what it wrote next; None when it has ended and all was read."""
        while self._outputs and self._last_bytes > 0:
            for stream in list(self._outputs):
                data = self._read_now(stream)
                if data:
                    if self._ended.is_set():
                        self._last_bytes -= len(data)
                    if len(self._outputs) > 1:  # the other one's turn is next
                        self._outputs[stream] = self._outputs.pop(stream)
                    return OutputChunk(stream, data)
            if not self._outputs:
                break
            # What it wrote is in its pipe before its end can be told; who holds the pipe open now is in the background.
            patience = None if not self._ended.is_set() else _LAST_SECONDS if self._terminal else 0.0
            if not await self._something_to_read(patience):
                break
        await self._ended.wait()
        return None

    def _read_now(self, stream: OutputStream) -> bytes | None:
        """Return what is there; nothing at the end, which closes the stream; None when there is nothing yet."""
        fd = self._outputs[stream]
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        if not data:
            del self._outputs[stream]
            if not self._terminal:
                self._close(fd)
        return data

    async def _something_to_read(self, seconds: float | None) -> bool:
        if seconds == 0.0:
            return False
        self._moved.clear()
        fds = list(self._outputs.values())
        for fd in fds:
            self._loop.add_reader(fd, self._moved.set)
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            return False
        finally:
            for fd in fds:
                if fd in self._fds:
                    self._loop.remove_reader(fd)
        return True

    # ---- what it is told

    async def write(self, data: bytes) -> None:
        """Give it input. BrokenPipeError: it takes no more."""
        view = memoryview(data)
        while view:
            if self._input is None:
                raise BrokenPipeError("it takes no more input")
            try:
                view = view[os.write(self._input, view) :]
            except BlockingIOError:
                await self._when_writable(self._input)
            except OSError as error:
                self._close_input()
                raise BrokenPipeError("it takes no more input") from error

    async def _when_writable(self, fd: int) -> None:
        """Wait until it takes more, or has ended."""
        if self._ended.is_set():
            raise BrokenPipeError("it has ended")
        self._writer = writer = self._loop.create_future()
        self._loop.add_writer(fd, _done, writer)
        try:
            await writer
        finally:
            self._writer = None
            if fd in self._fds:  # else it was closed meanwhile, and its number may be another's
                self._loop.remove_writer(fd)

    async def end_input(self) -> None:
        """Let it see the end of its input."""
        if self._terminal:
            with suppress(BrokenPipeError):
                await self.write(_END_OF_INPUT)
        else:
            self._close_input()

    def _close_input(self) -> None:
        fd, self._input = self._input, None
        if fd is not None and not self._terminal:
            self._close(fd)

    def resize(self, size: TerminalSize) -> None:
        """Change the size of its terminal."""
        if self._terminal and self._fds:
            (fd,) = self._fds
            with suppress(OSError):
                fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))

    def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        if not self._ended.is_set():
            with suppress(OSError):
                self._connection.send(json.dumps({"signal": int(number)}).encode() + b"\n")

    # ---- its end

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        await self._ended.wait()
        return _KILLED if self._exit_code is None else self._exit_code

    def _hear_shim(self) -> None:
        try:
            data = self._connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard += data
        if b"\n" in self._heard or not data:  # without a word: the shim died, and everything of the pod with it
            with suppress(ValueError, LookupError):
                self._exit_code = int(json.loads(self._heard)["exit"])
            self._has_ended()

    def _has_ended(self) -> None:
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection.fileno())
            self._connection.close()
        self._ended.set()
        self._moved.set()
        if self._writer is not None:
            _done(self._writer)

    async def aclose(self) -> None:
        """Let go: the shim ends it when it sees this connection closed."""
        self._input = None
        self._outputs.clear()
        for fd in list(self._fds):
            self._close(fd)
        self._has_ended()

    def _close(self, fd: int) -> None:
        self._fds.discard(fd)
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        os.close(fd)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
