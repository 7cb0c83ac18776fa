"""The server's side of every connection: uvicorn's own protocol, with pod hosts taken out before ASGI.

Given to uvicorn by app.serving_config as the class of its connections. All heads are checked here (heads.read_head,
limits below), so the rules of SECURITY 18, 21 and 22 hold for the console and the API too. A request for a pod host
becomes a visit.Visit, which reads and writes this connection's transport directly: through ASGI a request costs more,
and a WebSocket would be taken apart and put together again (docs/benchmarks.md). Everything else goes on to uvicorn and
the ASGI app.

Requests that come while an earlier one is answered wait in uvicorn's pipeline; nothing is read meanwhile.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from neuropod.gateway import pages
from neuropod.gateway.carriers.asked import is_question
from neuropod.gateway.heads import BadHeadError, RequestHead, read_head
from neuropod.gateway.proxy import Exchange, Parts
from neuropod.gateway.question import Question
from neuropod.gateway.visit import Passage, Visit

# A hostile pod can make a browser send 180 cookies of 4 KB with every request to its sibling hosts (SECURITY 18).
_HEAD_BYTES = 1024 * 1024
_HEAD_READS = 4096  # the parser joins what it has at each read, so a head in single bytes is work without end
_HEAD_SECONDS = 30.0
_HEADERS = 1000
_FRAMING_BYTES = 64 * 1024  # of chunk extensions and trailers between two pieces of a body
_HIGH_WATER = 512 * 1024
_LINGER_SECONDS = 5.0
_HEALTH_CHECKS = frozenset({b"/healthz", b"/readyz"})

log = structlog.get_logger(__name__)


class FrontProtocol(HttpToolsProtocol):
    """One connection. `is_pod_host` tells which hosts are the gateway's."""

    def __init__(
        self,
        parts: Parts,
        is_pod_host: Callable[[str], bool],
        is_trusted: Callable[[str], bool],
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._parts = parts
        self._is_pod_host = is_pod_host
        self._is_trusted = is_trusted
        self._peer: tuple[str, bool] | None = None
        self._raw: list[tuple[bytes, bytes]] = []
        self._in_head = False
        self._in_body = False
        self._head_bytes = 0
        self._head_reads = 0
        self._silent_bytes = 0
        self._refusal: BadHeadError | None = None
        self._awaits_upgrade = False
        self._ignored_upgrade: RequestHead | None = None
        self._earlier: Any = None  # what was being answered when the newest request came
        self._deaf = False  # nothing that comes is looked at any more
        self._serving: Exchange | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    # the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()
        waiting = [cycle for cycle, _ in self.pipeline]
        self.pipeline.clear()
        for exchange in {self._serving, self.cycle, *waiting}:
            if isinstance(exchange, Exchange):
                exchange.client_lost()
            elif exchange is not None and exchange in waiting:
                exchange.disconnected = True
        if isinstance(self.cycle, Exchange):
            self.cycle = None  # type: ignore[assignment]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._deaf:
            return
        if self._awaits_upgrade:
            self._too_early()
            return
        self._silent_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade_asked(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self._deaf and not self.transport.is_closing():
                self._refused(error)
        else:
            if self._in_head:
                self._count_head(len(data))
            elif self._in_body and self._silent_bytes > _FRAMING_BYTES:
                self._refusal = BadHeadError(400, "the framing of the body is larger than its content")
                self._refused(None)

    def _too_early(self) -> None:
        """Refuse what the client sent before its WebSocket was accepted: whose bytes they would be is in doubt."""
        self._deaf = True
        if self._serving is not None:
            self._serving.spoil(pages.bad_request(400, "nothing may be sent before the WebSocket is accepted"))

    def _count_head(self, nbytes: int) -> None:
        """Watch a head that did not come at once."""
        self._head_bytes += nbytes
        self._head_reads += 1
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_too_slow)
        if self._head_bytes > _HEAD_BYTES or self._head_reads > _HEAD_READS:
            self._refusal = BadHeadError(431, "the request's head is too large")
            self._refused(None)

    def _head_too_slow(self) -> None:
        self._head_timer = None
        self.transport.close()

    # httptools

    def on_message_begin(self) -> None:
        self.url = b""
        self._raw = []
        self._in_head = True
        self._head_bytes = self._head_reads = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer, which is dropped
            self._raw.append((name, value))

    def on_headers_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._deaf or self.transport.is_closing():
            raise BadHeadError(400, "nothing more is answered on this connection")
        parser = self.parser
        version = parser.get_http_version()
        try:
            if len(self._raw) > _HEADERS:
                raise BadHeadError(431, "the request has too many headers")
            head = read_head(parser.get_method(), self.url, version, self._raw)
        except BadHeadError as bad:
            self._refusal = bad
            raise
        if parser.should_upgrade() and not head.asks_upgrade:
            self._ignored_upgrade = head
            return
        keep_alive = version != "1.0" and parser.should_keep_alive()
        if self._is_question(head):
            self._take(Question(self._parts, self, head, keep_alive=keep_alive))
        elif self._is_pod_host(head.host) and not self._is_health_check(head):
            self._take(Visit(self._parts, self, head, keep_alive=keep_alive))
        elif self._parts.server is not None:
            self._take(Passage(self._parts, self, head, keep_alive=keep_alive))
        else:
            self._give_to_asgi()
        self._in_head = False
        self._in_body = True
        self._silent_bytes = 0

    def _give_to_asgi(self) -> None:
        url = self.url
        self._earlier = self.cycle
        super().on_message_begin()
        self.url = url
        for name, value in self._raw:
            super().on_header(name, value)
        super().on_headers_complete()

    def _is_health_check(self, head: RequestHead) -> bool:
        """Tell whether it is one for the server: those are answered on any host, but a pod's path is the pod's."""
        return head.target in _HEALTH_CHECKS and self._parts.table.get(head.host) is None

    def _is_question(self, head: RequestHead) -> bool:
        """Tell whether it is one of a carrier's to the gate: on the host of a `gate_url`, nowhere else."""
        askers = self._parts.askers
        return askers is not None and is_question(head.target) and head.host in askers.hosts

    def _take(self, exchange: Exchange) -> None:
        self._earlier = self.cycle
        self.cycle = cast("Any", exchange)
        if self.parser.should_upgrade():
            exchange.keep_alive = False  # a WebSocket: `_upgrade_asked` starts it
        elif self._is_busy:
            self._queue(exchange)
        else:
            self._serving = exchange
            exchange.start()

    @property
    def _is_busy(self) -> bool:
        """An earlier request on this connection is still being answered."""
        return self._earlier is not None and not self._earlier.response_complete

    def _queue(self, exchange: Exchange) -> None:
        self.flow.pause_reading()
        self.pipeline.appendleft((cast("Any", exchange), self.app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start what uvicorn has decided to start: the next in the pipeline, or an ASGI request."""
        if isinstance(cycle, Exchange):
            self._serving = cycle
            self.loop.call_soon(cycle.start)  # not from here: a long pipeline would be a deep recursion
        else:
            self._serving = None
            super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        if isinstance(self.cycle, Exchange):
            self.cycle.body_received(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        if self._ignored_upgrade is not None:
            return
        if isinstance(self.cycle, Exchange):
            self.cycle.body_ended()
        else:
            super().on_message_complete()

    # upgrades

    def _upgrade_asked(self, rest: bytes) -> None:
        """Start a request that asked for an upgrade; `rest` came after it."""
        if self._ignored_upgrade is not None:
            self._read_again(self._ignored_upgrade, rest)
            return
        cycle = self.cycle
        if not isinstance(cycle, Exchange):
            self._upgrade_asked_of_asgi()
            return
        if rest or cycle.head.has_body:
            self._deaf = True
            if self._is_busy:
                self.transport.close()
                return
            self._serving = cycle
            cycle.refuse(pages.bad_request(400, "nothing may be sent before the WebSocket is accepted"))
            return
        self._awaits_upgrade = True
        if self._is_busy:
            self._queue(cycle)
        else:
            self._serving = cycle
            cycle.start()

    def _read_again(self, head: RequestHead, rest: bytes) -> None:
        """Read a request as if it had not asked for an upgrade to something that is not a WebSocket.

        Where an upgrade is asked for the parser takes whatever follows for the other protocol, a body too. So a new one
        gets the same head without that wish.
        """
        self._ignored_upgrade = None
        self.parser = httptools.HttpRequestParser(self)
        lines = [head.method + b" " + head.target + b" HTTP/" + head.version.encode()]
        lines += [name + b": " + value for name, value in head.headers if name.lower() != b"upgrade"]
        self.data_received(b"\r\n".join((*lines, b"", rest)))

    def _upgrade_asked_of_asgi(self) -> None:
        if self._is_busy:
            self.transport.close()
        else:
            self.handle_websocket_upgrade()

    def leave(self) -> asyncio.Transport:
        """Give the transport to a splice."""
        self.connections.discard(self)
        self._serving = None
        self.cycle = None  # type: ignore[assignment]
        self.parser = cast("Any", None)
        return self.transport

    # refusals

    def _refused(self, error: Exception | None) -> None:
        """Answer a request that cannot be understood, and look at nothing more on this connection.

        Where earlier requests are still being answered they are, and then the connection ends: an answer must never
        stand in another's place.
        """
        refusal = self._refusal or BadHeadError(400, "the request is not well-formed HTTP/1.1")
        if isinstance(error, httptools.HttpParserCallbackError) and self._refusal is None:
            log.error("a request could not be taken", exc_info=error.__context__ or error)
            refusal = BadHeadError(500, "a fault of Neuropod kept this from being answered")
        self._deaf = True
        situation = pages.bad_request(refusal.status, refusal.message)
        if self._in_body:
            self._spoil_current(situation)
        elif self.cycle is None or self.cycle.response_complete:
            self._answer_plainly(situation)

    def _spoil_current(self, situation: pages.Situation) -> None:
        """End a request with a wrong body that may be on its way already: its pod must not take it for complete."""
        cycle = self.cycle
        if not isinstance(cycle, Exchange):
            self.transport.close()
        elif cycle is self._serving:
            cycle.spoil(situation)
        else:
            self.pipeline.popleft()

    def _answer_plainly(self, situation: pages.Situation) -> None:
        answer = pages.answer_for(situation, page=False, console_origin="")
        self.transport.write(pages.answer_head(answer, ("Connection: close",)) + answer.body)
        self._linger()

    # ends

    def exchange_done(self, exchange: Exchange) -> None:
        """Go on to what waits, or end the connection."""
        if exchange.keep_alive and exchange.body_done:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.pipeline.clear()
            if exchange.body_done:
                self._deaf = True
                self.transport.close()
            else:
                self._linger()

    def on_response_complete(self) -> None:
        if self._deaf and not self.pipeline:
            self.server_state.total_requests += 1
            self._linger()
        else:
            super().on_response_complete()

    def _linger(self) -> None:
        """End the connection so that the client gets the answer although it is still sending."""
        self._deaf = True
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    # pace

    @property
    def peer(self) -> tuple[str, bool]:
        """The address that the connection comes from, and whether it is a trusted proxy's."""
        if self._peer is None:
            address = self.client[0] if self.client else "unknown"
            self._peer = (address, self._is_trusted(address))
        return self._peer

    @property
    def write_paused(self) -> bool:
        """The client takes nothing for now."""
        return self.flow.write_paused

    def hold(self) -> None:
        """Read no more for now."""
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def go_on(self) -> None:
        """Read on, unless requests wait."""
        if not self.pipeline and not self.transport.is_closing():
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._serving is not None:
            self._serving.client_paused(paused=True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._serving is not None:
            self._serving.client_paused(paused=False)
