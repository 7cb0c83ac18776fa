"""The rows of usage: a packed hour of points per row."""

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.record import Record


class UsageRow(Record):
    """Points of a pod that one server measured in a row, at most an hour of them (`usage.series` packs them)."""

    __tablename__ = "usage"
    __table_args__ = (Index("ix_usage_began_at", "began_at"),)

    pod_id: Mapped[str] = mapped_column(primary_key=True)
    began_at: Mapped[datetime] = mapped_column(primary_key=True)
    points: Mapped[bytes]
