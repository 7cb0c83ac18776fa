"""The rows of secrets."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.accounts.records import UserRow
from neuropod.db.record import Record


class SecretRow(Record):
    """A value that a user keeps by name, never shown again. Its pods name it, and are given it at their start."""

    __tablename__ = "secrets"

    owner_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]  # for `users/<owner_id>/secrets/<name>`
    set_at: Mapped[datetime]
