"""`/gate/continue`: from the console's session to a pass for one pod host (gateway.tickets has the whole story).

The host comes out of a reference that the gate sealed, and is looked up among the routes all the same; the ticket goes
there in the body of a POST.
"""

from fastapi import APIRouter
from starlette.responses import Response

from neuropod.api.deps import Anybody, Visitor
from neuropod.api.pages.rendering import Rendering
from neuropod.api.pages.ways import to_sign_in
from neuropod.gateway.tickets import mint_ticket, open_reference
from neuropod.kit.errors import NotFoundError

router = APIRouter(include_in_schema=False)


@router.get("/gate/continue")
async def pass_on(asking: Anybody, visitor: Visitor, pages: Rendering, ref: str = "") -> Response:
    """Give the browser a ticket for the pod host that sent it, once it is signed in."""
    if visitor is None or visitor.signed_in.by_session is None:
        return to_sign_in(asking.request, pages)
    parts = visitor.parts
    now = parts.clock.now()
    reference = open_reference(parts.box, ref, now=now)
    if reference is None:
        raise NotFoundError("this way is too old; open the pod's address again")
    route = parts.routes.get(reference.host)
    if route is None:
        raise NotFoundError("this pod is not there any more")
    async with visitor.writing() as session:
        ticket = await mint_ticket(session, reference, actor=visitor.actor, now=now)
    return pages.page(
        "pass",
        caller=visitor,
        scripts=True,
        posts_to_pods=True,
        pod_name=route.pod_name,
        host=route.host,
        action=f"{parts.addresses.pod_origin(route.host)}/.neuropod/enter",
        ticket=ticket.reveal(),
    )
