"""What both proxies carry requests to: small answers, a large download, a WebSocket that echoes; on one port.

Run as a process: `python -m bench.upstream PORT`. uvloop and httptools, so that it is not what is measured.
"""

import asyncio
import base64
import hashlib
import sys
from contextlib import suppress

import httptools
import uvloop

SMALL = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 14\r\n\r\nhello, world!\n"
CHUNK = bytes(1 << 20)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self.key = b""
        self.echoes = False
        self.left = 0

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.echoes:
            self.echo(data)
            return
        with suppress(httptools.HttpParserUpgrade):
            self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"sec-websocket-key":
            self.key = value

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            self.echoes = True
            accept = base64.b64encode(hashlib.sha1(self.key + _GUID).digest())
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
                b"sec-websocket-accept: " + accept + b"\r\n\r\n"
            )
        elif self.url.startswith(b"/large/"):
            self.left = int(self.url.rpartition(b"/")[2])
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % self.left
            )
            self.resume_writing()
        else:
            self.transport.write(SMALL)

    def resume_writing(self) -> None:
        while self.left and not self.transport.is_closing():
            part = min(self.left, len(CHUNK))
            self.left -= part
            self.transport.write(CHUNK[:part])
            if self.transport.get_write_buffer_size() > len(CHUNK):
                return

    def pause_writing(self) -> None:
        """The rest comes with `resume_writing`."""

    def echo(self, data: bytes) -> None:
        """Answer one small masked frame with the same content (the bench sends nothing else)."""
        length = data[1] & 0x7F
        mask, payload = data[2:6], data[6 : 6 + length]
        plain = bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))
        self.transport.write(bytes((0x81, length)) + plain)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
