"""The rows of volumes."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.accounts.records import UserRow
from neuropod.db.record import Record


class VolumeRow(Record):
    """A disk that outlives pods. It lives on one runtime, made there when the first pod that attaches it runs.

    A deleted one keeps its row: until `removed_at` the loop has its data to remove, afterwards it is history.
    """

    __tablename__ = "volumes"
    __table_args__ = (
        Index(
            "uq_volumes_owner_id_name_kept",
            "owner_id",
            "name",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(
            "ix_volumes_going",
            "runtime_id",
            sqlite_where=text("deleted_at IS NOT NULL AND removed_at IS NULL"),
            postgresql_where=text("deleted_at IS NOT NULL AND removed_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id))
    name: Mapped[str]
    runtime_id: Mapped[str]
    size_gb: Mapped[int]
    created_at: Mapped[datetime]
    made_at: Mapped[datetime | None] = mapped_column(default=None)  # a pod ran with it: if it is not there, it is lost
    full_since: Mapped[datetime | None] = mapped_column(default=None)  # as last measured; written by the loop alone
    deleted_at: Mapped[datetime | None] = mapped_column(default=None)  # its owner's wish
    removed_at: Mapped[datetime | None] = mapped_column(default=None)  # the runtime confirmed that its data are gone
