"""What runtimes are called: a row per runtime that was ever opened, since its id is known only while it answers.

Written by server and by reconcile.runtimes when one opens; read at each start. Rows stay: pods of a runtime that is
gone for good still have their addresses.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.engine import ReadSession, Session
from neuropod.db.record import Record
from neuropod.db.writing import upsert
from neuropod.ids import RuntimeId


class RuntimeRow(Record):
    """A runtime that some server has opened."""

    __tablename__ = "runtimes"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]  # of the settings, when it was opened last
    named_at: Mapped[datetime]


async def runtime_names(session: ReadSession) -> dict[RuntimeId, str]:
    """Return the name of each runtime."""
    rows = await session.execute(select(RuntimeRow.id, RuntimeRow.name))
    return {RuntimeId(runtime_id): name for runtime_id, name in rows}


async def write_names(session: Session, names: Mapping[RuntimeId, str], *, now: datetime) -> None:
    """Write the names of runtimes that are open."""
    rows = [{"id": runtime_id, "name": name, "named_at": now} for runtime_id, name in sorted(names.items())]
    await upsert(session, RuntimeRow, rows, key=["id"])
