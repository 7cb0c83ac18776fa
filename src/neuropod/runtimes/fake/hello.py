"""What answers on a fake pod's port: HTTP/1.1 (RFC 9112), a line of text that names the pod, the connection kept."""

import asyncio
from typing import cast

import httptools


class Hello(asyncio.Protocol):
    """One connection."""

    def __init__(self, who: str) -> None:
        body = f"hello from {who}\n".encode()
        self._answer = (b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(body)) + body
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; uvloop's are no subclass of asyncio's."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read requests; what is none ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.close()

    def on_message_complete(self) -> None:
        """Answer."""
        if self._transport is None:
            return
        self._transport.write(self._answer)
        if not self._parser.should_keep_alive():
            self._transport.close()
