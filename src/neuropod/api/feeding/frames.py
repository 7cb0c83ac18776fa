"""Events as Server-Sent Events: what a follower is sent, as bytes, made once for all. Used by feed and stream.

A position in the events is `<epoch>.<id>`: after a restore, which raises the epoch, ids of before mean nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from neuropod.api.answers import event_answer, pod_answer
from neuropod.db.events import EventRow
from neuropod.ids import EventId, PodId, UserId
from neuropod.pods.views import PodView
from neuropod.settings import Addresses
from neuropod.wire.events import Reset, StreamBegun, StreamedEvent

BEAT = b":\n\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """What one event is sent as, and what decides who it is sent to.

    `id` None: it was never written, so nobody goes on from it.
    """

    id: EventId | None
    owner_id: UserId
    pod_id: PodId | None
    data: bytes


def frame_of(row: EventRow, views: Mapping[PodId, PodView], addresses: Addresses, epoch: int) -> Frame:
    """Return the frame of an event, with its pod as it is now (null once it is gone for good)."""
    view = None if row.pod_id is None else views.get(PodId(row.pod_id))
    position = position_text(epoch, EventId(row.id))
    event = StreamedEvent(
        **dict(event_answer(row)),
        position=position,
        owner_id=row.owner_id,
        pod=view and pod_answer(view, addresses),
    )
    text = event.model_dump_json()
    data = f"id: {position}\ndata: {text}\n\n".encode()
    return Frame(EventId(row.id), UserId(row.owner_id), None if row.pod_id is None else PodId(row.pod_id), data)


def passing_frame(view: PodView, addresses: Addresses) -> Frame:
    """Return the frame of a change that is no event: a pod's place in its queue, or how far its preparation is."""
    text = pod_answer(view, addresses).model_dump_json()
    return Frame(None, view.owner.id, view.id, f"event: pod\ndata: {text}\n\n".encode())


def begun(epoch: int, position: EventId) -> bytes:
    """Return the first frame of a stream that begins now."""
    text = StreamBegun(position=position_text(epoch, position)).model_dump_json()
    return f"id: {position_text(epoch, position)}\nevent: begin\ndata: {text}\n\n".encode()


def reset(epoch: int, position: EventId, reason: str) -> bytes:
    """Return what says that events were missed: everything has to be read anew, then the stream goes on from here."""
    text = Reset(position=position_text(epoch, position), reason=reason).model_dump_json()
    return f"id: {position_text(epoch, position)}\nevent: reset\ndata: {text}\n\n".encode()


def position_text(epoch: int, event_id: EventId) -> str:
    """Return a position as followers send it back."""
    return f"{epoch}.{event_id}"


def position_of(text: str, epoch: int) -> EventId | None:
    """Return the event of a position; None when it is of another epoch, or none at all."""
    first, _, second = text.partition(".")
    if not (first.isdecimal() and second.isdecimal() and len(second) < 19) or int(first) != epoch:
        return None
    return EventId(int(second))
