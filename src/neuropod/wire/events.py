"""Events: what happened."""

from datetime import datetime
from typing import Any

from neuropod.wire.shapes import Answer, Page


class Event(Answer):
    """One thing that happened."""

    id: int
    at: datetime
    kind: str
    """`<noun>.<past tense>`: `pod.launched`."""

    message: str
    """The sentence for people."""

    pod_id: str | None
    data: dict[str, Any]


class EventPage(Page[Event]):
    """A part of the events, newest first."""
