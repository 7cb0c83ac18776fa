"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): one effect for a request that is sent again.

The key is bound to the actor, the route and the body; the same key with another body is a conflict. What is kept is
the status and the id of what was made, never a body with a secret: the answer is made anew from the row.
"""

from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.engine import Session
from neuropod.db.record import Record
from neuropod.kit.errors import ConflictError
from neuropod.kit.secrets import token_hash


class IdempotencyRow(Record):
    """One request that had its effect."""

    __tablename__ = "idempotency"

    key: Mapped[str] = mapped_column(primary_key=True)  # hash over actor, route and the header's value
    body_hash: Mapped[str]
    subject: Mapped[str]  # the id of what the request made
    created_at: Mapped[datetime]


def _key(*, actor: str, route: str, header: str) -> str:
    return token_hash(f"{actor}\n{route}\n{header}")


async def earlier_subject(session: Session, *, actor: str, route: str, header: str, body: bytes) -> str | None:
    """Return what the same request made before, None if it is new; ConflictError when the body differs."""
    row = await session.get(IdempotencyRow, _key(actor=actor, route=route, header=header))
    if row is None:
        return None
    if row.body_hash != token_hash(body.hex()):
        raise ConflictError("this Idempotency-Key was used with another body", code="idempotency_key_reused")
    return row.subject


def remember(
    session: Session, *, actor: str, route: str, header: str, body: bytes, subject: str, now: datetime
) -> None:
    """Keep what this request made, in its own transaction."""
    key = _key(actor=actor, route=route, header=header)
    session.add(IdempotencyRow(key=key, body_hash=token_hash(body.hex()), subject=subject, created_at=now))


async def delete_old(session: Session, *, before: datetime) -> None:
    """Forget requests from before a time: who sends one again so late gets a new effect."""
    await session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < before))
