"""The audit log: who did what to whose things."""

from datetime import datetime
from typing import Any, Literal

from neuropod.wire.shapes import Answer, Page


class Somebody(Answer):
    """A user, by id and address."""

    id: str
    email: str


class AuditEntry(Answer):
    """One act."""

    id: str
    at: datetime
    actor: Somebody | None
    """Who did it; null for the server itself and for the owner of its machine."""

    via: Literal["session", "key", "system", "machine"]
    verb: str
    """What was done: `launch_pod`, `suspend_user`, …"""

    subject: str
    """To what: `pod/<id>`, `user/<id>`, …"""

    owner: Somebody | None
    """Whose thing it is."""

    data: dict[str, Any]
    """Particulars; never a secret."""


class AuditPage(Page[AuditEntry]):
    """A part of the audit log, newest first."""
