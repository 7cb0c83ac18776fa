"""One's own pods, and the way into their ports. What changes pods is done by the CLI until the console is there."""

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from neuropod.api.answers import pod_answer
from neuropod.api.deps import Anybody, Visitor
from neuropod.api.pages.rendering import Rendering
from neuropod.api.pages.ways import see_other, to_sign_in
from neuropod.kit.errors import NotFoundError
from neuropod.kit.paging import MAX_LIMIT
from neuropod.pods.status import is_settled
from neuropod.pods.views import PodFilters

router = APIRouter(include_in_schema=False)

_LOOK_AGAIN_SECONDS = 4


@router.get("/")
async def home(asking: Anybody, visitor: Visitor, pages: Rendering) -> Response:
    """Show one's pods; the page looks again by itself while one of them is on its way."""
    if visitor is None:
        return to_sign_in(asking.request, pages)
    parts = visitor.parts
    async with visitor.reading() as session:
        page = await parts.pods.list_pods(session, actor=visitor.actor, filters=PodFilters(), limit=MAX_LIMIT)
    moving = any(not is_settled(view.shown.status) for view in page.items)
    return pages.page(
        "home",
        caller=visitor,
        posts_to_pods=True,
        console=parts.addresses.console_origin,
        pods=[pod_answer(view, parts.addresses) for view in page.items],
        look_again_seconds=_LOOK_AGAIN_SECONDS if moving else None,
        asks_for_password=visitor.signed_in.user.password_hash is None
        and visitor.signed_in.by_session is not None
        and visitor.signed_in.by_session.by_link,
    )


@router.post("/pods/{pod}/ports/{port}/open")
async def open_port(visitor: Visitor, pod: str, port: int) -> Response:
    """Lead the browser into a port; Jupyter's address holds its token, so it is made by POST and never kept."""
    if visitor is None:
        return see_other("/sign-in")
    async with visitor.reading() as session:
        link = await visitor.parts.pods.port_link(session, pod, port, actor=visitor.actor)
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return RedirectResponse(visitor.parts.addresses.pod_origin(link.host) + link.path, 303, headers)


@router.get("/static/{version}/{name}")
async def static(version: str, name: str, pages: Rendering) -> Response:  # noqa: ARG001  # the version only names it
    """Return a static file."""
    response = pages.static(name)
    if response is None:
        raise NotFoundError("nothing has this address; it may be mistyped")
    return response
