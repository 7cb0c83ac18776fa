"""The installation's own row: its id marks everything it makes; its epoch rises with every restore."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.engine import ReadSession, Session
from neuropod.db.record import Record
from neuropod.ids import InstallationId
from neuropod.kit.identifiers import new_id


class InstallationRow(Record):
    """Exactly one row. Sweeps remove nothing while `epoch` is above `confirmed_epoch`."""

    __tablename__ = "installation"

    id: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(default=0)
    confirmed_epoch: Mapped[int] = mapped_column(default=0)
    key_fingerprint: Mapped[str]
    created_at: Mapped[datetime]

    @property
    def installation_id(self) -> InstallationId:
        """The id as its type."""
        return InstallationId(self.id)


async def installation(session: Session, *, key_fingerprint: str, now: datetime) -> InstallationRow:
    """Return the installation's row, made at the first start. The caller compares the fingerprint with its key."""
    row = await session.scalar(select(InstallationRow))
    if row is None:
        row = InstallationRow(id=new_id("npd"), key_fingerprint=key_fingerprint, created_at=now)
        session.add(row)
        await session.flush()
    return row


async def epochs(session: ReadSession) -> tuple[int, int]:
    """Return the present epoch and the one that was confirmed last; without the row nothing counts as confirmed."""
    row = await session.scalar(select(InstallationRow))
    return (1, 0) if row is None else (row.epoch, row.confirmed_epoch)


async def confirm_epoch(session: Session) -> tuple[int, bool]:
    """Confirm the present epoch, so that sweeps remove things again; return it, and whether that changed anything."""
    row = (await session.scalars(select(InstallationRow))).one()
    changed = row.confirmed_epoch < row.epoch
    row.confirmed_epoch = row.epoch
    return row.epoch, changed
