"""A byte stream to a port of a pod, through the API server (`portforward`): KubeClient.port_forward.

For a server outside the cluster, which has no route to pods. One WebSocket a stream, with the kubelet's own channels
(v4.channel.k8s.io): 0 carries data both ways, 1 the node's complaints; the first message of each is the port. All API
servers pass it on as it is, whereas SPDY in a WebSocket, which kubectl speaks, would bring nothing but several
streams on one connection, where a slow reader holds up its neighbours.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from neuropod.kube.kinds import PODS
from neuropod.kube.sockets import WebSocket

_DATA, _COMPLAINTS = 0, 1
_PORT_BYTES = 2
_PIECE = 64 * 1024
_DATA_BYTE = bytes([_DATA])
_LONGEST_COMPLAINT = 2000


def forward_path(namespace: str, pod: str, port: int) -> str:
    """Return the path that opens a stream to a port."""
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is no port")
    return f"{PODS.path(namespace, pod, 'portforward')}?ports={port}"


class PortForward(WebSocket):
    """A connected stream. `attach` has the shape of runtimes.contract.Attach; `close` is for one never attached."""

    subprotocol = "v4.channel.k8s.io"

    def __init__(self, host: str, target: str, authorization: str) -> None:
        super().__init__(host, target, authorization)
        self._greetings = {_DATA: _PORT_BYTES, _COMPLAINTS: _PORT_BYTES}
        self._complaint = bytearray()
        self._stream: _ForwardTransport | None = None
        self._early: deque[bytes] = deque()
        self._end: tuple[Exception | None] | None = None
        self._got_data = False

    async def attach(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """Start `protocol` on the stream and return its transport, after `connection_made`; call once.

        When nothing listens there, `connection_lost` gets a ConnectionRefusedError, without a byte before. The
        transport has no `write_eof`: the other end would not be told.
        """
        if self._stream is not None:
            raise RuntimeError("a stream is attached once")
        stream = self._stream = _ForwardTransport(self, protocol)
        protocol.connection_made(stream)
        while self._early:
            stream.feed(self._early.popleft())
        if self._end is not None:
            stream.feed_end(self._end[0])
        if stream.is_reading():
            self.release()
        return stream

    def close(self) -> None:
        """Let go of one that was not attached; may be repeated."""
        if self._stream is None:
            self.cut()

    def message_received(self, data: bytes) -> None:
        """See WebSocket."""
        channel, content = (data[0], data[1:]) if data else (_DATA, b"")
        if channel not in self._greetings or not content:
            return
        if skipped := min(self._greetings[channel], len(content)):
            self._greetings[channel] -= skipped
            content = content[skipped:]
            if not content:
                return
        if channel == _COMPLAINTS:
            self._complaint += content[: _LONGEST_COMPLAINT - len(self._complaint)]
        elif self._stream is not None:
            self._got_data = True
            self._stream.feed(content)
        else:
            self._got_data = True
            self._early.append(content)
            self.hold()

    def ended(self, *, orderly: bool, error: Exception | None) -> None:
        """See WebSocket."""
        failed: Exception | None = None
        if self._complaint:
            words = self._complaint.decode(errors="replace")
            failed = ConnectionResetError(words) if self._got_data else ConnectionRefusedError(words)
        elif not orderly:
            failed = ConnectionResetError(f"the connection to the API server was cut: {error or 'closed'}")
        self._end = (failed,)
        if self._stream is not None:
            self._stream.feed_end(failed)

    def writing_paused(self) -> None:
        """See WebSocket."""
        if self._stream is not None:
            self._stream.pause_protocol()

    def writing_resumed(self) -> None:
        """See WebSocket."""
        if self._stream is not None:
            self._stream.resume_protocol()

    def send(self, data: bytes) -> None:
        """Send data to the port."""
        for start in range(0, len(data), _PIECE):
            self.send_message(_DATA_BYTE, data[start : start + _PIECE])

    @property
    def carrier(self) -> asyncio.Transport:
        """The transport that carries the WebSocket."""
        if self._transport is None:
            raise RuntimeError("never connected")
        return self._transport

    def unsent_bytes(self) -> int:
        """Return how much waits to be sent, in both transports."""
        both = {transport for transport in (self._transport, self.below) if transport is not None}
        return sum(transport.get_write_buffer_size() for transport in both)


class _ForwardTransport(asyncio.Transport):
    """What the protocol above sees: a transport of its own over the WebSocket, with the buffers of the one below."""

    def __init__(self, socket: PortForward, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._protocol: Any = protocol
        self._waiting: deque[bytes] = deque()
        self._end: tuple[Exception | None] | None = None
        self._paused = False
        self._closing = False
        self._lost = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002 - see below
        """Tell nothing: whoever got the socket below would speak past the WebSocket."""
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def is_reading(self) -> bool:
        return not self._paused and not self.is_closing()

    def pause_reading(self) -> None:
        if not self._paused and not self.is_closing():
            self._paused = True
            self._socket.hold()

    def resume_reading(self) -> None:
        if self._paused and not self.is_closing():
            self._paused = False
            if self._waiting or self._end is not None:
                self._loop.call_soon(self._deliver)  # never from within a call of the protocol's
            else:
                self._socket.release()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing() and len(data):
            self._socket.send(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("a forwarded port cannot be told that no more comes")

    def get_write_buffer_size(self) -> int:
        return 0 if self._lost else self._socket.unsent_bytes()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._socket.carrier.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._socket.carrier.set_write_buffer_limits(high=high, low=low)

    def close(self) -> None:
        """Send what was written, then end; nothing is received any more."""
        if self.is_closing():
            return
        self._closing = True
        self._waiting.clear()
        if self._end is not None:
            self._loop.call_soon(self._lose, None)
            return
        self._socket.release()  # a connection that is not read would not notice its end
        self._socket.say_goodbye()

    def abort(self) -> None:
        """End now."""
        if self._lost:
            return
        already, self._closing = self._end is not None, True
        self._waiting.clear()
        if already:
            self._loop.call_soon(self._lose, None)
        else:
            self._socket.cut()

    # What the stream tells.

    def feed(self, data: bytes) -> None:
        """Take data from the port."""
        if self._closing:
            return
        if self._paused or self._waiting:
            self._waiting.append(data)
        else:
            self._protocol.data_received(data)

    def feed_end(self, error: Exception | None) -> None:
        """Take the end, which the protocol learns after all data."""
        self._end = (None if self._closing else error,)
        self._loop.call_soon(self._deliver)

    def pause_protocol(self) -> None:
        """Take that the connection takes nothing for now."""
        self._protocol.pause_writing()

    def resume_protocol(self) -> None:
        """Take that it takes again."""
        if not self._lost:
            self._protocol.resume_writing()

    def _deliver(self) -> None:
        while self._waiting and not self._paused and not self._closing:
            self._protocol.data_received(self._waiting.popleft())
        if self._paused and not self._closing:
            return
        if self._end is not None:
            self._lose(self._end[0])
        elif not self._closing:
            self._socket.release()

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        if error is None and not self._closing:
            self._protocol.eof_received()
        self._closing = True
        self._protocol.connection_lost(error)
