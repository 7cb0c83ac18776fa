"""The audit log: who did what to whose things. Written in the transaction of the act; never changed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Index, or_, select
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.engine import ReadSession, Session
from neuropod.db.record import Record
from neuropod.ids import UserId
from neuropod.kit.identifiers import new_id
from neuropod.kit.paging import Page, decode_cursor, page_of


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


def new_act(
    verb: str,
    subject: str,
    *,
    at: datetime,
    actor_id: UserId | None,
    via: str,
    owner_id: UserId | None = None,
    **data: Any,
) -> AuditRow:
    """Return an act's row, for who writes it with other rows."""
    return AuditRow(
        id=new_id("act"), at=at, actor_id=actor_id, via=via, verb=verb, subject=subject, owner_id=owner_id, data=data
    )


def record_act(session: Session, verb: str, subject: str, **act: Any) -> None:
    """Write an act into the running transaction; see `new_act`."""
    session.add(new_act(verb, subject, **act))


@dataclass(frozen=True, slots=True)
class ActFilters:
    """Which acts a list shows; all that are given must hold."""

    concerns: str | None = None  # a user who did it, or whose thing it was
    actor_id: str | None = None
    verb: str | None = None
    subject: str | None = None
    since: datetime | None = None
    before: datetime | None = None


async def acts_page(session: ReadSession, filters: ActFilters, *, cursor: str | None, limit: int) -> Page[AuditRow]:
    """Return a page of acts, newest first."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit + 1)
    if filters.concerns is not None:
        query = query.where(or_(AuditRow.owner_id == filters.concerns, AuditRow.actor_id == filters.concerns))
    for column, value in (
        (AuditRow.actor_id, filters.actor_id),
        (AuditRow.verb, filters.verb),
        (AuditRow.subject, filters.subject),
    ):
        if value is not None:
            query = query.where(column == value)
    if filters.since is not None:
        query = query.where(AuditRow.at >= filters.since)
    if filters.before is not None:
        query = query.where(AuditRow.at < filters.before)
    if cursor is not None:
        query = query.where(AuditRow.id < str(decode_cursor(cursor, 1)[0]))
    rows = (await session.scalars(query)).all()
    return page_of(rows, limit, lambda row: (row.id,))
