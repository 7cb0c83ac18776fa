"""What is open between visitors and pods now, so that it can be cut: exchanges and spliced WebSockets.

Every exchange registers here for its life, whoever it belongs to. One loop looks at all of them every few seconds, and
at once when a route or a right may have changed: a stream whose visitor may not pass any more is cut within five
seconds (SECURITY 24), and so is one that nothing has moved on for `idle_stream_seconds`. Nothing shorter cuts an idle
stream. While the doorkeeper cannot be reached streams go on.
"""

import contextlib
from collections.abc import Callable
from typing import Protocol

from neuropod.accounts.visitors import Visitor
from neuropod.gateway.gate import Credential, DoorkeeperUnavailableError, Gate, opens
from neuropod.gateway.routes import Change
from neuropod.gateway.table import RouteTable
from neuropod.ids import PodId
from neuropod.kit.clock import Clock
from neuropod.kit.wakeups import Wakeup

_LOOK_SECONDS = 2.0


class OpenStream(Protocol):
    """Something open. Both times are of the event loop's clock."""

    host: str
    credential: Credential | None  # None: the port was public, or nobody has been let in yet
    admitted: bool
    moved_at: float  # when something was sent or received last

    @property
    def said_at(self) -> float:
        """When something was sent or received last, keep-alives aside."""
        ...

    def cut(self) -> None:
        """End it now, on both sides."""
        ...


class OpenStreams:
    """The registry; `run` is its loop."""

    def __init__(
        self, gate: Gate, table: RouteTable, clock: Clock, *, idle_seconds: float, quiet_seconds: float
    ) -> None:
        self._gate = gate
        self._table = table
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._quiet_seconds = quiet_seconds
        self._used: set[PodId] = set()
        self.note_use = self._used.add  # of a pod, by somebody who was let in; called for every request
        self._streams: set[OpenStream] = set()
        self._wakeup = Wakeup()
        self._on_look: list[Callable[[float], None]] = []
        self.cut_count = 0
        self.add = self._streams.add
        self.discard = self._streams.discard
        table.listen(self._changed)

    def __len__(self) -> int:
        return len(self._streams)

    def on_look(self, also: Callable[[float], None]) -> None:
        """Call `also` with the loop's time whenever streams are looked at; connectors close idle connections then."""
        self._on_look.append(also)

    def _changed(self, _: Change) -> None:
        self._gate.doubt()
        self._wakeup.nudge()

    async def run(self, loop_time: Callable[[], float]) -> None:
        """Look at all streams again and again; never returns."""
        while True:
            await self._wakeup.sleep(min(_LOOK_SECONDS, self._idle_seconds / 4))
            now = loop_time()
            for also in self._on_look:
                also(now)
            self.cut_idle(now)
            await self.cut_revoked()

    def cut_idle(self, now: float) -> None:
        """Cut what nothing has moved on for too long."""
        for stream in [s for s in self._streams if now - s.moved_at > self._idle_seconds]:
            self._cut(stream)

    def take_used(self, now: float) -> set[PodId]:
        """Return the pods that were used since this was asked last, or have a stream that is not quiet for too long.

        `now` is of the event loop's clock.
        """
        used = set(self._used)
        self._used.clear()
        for stream in self._streams:
            if stream.admitted and now - stream.said_at < self._quiet_seconds:
                route = self._table.get(stream.host)
                if route is not None:
                    used.add(route.pod_id)
        return used

    async def cut_revoked(self) -> None:
        """Cut every admitted stream whose visitor may not pass to its route now."""
        visitors: dict[Credential, Visitor | None] = {}
        for stream in list(self._streams):
            credential = stream.credential
            if not stream.admitted or credential is None or credential in visitors:
                continue
            with contextlib.suppress(DoorkeeperUnavailableError):
                visitors[credential] = await self._gate.visitor(credential)
        for stream in list(self._streams):
            if not stream.admitted:
                continue
            route = self._table.get(stream.host)
            credential = stream.credential
            if route is None:
                self._cut(stream)
            elif credential is None or credential in visitors:
                visitor = None if credential is None else visitors[credential]
                if not opens(route, visitor):
                    self._cut(stream)

    def cut_all(self) -> None:
        """Cut everything: the server ends."""
        for stream in list(self._streams):
            self._cut(stream)

    def _cut(self, stream: OpenStream) -> None:
        self._streams.discard(stream)
        self.cut_count += 1
        stream.cut()
