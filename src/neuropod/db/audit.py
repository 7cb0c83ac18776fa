"""The audit log: who did what to whose things. Written in the transaction of the act; never changed."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.engine import Session
from neuropod.db.record import Record
from neuropod.ids import UserId
from neuropod.kit.identifiers import new_id


class AuditRow(Record):
    """One act. `actor_id` is None for the system itself; `data` never holds a secret."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_owner_id_id", "owner_id", "id"), Index("ix_audit_actor_id_id", "actor_id", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor_id: Mapped[str | None]
    via: Mapped[str]  # session, key, system, machine
    verb: Mapped[str]  # the use-case's name
    subject: Mapped[str]  # `pod/pod_…`
    owner_id: Mapped[str | None]  # whose thing it is, who may read this row
    data: Mapped[dict[str, Any]]


def record_act(
    session: Session,
    verb: str,
    subject: str,
    *,
    at: datetime,
    actor_id: UserId | None,
    via: str,
    owner_id: UserId | None = None,
    **data: Any,
) -> None:
    """Write an act into the running transaction."""
    session.add(
        AuditRow(
            id=new_id("act"),
            at=at,
            actor_id=actor_id,
            via=via,
            verb=verb,
            subject=subject,
            owner_id=owner_id,
            data=data,
        )
    )
