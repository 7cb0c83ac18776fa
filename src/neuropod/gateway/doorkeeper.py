"""The doorkeeper of a server: knows the key and the database. Asked by the gate and by `/internal/gate`."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

from neuropod.accounts.visitors import Visitor
from neuropod.db.engine import Session
from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.gate import Credential, Entry, Hop, Known
from neuropod.gateway.passes import CookieNames, Pass, cookie_values, make_pass, read_pass
from neuropod.gateway.tickets import HOP_SECONDS, begin_hop, read_hop, redeem_ticket
from neuropod.ids import SessionId
from neuropod.kit.clock import Clock
from neuropod.kit.secrets import SecretBox
from neuropod.settings import Addresses

Transaction = Callable[[], AbstractAsyncContextManager[Session]]


class Visitors(Protocol):
    """Who a session or a key belongs to now; `accounts.visitors.Visitors` is the real one."""

    async def by_session(self, session_id: SessionId) -> Visitor | None:
        """Return whose session it is; None once it ended."""
        ...

    async def by_key(self, key: str) -> Visitor | None:
        """Return whose key it is; None unless it passes gates."""
        ...


class LocalDoorkeeper:
    """Made once by server; `transaction` is its `database.write`, since using a ticket up is a write."""

    def __init__(
        self,
        box: SecretBox,
        visitors: Visitors,
        transaction: Transaction,
        clock: Clock,
        addresses: Addresses,
        *,
        pass_seconds: float,
    ) -> None:
        self._box = box
        self.carrier_key: CarrierKey | None = CarrierKey.of_installation(box)
        self._visitors = visitors
        self._transaction = transaction
        self._clock = clock
        self._addresses = addresses
        self._pass_seconds = pass_seconds

    async def identify(self, credential: Credential) -> Known | None:
        """Return who shows this; None when it opens nothing."""
        if credential.key is not None:
            visitor = await self._visitors.by_key(credential.key)
            return None if visitor is None else Known(visitor, None)
        content = read_pass(self._box, credential.host, credential.pass_value or "", now=self._clock.now())
        if content is None:
            return None
        visitor = await self._visitors.by_session(content.session_id)
        return None if visitor is None else Known(visitor, content.ends_at)

    async def begin(self, host: str, target: str) -> Hop:
        """Begin a hop; stores nothing."""
        hop = begin_hop(self._box, host, target, now=self._clock.now())
        return Hop(hop.reference, self._cookies(host).set_hop(hop.hop_id, hop.cookie_value, HOP_SECONDS))

    async def enter(self, host: str, ticket: str, cookie: bytes) -> Entry | None:
        """Redeem a ticket in the browser whose hop it was made for."""
        now = self._clock.now()
        async with self._transaction() as session:
            redeemed = await redeem_ticket(session, host, ticket, now=now)
        if redeemed is None:
            return None
        cookies = self._cookies(host)
        hops = cookie_values(cookie, cookies.hop(redeemed.hop_id))
        targets = (read_hop(self._box, host, redeemed.hop_id, value, now=now) for value in hops)
        target = next((found for found in targets if found is not None), None)
        if target is None:
            return None
        content = Pass(redeemed.session_id, now + timedelta(seconds=self._pass_seconds))
        return Entry(
            target,
            (
                cookies.set_pass(make_pass(self._box, host, content), int(self._pass_seconds)),
                cookies.set_hop(redeemed.hop_id, "", 0),
            ),
        )

    def _cookies(self, host: str) -> CookieNames:
        return CookieNames(trustworthy=self._addresses.pod_address_of(host).trustworthy)
