"""`Idempotency-Key` for routes that make something: the same request again has no second effect (SECURITY 28)."""

from dataclasses import dataclass

from neuropod.api.deps import Caller
from neuropod.db import idempotency
from neuropod.db.engine import Session


@dataclass(frozen=True, slots=True)
class Idempotency:
    """One request's key, bound to person, route and body; without a key it remembers nothing."""

    caller: Caller
    route: str
    header: str | None
    body: bytes

    @classmethod
    async def of(cls, caller: Caller, route: str, header: str | None) -> "Idempotency":
        """Read what the key is bound to."""
        return cls(caller, route, header, await caller.request.body())

    async def earlier(self, session: Session) -> str | None:
        """Return the id of what this very request made before. Raises ConflictError when the body differs."""
        if self.header is None:
            return None
        return await idempotency.earlier_subject(
            session, actor=self._actor, route=self.route, header=self.header, body=self.body
        )

    def remember(self, session: Session, subject: str) -> None:
        """Keep the id of what was made, in the transaction that made it."""
        if self.header is not None:
            idempotency.remember(
                session,
                actor=self._actor,
                route=self.route,
                header=self.header,
                body=self.body,
                subject=subject,
                now=self.caller.parts.clock.now(),
            )

    @property
    def _actor(self) -> str:
        return self.caller.actor.user_id or self.caller.actor.via
