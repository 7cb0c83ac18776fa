"""One connection to a pod's port, speaking HTTP/1.1 as a client: it carries one request at a time.

Made by connector over Runtime.connect, used by one exchange (proxy.py) after the other. The strict parser (llhttp)
reads heads and chunks; the bytes of a body of known length go past it. Nothing is remembered from one request to the
next: no cookies, no redirects. What a pod sends without being asked ends the connection.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import httptools

from neuropod.gateway.heads import BadHeadError, Framing, read_framing
from neuropod.gateway.pump import LEAST_BYTES, Pump

_HEAD_BYTES = 256 * 1024
_HIGH_WATER = 512 * 1024


class Answered(Protocol):
    """Takes the answer to a request: an exchange."""

    def answer_head(self, status: int, phrase: bytes, headers: list[tuple[bytes, bytes]], framing: Framing) -> None:
        """Take the head of the final answer; `framing` is how its body comes."""
        ...

    def answer_body(self, data: bytes) -> None:
        """Take a part of the body."""
        ...

    def answer_flush(self) -> None:
        """Pass on what was taken: for now there is no more."""
        ...

    def answer_target(self) -> asyncio.Transport | None:
        """Return where the rest of the body may go without being looked at; None where it has to come here."""
        ...

    def answer_moved(self) -> None:
        """Learn that a part of the body went there."""
        ...

    def answer_end(self) -> None:
        """Take the end of a complete answer, and pass on what was taken."""
        ...

    def answer_upgraded(self, headers: list[tuple[bytes, bytes]], rest: bytes) -> None:
        """Take a 101 that was asked for, and the bytes that came after it."""
        ...

    def answer_broken(self, message: str, *, nothing_came: bool) -> None:
        """Learn that no (further) answer comes. `nothing_came`: not one byte, so it may never have been read."""
        ...

    def upstream_paused(self, *, paused: bool) -> None:
        """Learn that the pod takes nothing for now, or takes again."""
        ...


class Upstream(asyncio.Protocol):
    """The connection. `on_free` gets it back after an exchange, told whether it may be used again."""

    def __init__(self, on_free: "Callable[[Upstream, bool], None]") -> None:
        self._on_free = on_free
        self._parser = httptools.HttpResponseParser(self)
        self._answered: Answered | None = None
        self.transport: asyncio.Transport
        self.idle_since = 0.0
        self.used = False  # it has carried a request before
        self.closed = False
        self._pump: Pump | None = None
        self.forgotten = False  # its connector counts it no more
        self._reset(for_head=False, may_upgrade=False)

    def _reset(self, *, for_head: bool, may_upgrade: bool) -> None:
        self._for_head = for_head
        self._may_upgrade = may_upgrade
        self._phrase = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._head_done = False
        self._interim = False
        self._ended = False
        self._came = False
        self._body_left: int | None = None  # of a length that is known; what goes past the parser
        self._past_parser = False
        self._until_eof = False
        self._reusable = False
        self._problem = ""

    def begin(self, answered: Answered, *, for_head: bool, may_upgrade: bool = False) -> None:
        """Take the next request; its bytes are written to `transport` by the caller."""
        self._reset(for_head=for_head, may_upgrade=may_upgrade)
        self._answered = answered

    def abandon(self) -> None:
        """End the connection with its exchange, which hears nothing more."""
        self._answered = None
        self.close()

    def close(self) -> None:
        """End the connection at once."""
        self._stop_pump()
        if not self.closed:
            self.closed = True
            self.transport.abort()

    def hand_over(self) -> asyncio.Transport:
        """Give the transport away for good, after a 101; `gone` says when it has ended."""
        self._answered = None
        self.closed = True
        return self.transport

    def gone(self) -> None:
        """Let the connector count a handed-over connection no more."""
        self._on_free(self, False)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        if self._answered is None:
            self.close()
            return
        self._came = True
        if self._past_parser:
            self._body_received(data)
        else:
            self._parse(data)
        if self._ended:
            self._finish()
        elif self._answered is not None:
            self._answered.answer_flush()
            if self._past_parser and self._body_left is not None and self._body_left >= LEAST_BYTES:
                self._start_pump(self._answered, self._body_left)

    def eof_received(self) -> bool:
        if self._answered is not None and self._head_done and not self._ended and self._until_eof:
            self._answered.answer_end()
            self._ended = True
            self._reusable = False
            self._finish()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._stop_pump()
        answered, self._answered = self._answered, None
        self._on_free(self, False)
        if answered is not None:
            why = (
                "The pod closed the connection in the middle of its answer." if exc is None else "The connection broke."
            )
            answered.answer_broken(why, nothing_came=not self._came)

    def pause_writing(self) -> None:
        if self._answered is not None:
            self._answered.upstream_paused(paused=True)

    def resume_writing(self) -> None:
        if self._answered is not None:
            self._answered.upstream_paused(paused=False)

    # the kernel's way for long bodies

    def _start_pump(self, answered: Answered, left: int) -> None:
        target = answered.answer_target()
        if self._pump is not None or target is None or not Pump.possible(self.transport, target):
            return
        pump = Pump(asyncio.get_running_loop(), left, self._pumped, self._pump_ended)
        self.transport.pause_reading()
        if pump.start(self.transport, target):
            self._pump = pump
        else:
            self.transport.resume_reading()

    def _pumped(self, nbytes: int) -> None:
        if self._body_left is not None:
            self._body_left -= nbytes
        if self._answered is not None:
            self._answered.answer_moved()

    def _pump_ended(self, complete: bool) -> None:
        self._pump = None
        if not complete or self._answered is None:
            self._break("The connection broke.")
            return
        self.transport.resume_reading()
        self._ended = True
        self._answered.answer_end()
        self._finish()

    def _stop_pump(self) -> None:
        if self._pump is not None:
            self._pump.stop()
            self._pump = None

    # reading

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if not self._ended:
                self._break(self._problem or "The pod's answer is not HTTP that can be passed on.")
            self._reusable = False
        else:
            if not self._head_done:
                self._head_bytes += len(data)
                if self._head_bytes > _HEAD_BYTES:
                    self._break("The head of the pod's answer is too large.")
            elif not self._ended and (self._body_left is not None or self._until_eof):
                self._past_parser = True

    def _body_received(self, data: bytes) -> None:
        answered = self._answered
        if answered is None:
            return
        left = self._body_left
        if left is None:
            answered.answer_body(data)
            return
        if len(data) > left:
            data = data[:left]
            self._reusable = False  # more came than was promised
        self._body_left = left - len(data)
        answered.answer_body(data)
        if self._body_left == 0:
            self._ended = True
            if self._answered is not None:
                self._answered.answer_end()

    def _finish(self) -> None:
        """Go on to the next request, or end."""
        answered, self._answered = self._answered, None
        if answered is None and self.closed:
            return
        if self._past_parser or self._for_head:
            self._parser = httptools.HttpResponseParser(self)  # the old one waits for bytes that went past it
        self.used = True
        self._on_free(self, self._reusable and not self.closed)

    def _break(self, message: str) -> None:
        answered, self._answered = self._answered, None
        self.close()
        if answered is not None:
            answered.answer_broken(message, nothing_came=False)

    def _upgraded(self, rest: bytes) -> None:
        answered = self._answered
        if answered is None:
            return
        if not self._may_upgrade or self._parser.get_status_code() != 101:
            self._break("The pod switched protocols without being asked to.")
            return
        answered.answer_upgraded(self._headers, rest)

    # httptools

    def on_message_begin(self) -> None:
        if self._ended:
            raise BadHeadError(502, "the pod sent more than one answer")
        self._interim = False

    def on_status(self, phrase: bytes) -> None:
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # else it is a trailer, which is dropped
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 and 103 mean the connection to us; a 101 ends the parser's work
            self._interim = True
            if status != 101:
                self._headers.clear()
            self._phrase = b""
            return
        if status > 599:
            self._problem = "The pod's answer has an unknown status."
            raise BadHeadError(502, self._problem)
        try:
            framing = read_framing(self._headers)
        except BadHeadError as bad:
            self._problem = bad.message
            raise
        self._head_done = True
        self._reusable = self._parser.should_keep_alive()
        bodyless = self._for_head or status in {204, 304}
        self._until_eof = not bodyless and framing.length is None and not framing.chunked
        if not bodyless and framing.length:
            self._body_left = framing.length
        if self._answered is not None:
            self._answered.answer_head(status, self._phrase, self._headers, framing)
            if self._for_head and self._answered is not None:
                self._ended = True
                self._answered.answer_end()

    def on_body(self, body: bytes) -> None:
        if self._ended:
            self._reusable = False  # bytes after the end of an answer
        elif self._answered is not None:
            if self._body_left is not None:
                self._body_left -= len(body)
            self._answered.answer_body(body)

    def on_message_complete(self) -> None:
        if self._interim or self._ended:
            return
        self._ended = True
        if self._answered is not None:
            self._answered.answer_end()
