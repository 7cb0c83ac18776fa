"""The gateway's SQL: tickets."""

from datetime import datetime

from sqlalchemy import delete, update

from neuropod.db.engine import Session
from neuropod.gateway.records import GateTicketRow


async def use_ticket(session: Session, ticket_hash: str, *, now: datetime) -> GateTicketRow | None:
    """Mark a ticket as used and return it; None when it is unknown or was used. Of two at once one gets it."""
    return await session.scalar(
        update(GateTicketRow)
        .where(GateTicketRow.token_hash == ticket_hash, GateTicketRow.used_at.is_(None))
        .values(used_at=now)
        .returning(GateTicketRow)
    )


async def delete_old_tickets(session: Session, *, before: datetime) -> None:
    """Delete tickets that ended before a time."""
    await session.execute(delete(GateTicketRow).where(GateTicketRow.expires_at < before))
