"""The gate: who is asking at a pod host, and whether they may pass.

The proxy asks it for each request to a port that is not public. Who somebody is comes from a `Doorkeeper`: in the
server `doorkeeper.LocalDoorkeeper` (key, database), in a gateway of its own `remote.RemoteDoorkeeper` (which asks the
server's `/internal/gate`). The gate remembers an answer for at most `decision_cache_seconds`, which is how soon a
revocation holds; while the doorkeeper cannot be reached, those who passed before go on and nobody new is let in.
Whether a visitor may pass a route is decided from the route as it is now, and is never remembered.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from neuropod.accounts.access import may_pass
from neuropod.accounts.visitors import Visitor
from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.routes import Route
from neuropod.kit.clock import Clock

_REMEMBERED = 20_000  # visitors; beyond that the longest unused is asked for again


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request shows: a key for programs, or a browser's pass for one host. Never printed."""

    key: str | None = None
    pass_value: str | None = None
    host: str = ""  # of a pass

    def __repr__(self) -> str:
        return "Credential(***)"


@dataclass(frozen=True, slots=True)
class Known:
    """A visitor, and when what they showed ends by itself (None: it does not)."""

    visitor: Visitor
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Hop:
    """A visitor's way to the console's sign-in: the reference that the console sees, the cookie that waits here."""

    reference: str
    set_cookie: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A redeemed ticket: the cookies to set, and path and query of the visitor's first request."""

    target: str
    set_cookies: tuple[str, ...]


class DoorkeeperUnavailableError(Exception):
    """Nobody can be asked now."""


class Doorkeeper(Protocol):
    """Knows who somebody is, sends the unknown to the console and takes back who comes from there."""

    carrier_key: CarrierKey | None  # how the gate and carriers on clusters know each other

    async def identify(self, credential: Credential) -> Known | None:
        """Return whose credential it is; None when it opens nothing (any more). Raises DoorkeeperUnavailableError."""
        ...

    async def begin(self, host: str, target: str) -> Hop:
        """Begin a hop for the first request of an unknown visitor. Raises DoorkeeperUnavailableError."""
        ...

    async def enter(self, host: str, ticket: str, cookie: bytes) -> Entry | None:
        """Redeem a ticket with the browser's Cookie header; None when it is not good. Raises as `begin` does."""
        ...


@dataclass(slots=True)
class _Remembered:
    known: Known
    asked: float


class Gate:
    """Remembers who visitors are. One per gateway process."""

    def __init__(self, doorkeeper: Doorkeeper, clock: Clock, *, remember_seconds: float) -> None:
        self.doorkeeper = doorkeeper
        self._clock = clock
        self._remember_seconds = remember_seconds
        self._asking: dict[Credential, asyncio.Task[Visitor | None]] = {}
        self._remembered: OrderedDict[Credential, _Remembered] = OrderedDict()
        self._doubts = 0

    def remembered(self, credential: Credential) -> Visitor | None:
        """Return the visitor if somebody was asked lately; None says nothing."""
        found = self._remembered.get(credential)
        if found is None or self._clock.monotonic() - found.asked >= self._remember_seconds:
            return None
        return found.known.visitor if self._lasts(found.known) else None

    async def visitor(self, credential: Credential) -> Visitor | None:
        """Return who shows this, asked now; None when it opens nothing. Many who ask at once are one question.

        Raises DoorkeeperUnavailableError for those who have not passed before.
        """
        asking = self._asking.get(credential)
        if asking is None:
            asking = asyncio.create_task(self._ask(credential))
            self._asking[credential] = asking
            asking.add_done_callback(lambda task: self._asked(credential, task))
        return await asyncio.shield(asking)

    def _asked(self, credential: Credential, task: "asyncio.Task[Visitor | None]") -> None:
        if self._asking.get(credential) is task:
            del self._asking[credential]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be left who does

    async def _ask(self, credential: Credential) -> Visitor | None:
        asked, doubts = self._clock.monotonic(), self._doubts
        try:
            known = await self.doorkeeper.identify(credential)
        except DoorkeeperUnavailableError:
            earlier = self._remembered.get(credential)
            if earlier is None:
                raise
            return earlier.known.visitor if self._lasts(earlier.known) else None
        if known is None or not self._lasts(known):
            self._remembered.pop(credential, None)
            return None
        if doubts == self._doubts:  # else the doorkeeper may have looked before: good for this request alone
            self._remember(credential, _Remembered(known, asked))
        return known.visitor

    def _remember(self, credential: Credential, found: _Remembered) -> None:
        self._remembered[credential] = found
        self._remembered.move_to_end(credential)
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)

    def doubt(self) -> None:
        """Ask anew at the next request of each, also what is being asked: rights may have changed."""
        self._doubts += 1
        self._asking.clear()
        for found in self._remembered.values():
            found.asked = float("-inf")

    def _lasts(self, known: Known) -> bool:
        return known.ends_at is None or known.ends_at > self._clock.now()


def opens(route: Route, visitor: Visitor | None) -> bool:
    """Tell whether a visitor (None: nobody known) passes to a route as it is now."""
    return may_pass(
        route.access,
        visitor_id=None if visitor is None else visitor.user_id,
        visitor_role=None if visitor is None else visitor.role,
        owner_id=route.owner_id,
    )
