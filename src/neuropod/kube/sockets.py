"""A WebSocket to the API server, with flow control both ways; what its messages mean is channels' and forwarding's.

The protocol itself (RFC 6455) is the websockets library's, without its I/O: here the connection is an asyncio protocol,
so that bytes pass from one transport to the next without a task or a queue in between.
"""

import asyncio
from typing import Any

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from neuropod.kube.connections import Connected, LostError

_LONGEST_MESSAGE = 4 * 1024 * 1024  # servers send at most 32 KiB at once
_PING_SECONDS = 30.0  # load balancers often cut what is silent for a minute
_FAREWELL_SECONDS = 3.0
# An answer to a ping is not waited for: a server whose command takes no input reads nothing, and yet all is well.


class WebSocket(Connected):
    """One WebSocket. Subclasses take messages, and the end, which comes exactly once when it was opened."""

    subprotocol = ""

    def __init__(self, host: str, target: str, authorization: str) -> None:
        super().__init__()
        path, _, query = target.partition("?")
        uri = WebSocketURI(True, host, 443, path, query)
        self._loop = asyncio.get_running_loop()
        self._machine = ClientProtocol(
            uri, subprotocols=[Subprotocol(self.subprotocol)], max_size=_LONGEST_MESSAGE, logger=None
        )
        self._request = self._machine.connect()
        del self._request.headers["Host"]
        self._request.headers["Host"] = host
        if authorization:
            name, _, value = authorization.strip().partition(": ")
            self._request.headers[name] = value
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[tuple[int, bytes] | None] = self._loop.create_future()
        self._message = bytearray()
        self._ping: asyncio.TimerHandle | None = None
        self._tracked: set[WebSocket] = set()
        self._leaving = False
        self._farewell: asyncio.TimerHandle | None = None
        self._over = False

    def track(self, opened: "set[WebSocket]") -> None:
        """Stand in that set while it is open."""
        if not self._over:
            self._tracked = opened
            opened.add(self)

    async def opened(self) -> tuple[int, bytes] | None:
        """Return None once it is open; status and body of the answer where it was refused. Raises LostError."""
        return await asyncio.shield(self._opened)

    # What subclasses do with it.

    def message_received(self, data: bytes) -> None:
        """Take a message."""
        raise NotImplementedError

    def writing_paused(self) -> None:
        """Take that the connection takes nothing for now."""
        raise NotImplementedError

    def writing_resumed(self) -> None:
        """Take that it takes again."""
        raise NotImplementedError

    def ended(self, *, orderly: bool, error: Exception | None) -> None:
        """Take the end. `orderly`: the other end said goodbye."""
        raise NotImplementedError

    def send_message(self, *parts: bytes) -> None:
        """Send one message made of these parts; after the end, also once the other end has said goodbye, nothing."""
        if self._transport is not None and not self._over and self._machine.state is OPEN:
            self._machine.send_binary(b"".join(parts))
            self._flush()

    def say_goodbye(self) -> None:
        """Close it once all was sent; the end comes when the other end has closed too, or is too slow about it."""
        if self._transport is None or self._over or self._leaving:
            return
        self._leaving = True
        if self._machine.state is not OPEN:
            self._transport.close()
            return
        # Closing the transport now would give TLS half a minute for what is not sent yet; so it is emptied first.
        # And a closed socket answers what still comes with a reset, which destroys what the other end did not read yet.
        for transport in (self.below, self._transport):  # TLS does not count what the transport below it holds
            if transport is not None:
                transport.set_write_buffer_limits(high=0)
        self._machine.send_close(1000)
        self._flush()
        if self._transport.get_write_buffer_size() == 0:
            self._all_sent()

    def cut(self) -> None:
        """End it now."""
        if self._transport is not None and not self._over:
            self._transport.abort()

    # What the connection tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._machine.send_request(self._request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._machine.receive_data(data)
        self._turn()

    def eof_received(self) -> None:
        self._machine.receive_eof()
        self._turn()

    def connection_lost(self, error: Exception | None) -> None:
        self._over = True
        self._tracked.discard(self)
        for timer in (self._ping, self._farewell):
            if timer is not None:
                timer.cancel()
        if not self._opened.done():
            self._opened.set_exception(LostError(f"the connection was cut: {error or 'closed'}", unread=False))
            self._opened.exception()  # nobody may be waiting any more
        elif self._opened.exception() is None and self._opened.result() is None:
            self.ended(orderly=self._machine.close_rcvd is not None, error=error)

    def pause_writing(self) -> None:
        if not self._leaving:
            self.writing_paused()

    def resume_writing(self) -> None:
        if self._leaving:
            self._all_sent()
        else:
            self.writing_resumed()

    def _all_sent(self) -> None:
        if self._farewell is None and self._transport is not None:
            self._farewell = self._loop.call_later(_FAREWELL_SECONDS, self._transport.close)

    def _turn(self) -> None:
        for event in self._machine.events_received():
            if isinstance(event, Response):
                self._answered(event)
            elif isinstance(event, Frame):
                self._framed(event)
        if self._machine.handshake_exc is not None and not self._opened.done():
            self._refused(self._machine.handshake_exc)
        self._flush()

    def _answered(self, response: Response) -> None:
        if response.status_code != 101:
            self._settle((response.status_code, bytes(response.body or b"")))
        elif self._machine.handshake_exc is None:
            self._settle(None)
            self._ping = self._loop.call_later(_PING_SECONDS, self._send_ping)

    def _refused(self, error: Exception) -> None:
        words = "answered what is no WebSocket" if isinstance(error, InvalidHandshake | ProtocolError) else "answered"
        self._opened.set_exception(LostError(f"the server {words}: {error}", unread=False))
        self._opened.exception()
        self.cut()

    def _settle(self, result: tuple[int, bytes] | None) -> None:
        if not self._opened.done():
            self._opened.set_result(result)
        if result is not None:
            self.cut()

    def _framed(self, frame: Frame) -> None:
        if frame.opcode not in {Opcode.BINARY, Opcode.TEXT, Opcode.CONT}:
            return
        if frame.fin and not self._message:
            self.message_received(bytes(frame.data))
            return
        self._message += frame.data
        if frame.fin:
            whole = bytes(self._message)
            self._message.clear()
            self.message_received(whole)

    def _flush(self) -> None:
        if self._transport is None:
            return
        for data in self._machine.data_to_send():
            if data:
                self._transport.write(data)
            elif not self._transport.is_closing():  # the library's word for "no more": the closing handshake is done
                # Not twice: the second time makes the TLS of Python 3.11 forget what `cut` needs (an early one raises)
                self._transport.close()

    def _send_ping(self) -> None:
        if not self._over and self._machine.state is OPEN:
            self._machine.send_ping(b"")
            self._flush()
            self._ping = self._loop.call_later(_PING_SECONDS, self._send_ping)

    def extra(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows of itself."""
        return default if self._transport is None else self._transport.get_extra_info(name, default)
