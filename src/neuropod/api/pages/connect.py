"""`/connect`: a signed-in person confirms, or refuses, a program that asks for a key (`neuropod login`)."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form
from starlette.responses import Response

from neuropod.api.deps import Anybody, Visitor
from neuropod.api.pages.rendering import Rendering
from neuropod.api.pages.ways import see_other, to_sign_in
from neuropod.kit.errors import NotFoundError
from neuropod.words import Role, Scope

router = APIRouter(include_in_schema=False)

_WORDS = {
    Scope.READ: "see your pods and their logs",
    Scope.WRITE: "launch, change, stop and delete your pods",
    Scope.PORTS: "open the ports of your pods",
    Scope.ADMIN: "do all that an administrator may",
}


@router.get("/connect")
async def connect_page(asking: Anybody, visitor: Visitor, pages: Rendering, code: str = "") -> Response:
    """Ask for the code, or show what asks for a key under it."""
    if visitor is None or visitor.signed_in.by_session is None:
        return to_sign_in(asking.request, pages)
    if not code:
        return pages.page("connect_code", caller=visitor, message=None)
    try:
        async with visitor.reading() as session:
            asked = await visitor.parts.accounts.keys.asked(session, code)
    except NotFoundError as error:
        return pages.page("connect_code", caller=visitor, status=404, message=error.message)
    scopes = [Scope(scope) for scope in asked.scopes]
    if visitor.actor.role is not Role.ADMIN:
        scopes = [scope for scope in scopes if scope is not Scope.ADMIN]
    return pages.page(
        "connect", caller=visitor, code=asked.code, name=asked.name, address=asked.address,
        may=[_WORDS[scope] for scope in scopes],
    )  # fmt: skip


@router.post("/connect")
async def decide(
    visitor: Visitor,
    pages: Rendering,
    code: Annotated[str, Form(max_length=50)],
    decision: Annotated[Literal["confirm", "refuse"], Form()],
) -> Response:
    """Confirm or refuse."""
    if visitor is None:
        return see_other("/sign-in")
    confirm = decision == "confirm"
    async with visitor.writing() as session:
        asked = await visitor.parts.accounts.keys.decide(session, code, confirm=confirm, actor=visitor.actor)
    return pages.page("connect_done", caller=visitor, name=asked.name, confirmed=confirm)
