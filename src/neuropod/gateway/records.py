"""The rows of the gateway: tickets alone. Passes and hops are sealed values in browsers, routes are made from pods."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.accounts.records import SessionRow, UserRow
from neuropod.db.record import Record


class GateTicketRow(Record):
    """A single-use ticket from the console to one pod host. Only its hash is kept; deleted within some hours."""

    __tablename__ = "gate_tickets"
    __table_args__ = (Index("ix_gate_tickets_expires_at", "expires_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    host: Mapped[str]
    hop_id: Mapped[str]
    session_id: Mapped[str] = mapped_column(ForeignKey(SessionRow.id, ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id, ondelete="CASCADE"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None] = mapped_column(default=None)
