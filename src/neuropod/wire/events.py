"""Events: what happened, and the stream that tells it (`text/event-stream`).

Frames of the stream, by their name: `begin` (StreamBegun), `reset` (Reset), none (StreamedEvent), `pod` (Pod: its place
in a queue or its progress has moved, which is no event). Comments come when nothing else does.
"""

from datetime import datetime
from typing import Any

from neuropod.wire.pods import Pod
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


class StreamedEvent(Event):
    """An event of the stream."""

    position: str
    """What `Last-Event-ID` or `after` goes on from."""

    owner_id: str
    """Whose thing it happened to."""

    pod: Pod | None
    """The event's pod as it is when this is sent, or a little later; null when it is gone, or the event has none."""


class StreamBegun(Answer):
    """The stream begins: read what you show, then follow; what happened after `position` is told."""

    position: str
    """What `Last-Event-ID` or `after` goes on from."""


class Reset(Answer):
    """Events after yours are kept no longer, or were never given out: read everything anew, then go on."""

    position: str
    reason: str
    """`too_old` or `unknown`."""
