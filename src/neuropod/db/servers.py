"""The servers that share a PostgreSQL: a row with a lease each, which says what runtimes it serves.

Written by reconcile.presence alone, at its start, now and then, and at its end; nothing is written on SQLite, where the
data directory's lock allows one server. Who reads it knows which runtimes are served by anybody.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.engine import ReadSession, Session
from neuropod.db.record import Record
from neuropod.db.writing import upsert

_ADVISORY_LOCK = 0x6E_70_73_76  # "npsv"


class ServerRow(Record):
    """A server that runs, or died less than its lease ago."""

    __tablename__ = "servers"

    id: Mapped[str] = mapped_column(primary_key=True)  # of its machine's boot and its data directory
    name: Mapped[str]  # its machine's
    version: Mapped[str]
    started_at: Mapped[datetime]
    runtimes: Mapped[list[Any]]  # ids of those that it has opened
    lease_until: Mapped[datetime]


async def arrive_alone(session: Session) -> None:
    """Let servers arrive one after another, each seeing the rows of those before. PostgreSQL only."""
    await session.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))


async def write_server(session: Session, values: dict[str, Any]) -> None:
    """Write a server's row, or renew it."""
    await upsert(session, ServerRow, [values], key=["id"])


async def all_servers(session: ReadSession) -> Sequence[ServerRow]:
    """Return all rows, oldest server first."""
    return (await session.scalars(select(ServerRow).order_by(ServerRow.started_at, ServerRow.id))).all()


async def take_out(session: Session, *, server_id: str | None = None, ended_before: datetime) -> list[str]:
    """Delete a server's row and those whose lease has ended; return the runtimes that they served.

    Of two servers that do this at once one gets each row.
    """
    gone = ServerRow.lease_until < ended_before
    if server_id is not None:
        gone = gone | (ServerRow.id == server_id)
    rows = await session.scalars(
        delete(ServerRow).where(gone).returning(ServerRow.runtimes).execution_options(synchronize_session=False)
    )
    return [str(runtime) for runtimes in rows for runtime in runtimes]
