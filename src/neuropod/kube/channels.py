"""A command in a container, over a WebSocket with channels (subprotocol v5.channel.k8s.io): KubeClient.exec_socket.

Each message begins with the number of its channel: 0 standard input, 1 output, 2 error, 3 the Status at the end, 4 the
size of the terminal, 255 closes one.
https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets
"""

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from urllib.parse import urlencode

from neuropod.kube.errors import KubeError, KubeUnavailableError, refusal
from neuropod.kube.kinds import PODS
from neuropod.kube.sockets import WebSocket
from neuropod.kube.statuses import read_status

_HIGH_WATER = 128 * 1024  # of output that nobody read yet
_PIECE = 32 * 1024
_CLOSE_CHANNEL = 255


class Channel(IntEnum):
    """Where the bytes of a message belong."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STATUS = 3
    RESIZE = 4


def exec_path(namespace: str, pod: str, container: str, command: Sequence[str], *, tty: bool, stdin: bool) -> str:
    """Return the path that starts a command; a terminal has standard output alone."""
    wanted = [("container", container), ("stdin", stdin), ("stdout", True), ("stderr", not tty), ("tty", tty)]
    params = [(name, str(value).lower() if isinstance(value, bool) else value) for name, value in wanted]
    return PODS.path(namespace, pod, "exec") + "?" + urlencode([*params, *(("command", word) for word in command)])


class ChannelSocket(WebSocket):
    """One command that runs. Whoever asked for it closes it. One reader and one writer at a time."""

    subprotocol = "v5.channel.k8s.io"

    def __init__(self, host: str, target: str, authorization: str) -> None:
        super().__init__(host, target, authorization)
        self._output: deque[tuple[Channel, bytes]] = deque()
        self._size = 0
        self._status = bytearray()
        self._result: asyncio.Future[int] = self._loop.create_future()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._input_ended = False

    async def read(self) -> tuple[Channel, bytes] | None:
        """Return what it wrote next (STDOUT or STDERR; never empty); None when it has ended and all was read.

        What is not read stays on its way, and then the command waits. Raises KubeUnavailableError when it was cut.
        """
        while not self._output:
            if self._result.done():
                if isinstance(error := self._result.exception(), KubeUnavailableError):
                    raise error
                return None
            self._news.clear()
            await self._news.wait()
        channel, data = self._output.popleft()
        self._size -= len(data)
        if self._size <= _HIGH_WATER // 2:
            self.release()
        return channel, data

    async def write(self, data: bytes) -> None:
        """Give it input; returns once the connection took it. BrokenPipeError: it takes no more."""
        for start in range(0, len(data), _PIECE):
            await self._writable.wait()
            if self._input_ended or self._result.done():
                raise BrokenPipeError("the command takes no more input")
            self.send_message(bytes([Channel.STDIN]), data[start : start + _PIECE])

    async def end_input(self) -> None:
        """Close its standard input once all was sent; may be repeated."""
        if not self._input_ended:
            self._input_ended = True
            self.send_message(bytes([_CLOSE_CHANNEL, Channel.STDIN]))

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of its terminal; after its end, nothing."""
        size = json.dumps({"Width": columns, "Height": rows}).encode()
        self.send_message(bytes([Channel.RESIZE]), size)

    async def wait(self) -> int:
        """Return its exit code once it has ended; its output has to be read meanwhile, or it may never end.

        Raises KubeError when it could not be started (`message` says why), KubeUnavailableError when it was cut.
        """
        return await asyncio.shield(self._result)

    async def aclose(self) -> None:
        """Cut it; may be repeated. The command is not told: it meets closed pipes, or goes on."""
        self.cut()
        self._settle_result(KubeUnavailableError("the command's connection was closed"))

    def message_received(self, data: bytes) -> None:
        """See WebSocket."""
        if len(data) < 2:  # the first one only tells that the command is there
            return
        number = data[0]
        if number in {Channel.STDOUT, Channel.STDERR}:
            self._output.append((Channel(number), data[1:]))
            self._size += len(data) - 1
            if self._size > _HIGH_WATER:
                self.hold()
            self._news.set()
        elif number == Channel.STATUS:
            self._status += data[1:]
            self._read_status()

    def ended(self, *, orderly: bool, error: Exception | None) -> None:
        """See WebSocket."""
        words = "was closed without its end" if orderly else f"was cut: {error or 'closed'}"
        self._settle_result(KubeUnavailableError(f"the command's connection {words}"))

    def writing_paused(self) -> None:
        """See WebSocket."""
        self._writable.clear()

    def writing_resumed(self) -> None:
        """See WebSocket."""
        self._writable.set()

    def _read_status(self) -> None:
        status = read_status(bytes(self._status))
        if status is None:  # not all of it yet
            return
        if status.status == "Success":
            self._settle_result(0)
            return
        causes = status.details.causes if status.details is not None else ()
        codes = [cause.message for cause in causes if cause.reason == "ExitCode"]
        if status.reason == "NonZeroExitCode" and codes and codes[0].isdigit():
            self._settle_result(int(codes[0]))
        else:
            self._settle_result(refusal(status.code or 500, status.reason, status.message))

    def _settle_result(self, result: int | KubeError | KubeUnavailableError) -> None:
        if not self._result.done():
            if isinstance(result, int):
                self._result.set_result(result)
            else:
                self._result.set_exception(result)
                self._result.exception()  # nobody may be waiting
        self._writable.set()  # whoever writes meets the end
        self._news.set()
