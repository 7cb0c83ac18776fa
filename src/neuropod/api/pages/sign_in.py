"""Signing in by password or one-time link, setting a password, signing out."""

from typing import Annotated, Any

from fastapi import APIRouter, Form
from starlette.responses import Response

from neuropod.accounts.signing_in import NewSession
from neuropod.api.callers import drop_session_cookie, require_own_origin, set_session_cookie
from neuropod.api.deps import Anybody, Asking, Visitor
from neuropod.api.pages.rendering import Rendering
from neuropod.api.pages.ways import see_other, to_sign_in, way_back
from neuropod.api.signing_in import change_password, sign_in_with_link, sign_in_with_password
from neuropod.kit.errors import NeuropodError, ThrottledError

router = APIRouter(include_in_schema=False)

Field = Annotated[str, Form(max_length=1000)]


def signed_in_response(asking: Asking, made: NewSession, path: str) -> Response:
    """Lead a browser on with its new session."""
    response = see_other(path)
    seconds = asking.parts.settings.accounts.session_seconds
    set_session_cookie(response, made.token.reveal(), asking.parts.addresses, seconds=seconds)
    return response


@router.get("/sign-in")
async def sign_in_page(asking: Anybody, visitor: Visitor, pages: Rendering, to: str = "/") -> Response:
    """Show the form."""
    if visitor is not None:
        return see_other(way_back(to))
    return pages.page("sign_in", to=way_back(to), email="", message=None, provider=_provider(asking))


@router.post("/sign-in")
async def sign_in(
    asking: Anybody, pages: Rendering, email: Field, password: Field, to: Annotated[str, Form(max_length=3000)] = "/"
) -> Response:
    """Sign in, or show the form again with what is wrong."""
    require_own_origin(asking.request, asking.parts.addresses)
    try:
        made = await sign_in_with_password(asking, email, password)
    except NeuropodError as error:
        response = pages.page(
            "sign_in", status=error.status, to=way_back(to), email=email, message=error.message,
            provider=_provider(asking),
        )  # fmt: skip
        if isinstance(error, ThrottledError):
            response.headers["Retry-After"] = str(error.retry_after_seconds)
        return response
    return signed_in_response(asking, made, way_back(to))


def _provider(asking: Asking) -> str | None:
    """Return the name on the button of the sign-in provider, where there is one."""
    return None if asking.parts.provider is None else asking.parts.provider.name


@router.get("/sign-in/link")
async def link_page(pages: Rendering) -> Response:
    """Show the page whose script sends the token in the address's fragment, so that a mere look does not use it up."""
    return pages.page("link", scripts=True)


@router.post("/sign-in/link")
async def use_link(asking: Anybody, pages: Rendering, token: Field) -> Response:
    """Sign in by a one-time link."""
    require_own_origin(asking.request, asking.parts.addresses)
    try:
        made = await sign_in_with_link(asking, token)
    except NeuropodError as error:
        return pages.page("error", status=error.status, title="This link does not work", message=error.message)
    return signed_in_response(asking, made, "/" if made.user.password_hash is not None else "/password")


@router.post("/sign-out")
async def sign_out(visitor: Visitor) -> Response:
    """End the session."""
    response = see_other("/sign-in")
    if visitor is not None:
        async with visitor.writing() as session:
            await visitor.parts.accounts.sign_ins.sign_out(session, actor=visitor.actor)
        drop_session_cookie(response, visitor.parts.addresses)
    return response


@router.get("/password")
async def password_page(asking: Anybody, visitor: Visitor, pages: Rendering) -> Response:
    """Show the form."""
    if visitor is None or visitor.signed_in.by_session is None:
        return to_sign_in(asking.request, pages)
    return pages.page("password", caller=visitor, message=None, **_needed(visitor))


@router.post("/password")
async def set_password(
    visitor: Visitor, pages: Rendering, new_password: Field, current_password: Field = ""
) -> Response:
    """Set the password, or show the form again with what is wrong."""
    if visitor is None or visitor.signed_in.by_session is None:
        return see_other("/sign-in")
    try:
        await change_password(visitor, visitor.signed_in, new_password, current_password)
    except NeuropodError as error:
        return pages.page("password", caller=visitor, status=error.status, message=error.message, **_needed(visitor))
    return see_other("/")


def _needed(asking: Visitor) -> dict[str, Any]:
    assert asking is not None
    return {
        "needs_current": not asking.parts.accounts.may_set_unproven(asking.signed_in),
        "least": asking.parts.settings.accounts.password_min_length,
    }
