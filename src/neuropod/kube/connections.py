"""HTTP/1.1 to one API server: connections that are kept, one exchange at a time on each.

Used by client. Written on asyncio and httptools (llhttp), since a launch is a handful of requests and this is what
most of our own CPU would go to: httpx took 2 to 3 ms of CPU a request, this 0.1 (docs/decisions,
the-kubernetes-client-is-ours). What may be sent again after a failure is client's to know; here an error tells whether
the request can have been acted on at all.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit

import httptools

from neuropod import __version__
from neuropod.kit.clock import Clock
from neuropod.kube.access import Access
from neuropod.kube.credentials import Certificate, Identity
from neuropod.kube.errors import AccessError

ProtocolT = TypeVar("ProtocolT", bound="Connected")

_MOST_AT_ONCE = 16  # exchanges that are answered whole: more would pay for their TLS and be queued by the server
_IDLE_SECONDS = 45.0  # below the 60 s and more after which servers and load balancers close
_CONNECT_SECONDS = 5.0
_HIGH_WATER = 256 * 1024  # of a streamed answer that nobody read yet
# A peer that vanished is noticed within half a minute while nothing is sent, as on a watch (SECURITY 3). There is no
# TCP_USER_TIMEOUT: it would also end a stream whose reader, alive, takes nothing for a while.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class LostError(Exception):
    """The connection was not made, or was cut. `unread`: the request was surely not acted on."""

    def __init__(self, message: str, *, unread: bool) -> None:
        super().__init__(message)
        self.unread = unread


class Connected(asyncio.Protocol):
    """What runs over a connection to the API server, and can hold it back.

    It is the TCP transport below TLS that is paused: uvloop's TLS throws away what was not delivered when the other
    end closes while it is paused itself (seen: the last 50 kB of a command's output).
    """

    def __init__(self) -> None:
        self.below: asyncio.Transport | None = None
        self._held = False

    def hold(self) -> None:
        """Take no more from the connection until `release`; what was read already still comes."""
        if not self._held and self.below is not None and not self.below.is_closing():
            self._held = True
            self.below.pause_reading()

    def release(self) -> None:
        """Take from the connection again."""
        if self._held and self.below is not None:
            self._held = False
            if not self.below.is_closing():
                self.below.resume_reading()


class Answer:
    """The answer to one request: its status and headers, and its body, which `read` yields or `whole` returns."""

    def __init__(self) -> None:
        self.status = 0
        self.retry_after: str | None = None
        self.content_type = ""
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._lost: LostError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._connection: _HttpConnection | None = None

    async def head(self) -> None:
        """Return once status and headers are there."""
        while not self.status and self._lost is None:
            await self._wait()
        if self._lost is not None:
            raise self._lost

    async def whole(self) -> bytes:
        """Return all of the body."""
        while not self._ended:
            if self._lost is not None:
                raise self._lost
            await self._wait()
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    async def read(self) -> bytes:
        """Return what came of the body, at least a byte; b"" at its end. Raises LostError when it was cut."""
        while not self._parts:
            if self._ended:
                return b""
            if self._lost is not None:
                raise self._lost
            await self._wait()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if self._size > _HIGH_WATER and self._connection is not None:
            self._connection.release()
        self._size = 0
        return data

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the connection tells.

    def began(self, status: int, connection: "_HttpConnection", *, streamed: bool) -> None:
        """Take the head; with `streamed` the connection is held back while nobody reads."""
        self.status = status
        self._connection = connection if streamed else None
        self._wake()

    def came(self, data: bytes) -> None:
        """Take a part of the body."""
        self._parts.append(data)
        before, self._size = self._size, self._size + len(data)
        if self._connection is not None:
            if before <= _HIGH_WATER < self._size:
                self._connection.hold()
            self._wake()

    def ended(self) -> None:
        """Take its end."""
        self._ended = True
        self._wake()

    def failed(self, error: LostError) -> None:
        """Take that no more comes."""
        self._lost = error
        self._wake()


class _HttpConnection(Connected):
    """One connection; `free` while no exchange runs on it. llhttp calls the `on_…` methods."""

    def __init__(self, certificate: Certificate | None, track: Callable[["_HttpConnection", bool], None]) -> None:
        super().__init__()
        self.certificate = certificate
        self.idle_since = 0.0
        self.closed = False
        self._track = track
        self._answer: Answer | None = None
        self._streamed = False
        self._keep = True
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    @property
    def free(self) -> bool:
        return self._answer is None and not self.closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._track(self, True)

    def send(self, request: bytes, *, streamed: bool) -> Answer:
        """Send a request, complete with its body."""
        if self._transport is None or self.closed:
            raise LostError("the connection was closed", unread=True)
        answer = self._answer = Answer()
        self._streamed = streamed
        self._transport.write(request)
        return answer

    def cut(self) -> None:
        """End the connection in the midst of what it does."""
        if self._transport is not None and not self.closed:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            # What a server sends without being asked, or what is no HTTP.
            self._fail(LostError("the server did not answer with HTTP", unread=False))
            self.cut()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        words = "was closed" if error is None else f"was cut: {error}"
        self._fail(LostError(f"the connection {words}", unread=False))
        self._track(self, False)

    def _fail(self, error: LostError) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.failed(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is None:
            return
        lowered = name.lower()
        if lowered == b"retry-after":
            self._answer.retry_after = value.decode("latin-1")
        elif lowered == b"content-type":
            self._answer.content_type = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()
        if self._answer is None:
            raise ValueError("an answer that nobody asked for")
        if status >= 200:
            self._answer.began(status, self, streamed=self._streamed)

    def on_body(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.came(data)

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or not answer.status:  # a 1xx before the answer
            return
        self._answer = None
        if not self._keep:
            self.closed = True
            if self._transport is not None:
                self._transport.close()
        answer.ended()


class Connections:
    """All connections to one API server, with one identity. Raises LostError, AccessError."""

    def __init__(self, access: Access, clock: Clock) -> None:
        parts = urlsplit(access.server)
        if parts.hostname is None:
            raise ValueError(f"{access.server!r} names no host")
        self._access = access
        self._clock = clock
        self._tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._tls else 80)
        self.prefix = parts.path.rstrip("/")
        self.host = parts.netloc.rpartition("@")[2]
        self._common = f"Host: {self.host}\r\nUser-Agent: neuropod/{__version__}\r\nAccept: application/json\r\n"
        self._identity: Identity | None = None
        self._context: ssl.SSLContext | None = None
        self._idle: list[_HttpConnection] = []
        self._all: set[_HttpConnection] = set()
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
        self._ended = False

    async def exchange(self, head: str, body: bytes = b"") -> tuple[Answer, bytes]:
        """Send a request and return its answer, read to the end. `head` is as of `request_head`."""
        async with self._room:
            connection, identity = await self._take()
            try:
                answer = connection.send(_encoded(head, identity, body), streamed=False)
                content = await answer.whole()
            except BaseException:
                connection.cut()
                raise
            self._keep(connection)
            return answer, content

    async def stream(self, head: str) -> tuple[Answer, Callable[[], None]]:
        """Send a request and return its answer once its head is there, with what ends it."""
        connection, identity = await self._take()
        try:
            answer = connection.send(_encoded(head, identity), streamed=True)
            await answer.head()
        except BaseException:
            connection.cut()
            raise

        def end() -> None:
            if connection.free:
                self._keep(connection)
            else:
                connection.cut()

        return answer, end

    def request_head(self, method: str, path: str, content_type: str = "") -> str:
        """Return the first lines of a request's head; `path` is quoted and has its query."""
        line = f"{method} {self.prefix}{path} HTTP/1.1\r\n{self._common}"
        return f"{line}Content-Type: {content_type}\r\n" if content_type else line

    async def connect(self, make: Callable[[str], ProtocolT]) -> ProtocolT:
        """Open a connection of its own, with TLS where the server has it.

        `make` is given the lines of a request's head that say who we are (none where a certificate does).
        """
        identity = await self._present()
        protocol = make(_authorization(identity))
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._open(protocol)
        except TimeoutError:
            raise LostError(
                f"no connection to {self._access.server} within {_CONNECT_SECONDS:.0f} s", unread=True
            ) from None
        except ssl.SSLCertVerificationError as error:  # another try would meet the same
            raise AccessError(f"{self._access.server} is not who it should be: {error}") from error
        except OSError as error:
            raise LostError(f"no connection to {self._access.server}: {error}", unread=True) from error
        return protocol

    async def _open(self, protocol: Connected) -> None:
        loop = asyncio.get_running_loop()
        below, _ = await loop.create_connection(asyncio.Protocol, self._host, self._port)
        _keep_alive(below)
        transport: asyncio.Transport | None = below
        if self._context is None:
            below.set_protocol(protocol)
        else:
            name = self._access.tls_server_name or self._host
            try:
                transport = await loop.start_tls(below, protocol, self._context, server_hostname=name)
            except BaseException:
                below.abort()
                raise
        if transport is None or transport.is_closing():
            raise ConnectionResetError("closed during the handshake")
        protocol.below = below
        protocol.connection_made(transport)

    def refused(self) -> bool:
        """Learn that the server did not know us; whether asking again may go better."""
        return self._access.credentials.refused()

    def close(self) -> None:
        """End all connections; none is opened any more."""
        self._ended = True
        for connection in list(self._all):
            connection.cut()

    async def _present(self) -> Identity:
        """Return who we are now; the context of new connections shows its certificate."""
        if self._ended:
            raise AccessError(f"the client of {self._access.server} is closed")
        identity = await self._access.credentials.identity(self._clock)
        if self._identity is None or identity.certificate != self._identity.certificate:
            self._context = self._access.ssl_context(identity.certificate) if self._tls else None
        self._identity = identity
        return identity

    async def _take(self) -> tuple[_HttpConnection, Identity]:
        identity = await self._present()
        now = self._clock.monotonic()
        while self._idle:
            kept = self._idle.pop()
            recent = now - kept.idle_since < _IDLE_SECONDS
            if recent and kept.free and kept.certificate == identity.certificate:
                return kept, identity
            kept.cut()
        return await self.connect(lambda _: _HttpConnection(identity.certificate, self._track)), identity

    def _keep(self, connection: _HttpConnection) -> None:
        if connection.free and not self._ended:
            connection.idle_since = self._clock.monotonic()
            self._idle.append(connection)

    def _track(self, connection: _HttpConnection, there: bool) -> None:
        if there:
            self._all.add(connection)
            return
        self._all.discard(connection)
        with suppress(ValueError):
            self._idle.remove(connection)


def _authorization(identity: Identity) -> str:
    return "" if identity.token is None else f"Authorization: Bearer {identity.token.reveal()}\r\n"


def _encoded(head: str, identity: Identity, body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{head}{_authorization(identity)}{length}\r\n".encode("latin-1") + body


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        peer.setsockopt(socket.IPPROTO_TCP, option, value)
