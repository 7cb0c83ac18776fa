"""`/auth/oidc/…`: to the sign-in provider and back.

What has to be known when the browser returns (nonce, PKCE verifier, where it was going, which session it had) waits in
a cookie of that browser, sealed for the very `state` that was sent along, for ten minutes: nothing is stored, any
server can go on, and a `state` that somebody else planted opens nothing. It is Lax, since the way back begins on
another site; the session's own is Strict, so its hash waits here, and that session ends with the new sign-in.
"""

import re
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from neuropod.accounts.oidc.provider import Provider, Start
from neuropod.accounts.oidc.service import Refused
from neuropod.accounts.signing_in import Browser
from neuropod.api.callers import cookie_is_secure, session_token
from neuropod.api.deps import Anybody, Asking
from neuropod.api.pages.rendering import Pages, Rendering
from neuropod.api.pages.sign_in import signed_in_response
from neuropod.api.pages.ways import see_other, way_back
from neuropod.gateway.passes import open_text, seal_text
from neuropod.kit.errors import NeuropodError, NotFoundError, UnauthenticatedError
from neuropod.kit.secrets import token_hash
from neuropod.settings import Addresses

router = APIRouter(include_in_schema=False)

_WAITS = timedelta(minutes=10)
_ERROR = re.compile(r"[a-z_]{1,50}")  # RFC 6749 §4.1.2.1
_TOO_OLD = "this sign-in was begun in another browser, or is too old; begin it again"
_TITLE = "You are not signed in"


def _provider(asking: Asking) -> Provider:
    if asking.parts.provider is None:
        raise NotFoundError("nothing has this address; it may be mistyped")
    return asking.parts.provider


def _cookie_name(state: str, addresses: Addresses) -> str:
    name = f"neuropod-oidc-{token_hash(state)[:16]}"
    return f"__Host-{name}" if cookie_is_secure(addresses) else name


def _place(state: str) -> str:
    return f"oidc/{token_hash(state)}"


@router.get("/auth/oidc/start")
async def start(asking: Anybody, pages: Rendering, to: Annotated[str, Query(max_length=3000)] = "/") -> Response:
    """Send the browser to the provider. Only a page of ours begins this; others lead to the sign-in."""
    provider = _provider(asking)
    request, parts = asking.request, asking.parts
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return see_other("/sign-in")
    try:
        begun = await provider.start()
    except NeuropodError as error:
        return _failed(pages, error)
    response = RedirectResponse(begun.url, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    secure = cookie_is_secure(parts.addresses)
    response.set_cookie(
        _cookie_name(begun.state, parts.addresses),
        seal_text(parts.box, _waiting(asking, begun, way_back(to)), place=_place(begun.state)),
        max_age=int(_WAITS.total_seconds()),
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return response


def _waiting(asking: Asking, begun: Start, to: str) -> list[str | int | None]:
    token = session_token(asking.request, asking.parts.addresses)
    ends = int((asking.parts.clock.now() + _WAITS).timestamp())
    return [begun.nonce, begun.verifier, to, None if token is None else token_hash(token), ends]


@router.get("/auth/oidc/callback")
async def come_back(
    asking: Anybody,
    pages: Rendering,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
    error: Annotated[str, Query(max_length=200)] = "",
    iss: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """Sign somebody in who comes from the provider, or say why not."""
    provider = _provider(asking)
    outcomes = asking.parts.metrics.counter("sign_ins_total", "Sign-ins by way and outcome.", ("way", "outcome"))
    try:
        response = await _enter(asking, provider, state, _code(provider, code, error, iss))
    except NeuropodError as failed:
        outcomes.labels("oidc", failed.code).inc()
        response = _failed(pages, failed)
    else:
        outcomes.labels("oidc", "ok").inc()
    addresses = asking.parts.addresses
    response.delete_cookie(
        _cookie_name(state, addresses), path="/", secure=cookie_is_secure(addresses), httponly=True, samesite="lax"
    )
    return response


def _code(provider: Provider, code: str, error: str, iss: str | None) -> str:
    """Return the code that came back. Raises UnauthenticatedError for everything else that may come."""
    if error:
        what = f" ({error})" if _ERROR.fullmatch(error) else ""
        raise UnauthenticatedError(f"{provider.name} did not sign you in{what}", code="provider_refused")
    if not code or (iss is not None and iss != provider.issuer):  # RFC 9207
        raise UnauthenticatedError(_TOO_OLD, code="sign_in_gone")
    return code


async def _enter(asking: Asking, provider: Provider, state: str, code: str) -> Response:
    nonce, verifier, to, earlier = _opened(asking.request, asking, state)
    identity = await provider.finish(code, nonce=nonce, verifier=verifier)
    browser = asking.browser
    browser = Browser(browser.address, browser.user_agent, browser.token, earlier)
    async with asking.writing() as session:
        made = await asking.parts.identities.sign_in(session, identity, browser=browser)
    if isinstance(made, Refused):
        raise made.error
    return signed_in_response(asking, made, to)


def _opened(request: Request, asking: Asking, state: str) -> tuple[str, str, str, str | None]:
    """Return what waited in this browser's cookie for this state. Raises UnauthenticatedError."""
    parts = asking.parts
    sealed = request.cookies.get(_cookie_name(state, parts.addresses), "")
    match open_text(parts.box, sealed, place=_place(state)):
        case [str(nonce), str(verifier), str(to), earlier, int(ends)] if (
            datetime.fromtimestamp(ends, parts.clock.now().tzinfo) > parts.clock.now()
        ):
            return nonce, verifier, way_back(to), earlier if isinstance(earlier, str) else None
        case _:
            raise UnauthenticatedError(_TOO_OLD, code="sign_in_gone")


def _failed(pages: Pages, error: NeuropodError) -> Response:
    return pages.page("error", status=error.status, title=_TITLE, message=error.message)
