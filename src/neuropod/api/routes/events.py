"""`/api/v1/pods/{pod}/events`: what happened to a pod."""

from fastapi import APIRouter

from neuropod.api.answers import event_answer
from neuropod.api.deps import Reader
from neuropod.api.paging import AskedPage
from neuropod.db.events import events_of_pod
from neuropod.ids import EventId
from neuropod.kit.paging import decode_cursor, page_of
from neuropod.wire.events import EventPage

router = APIRouter(prefix="/pods/{pod}/events", tags=["events"])


@router.get("", operation_id="listPodEvents")
async def list_pod_events(pod: str, caller: Reader, asked: AskedPage) -> EventPage:
    """Return what happened to a pod, newest first."""
    before = None if asked.cursor is None else EventId(int(decode_cursor(asked.cursor, 1)[0]))
    async with caller.reading() as session:
        view = await caller.parts.pods.show_pod(session, pod, actor=caller.actor)
        rows = await events_of_pod(session, view.id, before=before, limit=asked.limit + 1)
    page = page_of(rows, asked.limit, lambda row: (row.id,))
    return EventPage(items=[event_answer(row) for row in page.items], next_cursor=page.next_cursor)
