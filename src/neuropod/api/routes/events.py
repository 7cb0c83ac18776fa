"""`/api/v1/events`: what happens, as it happens; `/api/v1/pods/{pod}/events`: what happened to a pod.

The stream is `text/event-stream`; wire.events has its frames, api.feeding how they are made.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from neuropod.accounts.access import require_sight
from neuropod.api.answers import event_answer
from neuropod.api.deps import Caller, Reader
from neuropod.api.feeding.followers import Follower, Selection
from neuropod.api.feeding.stream import MEDIA_TYPE, EventStream
from neuropod.api.paging import AskedPage
from neuropod.db.events import events_of_pod
from neuropod.ids import EventId, UserId
from neuropod.kit.errors import ForbiddenError
from neuropod.kit.paging import decode_cursor, page_of
from neuropod.wire.events import EventPage

router = APIRouter(tags=["events"])

_POSITION = 60  # characters


@router.get(
    "/events",
    operation_id="followEvents",
    response_class=StreamingResponse,
    responses={200: {"content": {MEDIA_TYPE: {}}, "description": "Events as they happen, until you close it."}},
)
async def follow_events(
    caller: Reader,
    everybody: Annotated[bool, Query(description="All people's; for administrators.")] = False,
    user: Annotated[
        str | None, Query(description="Somebody else's, by id or address; for administrators.", max_length=320)
    ] = None,
    pod: Annotated[str | None, Query(description="Only this pod's, by id or name.", max_length=100)] = None,
    after: Annotated[
        str | None, Query(description="Goes on after this position.", min_length=1, max_length=_POSITION)
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="The same, as browsers send it; wins.", max_length=_POSITION)
    ] = None,
) -> Response:
    """Follow what happens: one's own things, those of another, or all.

    Read lists after the stream has begun: what happens from then on is told, each event with its pod as it is then.
    Go on where a stream was cut with the last id; `reset` says that events are missing and all must be read anew.
    """
    selection = await _selection(caller, everybody=everybody, user=user, pod=pod)
    follower = Follower(selection, caller.actor)
    caller.parts.feed.require_room(follower.user_id)
    return EventStream(caller.parts.feed, follower, last_event_id or after)


async def _selection(caller: Caller, *, everybody: bool, user: str | None, pod: str | None) -> Selection:
    """Return what is asked for. Things of others are not found; all things are for administrators."""
    actor = caller.actor
    if everybody and not actor.is_admin:
        raise ForbiddenError("only administrators follow everybody's events", code="admin_needed")
    async with caller.reading() as session:
        if pod is not None:
            view = await caller.parts.pods.show_pod(session, pod, actor=actor)
            return Selection(view.owner.id, view.id)
        if user is not None and "@" in user:
            user = (await caller.parts.accounts.people.show_user(session, user, actor=actor)).id
    if user is not None:
        require_sight(actor, user, "user")
        return Selection(UserId(user))
    return Selection(None if everybody else actor.user_id)


@router.get("/pods/{pod}/events", operation_id="listPodEvents")
async def list_pod_events(pod: str, caller: Reader, asked: AskedPage) -> EventPage:
    """Return what happened to a pod, newest first."""
    before = None if asked.cursor is None else EventId(int(decode_cursor(asked.cursor, 1)[0]))
    async with caller.reading() as session:
        view = await caller.parts.pods.show_pod(session, pod, actor=caller.actor)
        rows = await events_of_pod(session, view.id, before=before, limit=asked.limit + 1)
    page = page_of(rows, asked.limit, lambda row: (row.id,))
    return EventPage(items=[event_answer(row) for row in page.items], next_cursor=page.next_cursor)
