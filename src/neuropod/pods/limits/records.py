"""What the limits loop knows of a pod between its looks; written by that loop alone, seldom."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.record import Record


class WatchRow(Record):
    """A pod with a limit of time, as it was looked at last. Of no use once that incarnation has ended.

    `idle_since` moves with every look while the pod is busy; it is written when something changes, and every few
    minutes, so that a server which starts anew loses little of what was observed.
    """

    __tablename__ = "watches"

    pod_id: Mapped[str] = mapped_column(primary_key=True)
    incarnation: Mapped[int]
    looked_at: Mapped[datetime | None] = mapped_column(default=None)  # None: only its deadline is of interest
    idle_since: Mapped[datetime | None] = mapped_column(default=None)
    kept_by: Mapped[list[Any]]  # words.Activity
    used_at: Mapped[datetime | None] = mapped_column(default=None)  # a gateway, of whatever server, saw its ports used
    warned_deadline_at: Mapped[datetime | None] = mapped_column(default=None)  # the stop that was warned of
    warned_idle_at: Mapped[datetime | None] = mapped_column(default=None)
