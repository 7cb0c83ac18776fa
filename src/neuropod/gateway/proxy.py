"""One request carried to another server, and its answer carried back: streaming, each side at the other's pace.

An exchange is made by front.FrontProtocol when a head has been read, and spoken to by it (the request's body, the
client's pace) and by upstream.Upstream (the answer). What an exchange does first, and where it goes, is its kind's own
(visit.py). Nothing here waits in a task of its own unless somebody has to be asked or dialled: a request of a known
visitor over an idle connection is written on in the same turn of the loop in which it came.

Heads are framed anew in both directions. Once the head of an answer is out the only way to tell of a failure is to cut
the connection short of what was promised, so a broken answer never looks complete. A client that goes takes the pod's
side with it.
"""

import asyncio
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from neuropod.gateway import pages
from neuropod.gateway.askers import Askers
from neuropod.gateway.connector import BusyError, Connector, Connectors
from neuropod.gateway.gate import Credential, DoorkeeperUnavailableError, Gate
from neuropod.gateway.heads import Framing, RequestHead, answered_head, forwarded_head
from neuropod.gateway.pages import Answer, Situation
from neuropod.gateway.passes import CookieNames
from neuropod.gateway.rules import wants_page
from neuropod.gateway.splice import Splice
from neuropod.gateway.streams import OpenStreams
from neuropod.gateway.table import RouteTable
from neuropod.gateway.upstream import Upstream
from neuropod.ids import InstallationId
from neuropod.runtimes.contract import NotReadyError, RuntimeUnavailableError
from neuropod.settings import Addresses

_HELD_BYTES = 64 * 1024  # of a body that cannot be sent on yet; more is not read from the client
_JOINED_BYTES = 16 * 1024  # up to this one copy costs less than one more call
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What every exchange needs; made once by app.Gateway."""

    table: RouteTable
    gate: Gate
    connectors: Connectors
    streams: OpenStreams
    addresses: Addresses
    server: Connector | None = None  # where other hosts are forwarded to; None: they are served here
    askers: Askers | None = None  # carriers that ask the gate here; None: there are none
    installation: InstallationId | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def told(self, host: str) -> bool:
        """Tell whether browsers send Sec-Fetch-* to a pod host."""
        return self.addresses.pod_address_of(host).trustworthy

    def cookies(self, host: str) -> CookieNames:
        """Return the names of the gate's cookies at a pod host."""
        return CookieNames(trustworthy=self.told(host))


class Client(Protocol):
    """The visitor's connection, as an exchange uses it."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop

    @property
    def peer(self) -> tuple[str, bool]:
        """The address that the connection comes from, and whether it is a trusted proxy's."""
        ...

    @property
    def write_paused(self) -> bool:
        """The client takes nothing for now."""
        ...

    def hold(self) -> None:
        """Read no more of the request for now."""
        ...

    def go_on(self) -> None:
        """Read on."""
        ...

    def exchange_done(self, exchange: "Exchange") -> None:
        """Learn that the answer is out."""
        ...

    def leave(self) -> asyncio.Transport:
        """Give the transport away for good."""
        ...


class Exchange:
    """A request and its answer. Also an open stream (streams.py), for as long as it lasts."""

    to_pod = True  # the other side is a pod: it sees none of our credentials and sets none of our cookies

    __slots__ = (
        "_answer_chunked", "_answer_until_close", "_body", "_body_bytes", "_body_done", "_client", "_connector",
        "_head_sent", "_held_pod", "_out", "_parts", "_port", "_private", "_retried", "_upstream", "admitted",
        "credential", "disconnected", "head", "host", "keep_alive", "moved_at", "response_complete",
    )  # fmt: skip

    def __init__(self, parts: Parts, client: Client, head: RequestHead, *, keep_alive: bool) -> None:
        self._parts = parts
        self._client = client
        self.head = head
        self.host = head.host
        self.keep_alive = keep_alive
        self.credential: Credential | None = None
        self.admitted = False
        self.moved_at = client.loop.time()
        self.response_complete = False
        self.disconnected = False
        self._connector: Connector | None = None
        self._upstream: Upstream | None = None
        self._private = False  # no shared cache may keep the answer
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_done = not head.has_body
        self._head_sent = False
        self._out: list[bytes] = []
        self._answer_chunked = False
        self._answer_until_close = False
        self._held_pod = False
        self._retried = False
        self._port = 0

    @property
    def said_at(self) -> float:
        """When something was sent or received last."""
        return self.moved_at

    @property
    def body_done(self) -> bool:
        """The whole request has been read."""
        return self._body_done

    # the way in: each kind's own

    def start(self) -> None:
        """Begin; called when every earlier answer on this connection is out."""
        raise NotImplementedError

    def _trouble(self, error: Exception) -> Situation:
        """Return what to say when no connection can be had."""
        raise NotImplementedError

    # to the pod

    def _reach(self, connector: Connector, port: int) -> None:
        self._connector = connector
        self._port = port
        idle = None
        if not self.head.asks_upgrade:
            idle = connector.take_idle(port, self._client.loop.time(), repeatable=self._repeatable)
        if idle is not None:
            self._use(idle)
        else:
            self._spawn(self._dial(connector, port))

    @property
    def _repeatable(self) -> bool:
        return self.head.method in _REPEATABLE and not self.head.has_body

    async def _dial(self, connector: Connector, port: int) -> None:
        try:
            upstream = await connector.dial(port)
        except (NotReadyError, RuntimeUnavailableError, BusyError, OSError) as error:
            self.refuse(self._trouble(error))
            return
        if self.disconnected or self._head_sent:
            upstream.close()
        elif upstream.closed:
            self.refuse(self._trouble(ConnectionResetError()))
        else:
            self._use(upstream)

    def _use(self, upstream: Upstream) -> None:
        head = self.head
        self._upstream = upstream
        upstream.begin(self, for_head=head.method == b"HEAD", may_upgrade=head.asks_upgrade)
        peer, trusted = self._client.peer
        upstream.transport.write(
            forwarded_head(
                head,
                peer=peer,
                trusted_peer=trusted,
                scheme=self._parts.addresses.pod_address_of(self.host).scheme,
                to_pod=self.to_pod,
            )
        )
        if head.has_body:
            for data in self._body:
                self._send(upstream, data)
            if self._body_done:
                self.body_ended()
            elif not self._body and b"expect" in head.read and head.version == "1.1":
                self._client.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._body.clear()
            self._client.go_on()
        if self._client.write_paused:
            self.client_paused(paused=True)

    def body_received(self, data: bytes) -> None:
        """Take a part of the request's body."""
        self.moved_at = self._client.loop.time()
        if self._upstream is not None:
            self._send(self._upstream, data)
        elif not self._head_sent and not self.disconnected:
            self._body.append(data)
            self._body_bytes += len(data)
            if self._body_bytes > _HELD_BYTES:
                self._client.hold()

    def _send(self, upstream: Upstream, data: bytes) -> None:
        if self.head.chunked:
            upstream.transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            upstream.transport.write(data)

    def body_ended(self) -> None:
        """Take the end of the request."""
        self._body_done = True
        if self._upstream is not None and self.head.chunked:
            self._upstream.transport.write(b"0\r\n\r\n")

    def upstream_paused(self, *, paused: bool) -> None:
        """Keep the client at the pod's pace."""
        if paused:
            self._client.hold()
        else:
            self._client.go_on()

    # the way back

    def client_paused(self, *, paused: bool) -> None:
        """Keep the pod at the client's pace."""
        upstream = self._upstream
        if upstream is not None and paused != self._held_pod and not upstream.closed:
            self._held_pod = paused
            if paused:
                upstream.transport.pause_reading()
            else:
                upstream.transport.resume_reading()

    def answer_head(self, status: int, phrase: bytes, headers: list[tuple[bytes, bytes]], framing: Framing) -> None:
        """Pass the head of the pod's answer on, framed anew."""
        lines = []
        if framing.length is not None and status != 204:
            lines.append(b"Content-Length: %d" % framing.length)
        elif status not in {204, 304} and self.head.method != b"HEAD":
            if self.head.version == "1.1":
                self._answer_chunked = True
                lines.append(b"Transfer-Encoding: chunked")
            else:
                self._answer_until_close = True
                self.keep_alive = False
        if not self._body_done:
            self.keep_alive = False  # what is left of the request is not wanted any more
        if not self.keep_alive:
            lines.append(b"Connection: close")
        self._head_sent = True
        self.moved_at = self._client.loop.time()
        self._out.append(self._framed(status, phrase, headers, lines))

    def _framed(self, status: int, phrase: bytes, headers: list[tuple[bytes, bytes]], lines: list[bytes]) -> bytes:
        return answered_head(status, phrase, headers, lines, private=self._private, from_pod=self.to_pod)

    def answer_body(self, data: bytes) -> None:
        """Pass a part of the body on as it comes."""
        self.moved_at = self._client.loop.time()
        if self._answer_chunked:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def answer_end(self) -> None:
        """Take the end of a complete answer."""
        if self._answer_chunked:
            self._out.append(b"0\r\n\r\n")
        self.answer_flush()
        self._done()

    def answer_target(self) -> asyncio.Transport | None:
        """Return the client's transport where the body goes to it as it is."""
        return None if self._answer_chunked or self._held_pod else self._client.transport

    def answer_moved(self) -> None:
        """Note that a part of the body went to the client by itself."""
        self.moved_at = self._client.loop.time()

    def answer_flush(self) -> None:
        """Send what has come: everything that came at once goes at once."""
        out = self._out
        if len(out) == 1:
            self._client.transport.write(out[0])
        elif out:
            if sum(map(len, out)) <= _JOINED_BYTES:
                self._client.transport.write(b"".join(out))
            else:
                self._client.transport.writelines(out)
        self._out = []

    def answer_upgraded(self, headers: list[tuple[bytes, bytes]], rest: bytes) -> None:
        """Join both sides: the pod accepted the WebSocket, from here on bytes are not looked at."""
        upstream = self._upstream
        asked = {name.lower(): value.strip().lower() for name, value in headers}
        if upstream is None or asked.get(b"upgrade") != b"websocket":
            self.abandon()
            self.refuse(pages.bad_request(502, "the pod switched to a protocol that was not asked for"))
            return
        parts = self._parts
        lines = [b"Connection: Upgrade", b"Upgrade: websocket"]
        answer = self._framed(101, b"Switching Protocols", headers, lines)
        self._upstream = None
        self._head_sent = self.response_complete = True
        parts.streams.discard(self)

        def ended(splice: Splice) -> None:
            parts.streams.discard(splice)
            upstream.gone()

        splice = Splice(self.host, self.credential, self.admitted, self._client.loop, ended)
        parts.streams.add(splice)
        pod = upstream.hand_over()
        splice.join(self._client.leave(), pod, to_client=answer + rest)

    def answer_broken(self, message: str, *, nothing_came: bool) -> None:
        """Learn that the pod's side ended before its answer did."""
        upstream, self._upstream = self._upstream, None
        if self.response_complete or self.disconnected or upstream is None:
            return
        if self._head_sent:
            self.answer_flush()
            self._break()
        elif nothing_came and upstream.used and self._repeatable and not self._retried and self._connector is not None:
            self._retried = True  # it was idle and closed before the request could reach anybody
            self._spawn(self._dial(self._connector, self._port))
        else:
            self.refuse(pages.bad_gateway(self.host, message))

    def _break(self) -> None:
        """Cut the answer short, so that the client sees that it is not complete."""
        self._parts.streams.discard(self)
        self.disconnected = True
        if self._answer_until_close:  # an orderly end would look complete
            connection = self._client.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._client.transport.abort()
        else:
            self._client.transport.close()

    # answers of our own

    def refuse(self, situation: Situation) -> None:
        """Answer with a page or a problem."""
        read = self.head.read
        page = wants_page(self.head.circumstances, read.get(b"accept", b""))
        self.answer(pages.answer_for(situation, page=page, console_origin=self._parts.addresses.console_origin))

    def answer(self, answer: Answer) -> None:
        """Send an answer that did not come from a pod."""
        if self.disconnected or self._head_sent:
            return
        self._head_sent = True
        if not self._body_done:
            self.keep_alive = False
        head = pages.answer_head(answer, () if self.keep_alive else ("Connection: close",))
        self._client.transport.write(head if self.head.method == b"HEAD" else head + answer.body)
        self._done()

    def spoil(self, situation: Situation) -> None:
        """End the pod's side of a request that turned out to be wrong on its way, and answer if that can still be."""
        self.abandon()
        if self._head_sent:
            self._break()
        else:
            self.refuse(situation)

    # ends

    def _done(self) -> None:
        self.response_complete = True
        self._parts.streams.discard(self)
        self._body.clear()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if self._held_pod and not upstream.closed:
                upstream.transport.resume_reading()
            if not self._body_done:
                upstream.abandon()
        self._client.exchange_done(self)

    def abandon(self) -> None:
        """Give the pod's side up."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon()

    def client_lost(self) -> None:
        """End what a client asked for that is gone."""
        self.disconnected = True
        self._parts.streams.discard(self)
        self.abandon()

    def cut(self) -> None:
        """End it now, on both sides (streams.OpenStreams)."""
        self.disconnected = True
        self.abandon()
        self._client.transport.abort()

    # what has to be waited for

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._client.loop.create_task(self._guarded(coroutine))
        self._parts.tasks.add(task)
        task.add_done_callback(self._parts.tasks.discard)

    async def _guarded(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except DoorkeeperUnavailableError:
            self.refuse(pages.no_doorkeeper())
        except Exception:
            log.exception("a request on a pod's host failed", host=self.host)
            self.refuse(pages.bad_request(500, "a fault of Neuropod kept this from being answered"))
