"""Events: what happened to a user's things, in order, for the API's feeds. Written in the transaction of what happened.

Ids grow in commit order, so a reader that has seen id n never misses a smaller one: on SQLite writers are alone anyway;
on PostgreSQL the id is drawn under a transaction-long advisory lock.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, bindparam, delete, func, insert, select, text
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.engine import CHANNEL, ReadSession, Session, Topic
from neuropod.db.reading import columns_of, read_rows
from neuropod.db.record import Record, table_of
from neuropod.db.writing import execute_now
from neuropod.ids import EventId, PodId, UserId

_ADVISORY_LOCK = 0x6E65_7572  # "neur"


class EventRow(Record):
    """One thing that happened. `kind` is `<noun>.<past tense>`; `data` never holds a secret."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_pod_id_id", "pod_id", "id"), Index("ix_events_owner_id_id", "owner_id", "id"))

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    at: Mapped[datetime]
    owner_id: Mapped[str]  # who may see it, besides administrators
    pod_id: Mapped[str | None]
    kind: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any]]


_INSERT = insert(table_of(EventRow))
# PostgreSQL's, in one trip to the server, since others wait until it is done: the lock is there before the first id is
# drawn, a volatile subquery being evaluated before the rows that are made of it; NOTIFY is sent at the commit anyway.
_INSERT_IN_ORDER = text(
    """
    INSERT INTO events (at, owner_id, pod_id, kind, message, data)
    SELECT event.at, event.owner_id, event.pod_id, event.kind, event.message, event.data
    FROM (SELECT pg_advisory_xact_lock(:lock), pg_notify(:channel, :payload)) AS alone,
        json_to_recordset(CAST(:rows AS json))
        AS event (at timestamptz, owner_id text, pod_id text, kind text, message text, data json)
    """
)


@dataclass(frozen=True, slots=True)
class Happening:
    """An event to be written."""

    kind: str
    message: str
    at: datetime
    owner_id: UserId
    pod_id: PodId | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


async def record_events(session: Session, happenings: Sequence[Happening]) -> None:
    """Write events into the running transaction, in one statement, and wake the readers after its commit.

    The last thing of a transaction: on PostgreSQL its lock lasts until the end.
    """
    if not happenings:
        return
    session.nudge(Topic.EVENTS)
    rows = [
        {
            "at": one.at,
            "owner_id": one.owner_id,
            "pod_id": one.pod_id,
            "kind": one.kind,
            "message": one.message,
            "data": dict(one.data),
        }
        for one in happenings
    ]
    if session.get_bind().dialect.name == "postgresql":
        told = {"lock": _ADVISORY_LOCK, "channel": CHANNEL, "payload": session.take_payload()}
        await session.execute(_INSERT_IN_ORDER, {"rows": json.dumps(rows, default=datetime.isoformat), **told})
    else:
        await execute_now(session, _INSERT, rows)


async def record_event(
    session: Session,
    kind: str,
    message: str,
    *,
    at: datetime,
    owner_id: UserId,
    pod_id: PodId | None = None,
    **data: Any,
) -> None:
    """Write one event; see `record_events`."""
    await record_events(session, [Happening(kind, message, at, owner_id, pod_id, data)])


async def events_of_pod(
    session: ReadSession, pod_id: PodId, *, before: EventId | None, limit: int
) -> Sequence[EventRow]:
    """Return the pod's events, newest first, older than `before`."""
    query = select(EventRow).where(EventRow.pod_id == pod_id).order_by(EventRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(EventRow.id < before)
    return (await session.scalars(query)).all()


async def newest_event_id(session: ReadSession) -> EventId:
    """Return the id of the newest event, 0 when there is none: where a new follower starts."""
    return EventId(await session.scalar(select(func.max(EventRow.id))) or 0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The ids of the oldest and the newest event that are kept; both 0 before the first."""

    oldest: EventId
    newest: EventId

    def holds_all_after(self, event_id: EventId) -> bool:
        """Tell whether nothing that came after this one is gone, and whether it was ever given out."""
        return self.oldest - 1 <= event_id <= self.newest


async def bounds(session: ReadSession) -> Bounds:
    """Return which events are kept. The newest always is, so an id is never given out twice."""
    # Two subqueries, each a look at an end of the index: SQLite would read every row for both in one.
    ends = (select(func.min(EventRow.id)).scalar_subquery(), select(func.max(EventRow.id)).scalar_subquery())
    oldest, newest = (await session.execute(select(*ends))).one()
    return Bounds(EventId(oldest or 0), EventId(newest or 0))


# Built once: the reader of news asks it after every commit.
_ALL_AFTER = (
    select(*columns_of(EventRow))
    .where(EventRow.id > bindparam("after"))
    .order_by(EventRow.id)
    .limit(bindparam("limit"))
)


async def events_after(
    session: ReadSession,
    after: EventId,
    *,
    until: EventId | None = None,
    owner_id: UserId | None = None,
    pod_id: PodId | None = None,
    limit: int,
) -> Sequence[EventRow]:
    """Return what happened after an event, oldest first: everybody's, or one owner's, or a pod's."""
    if until is None and owner_id is None and pod_id is None:
        return await read_rows(session, EventRow, _ALL_AFTER, {"after": after, "limit": limit})
    query = select(EventRow).where(EventRow.id > after).order_by(EventRow.id).limit(limit)
    if until is not None:
        query = query.where(EventRow.id <= until)
    if owner_id is not None:
        query = query.where(EventRow.owner_id == owner_id)
    if pod_id is not None:
        query = query.where(EventRow.pod_id == pod_id)
    return (await session.scalars(query)).all()


async def prune_events(session: Session, *, now: datetime, keep_seconds: float, keep_count: int) -> None:
    """Delete events that are too old or too many. The newest stays whatever its age: ids go on from it."""
    newest = await newest_event_id(session)
    too_old = EventRow.at < now - timedelta(seconds=keep_seconds)
    statement = delete(EventRow).where(EventRow.id < newest, too_old | (EventRow.id <= newest - keep_count))
    await session.execute(statement.execution_options(synchronize_session=False))
