"""The rows of volumes."""

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.accounts.records import UserRow
from neuropod.db.record import Record


class VolumeRow(Record):
    """A disk that outlives pods. It lives on one runtime, made there when the first pod that attaches it runs."""

    __tablename__ = "volumes"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id))
    name: Mapped[str]
    runtime_id: Mapped[str]
    size_gb: Mapped[int]
    created_at: Mapped[datetime]
