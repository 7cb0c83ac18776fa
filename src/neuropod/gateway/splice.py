"""Two transports as one: after a 101 every byte from either side goes to the other, unread, with backpressure.

Made by the proxy when a pod accepted a WebSocket. Where one side takes nothing the other is not read. An end on one
side ends the other once it has what was sent.
"""

import asyncio
from collections.abc import Callable

from neuropod.gateway.gate import Credential

_HIGH_WATER = 512 * 1024
_KEEP_ALIVE_BYTES = 64  # pings and pongs come alone and are smaller; what people and kernels say is mostly larger


class Splice:
    """An open WebSocket between a visitor and a pod; registered with the open streams for its life."""

    def __init__(
        self,
        host: str,
        credential: Credential | None,
        admitted: bool,
        loop: asyncio.AbstractEventLoop,
        on_end: "Callable[[Splice], None]",
    ) -> None:
        self.host = host
        self.credential = credential
        self.admitted = admitted
        self.moved_at = self.said_at = loop.time()
        self._loop = loop
        self._on_end = on_end
        self._ended = False
        self._client: asyncio.Transport | None = None
        self._pod: asyncio.Transport | None = None

    def join(self, client: asyncio.Transport, pod: asyncio.Transport, *, to_client: bytes) -> None:
        """Take both transports over; `to_client` is the answer's head and what came after it."""
        self._client, self._pod = client, pod
        for transport, other in ((client, pod), (pod, client)):
            transport.set_write_buffer_limits(high=_HIGH_WATER)
            transport.set_protocol(_Half(self, other))
        client.write(to_client)
        client.resume_reading()

    def cut(self) -> None:
        """End both sides now."""
        for transport in (self._client, self._pod):
            if transport is not None:
                transport.abort()

    def end(self) -> None:
        """One side has ended: end the other once it has what was sent to it."""
        for transport in (self._client, self._pod):
            if transport is not None and not transport.is_closing():
                transport.close()
        if not self._ended:
            self._ended = True
            self._on_end(self)


class _Half(asyncio.Protocol):
    """What comes from one side goes to the other."""

    def __init__(self, splice: Splice, other: asyncio.Transport) -> None:
        self._splice = splice
        self._other = other
        self._send = other.write
        self._time = splice._loop.time  # noqa: SLF001

    def data_received(self, data: bytes) -> None:
        self._send(data)
        splice = self._splice
        splice.moved_at = now = self._time()
        if len(data) > _KEEP_ALIVE_BYTES:
            splice.said_at = now

    def eof_received(self) -> bool:
        return False  # closes this side, and with it the other

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._splice.end()

    def pause_writing(self) -> None:
        """Do not read the other side while this one takes nothing."""
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()
