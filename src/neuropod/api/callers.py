"""Where a request comes from: the client's address (behind trusted proxies), and the browser's own session cookie."""

import ipaddress
from collections.abc import Sequence

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from neuropod.accounts.signing_in import Browser
from neuropod.api.hosts import HostKind, kind_of
from neuropod.kit.errors import ForbiddenError
from neuropod.settings import Addresses

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def client_address(request: HTTPConnection, trusted_proxies: Sequence[str]) -> str:
    """Return the address that a request comes from.

    X-Forwarded-For is believed only from `trusted_proxies` (and over the server's own Unix socket, where there is no
    address): read from its end, the first address that is not a trusted proxy (RFC 7239 §7.4 has the reason).
    """
    peer = request.client.host if request.client is not None else ""
    if peer and not _is_within(peer, trusted_proxies):
        return peer
    hops = [hop.strip() for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    for hop in reversed(hops):
        if not _is_address(hop):
            break
        if not _is_within(hop, trusted_proxies):
            return hop
    return peer or "127.0.0.1"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_within(address: str, networks: Sequence[str]) -> bool:
    if not networks or not _is_address(address):
        return False
    ip = ipaddress.ip_address(address)
    return any(ip in ipaddress.ip_network(network, strict=False) for network in networks)


def cookie_is_secure(addresses: Addresses) -> bool:
    """Whether browsers take a `__Host-` cookie there: https, or http on localhost (seen in Chromium 156)."""
    host = addresses.console_host
    return addresses.console_origin.startswith("https:") or host == "localhost" or host.endswith(".localhost")


def cookie_name(addresses: Addresses) -> str:
    """Return the session cookie's name; the prefix makes browsers refuse it from any other host (RFC 6265bis)."""
    return "__Host-neuropod-session" if cookie_is_secure(addresses) else "neuropod-session"


def session_token(request: HTTPConnection, addresses: Addresses) -> str | None:
    """Return the session's token; on the server's bare addresses cookies count for nothing."""
    if kind_of(request.scope) is HostKind.DIRECT:
        return None
    return request.cookies.get(cookie_name(addresses)) or None


def set_session_cookie(response: Response, token: str, addresses: Addresses, *, seconds: float) -> None:
    """Give the browser its session. Strict: no request that starts on another site carries it."""
    response.set_cookie(
        cookie_name(addresses),
        token,
        max_age=int(seconds),
        path="/",
        secure=cookie_is_secure(addresses),
        httponly=True,
        samesite="strict",
    )


def drop_session_cookie(response: Response, addresses: Addresses) -> None:
    """Take the session from the browser."""
    response.delete_cookie(
        cookie_name(addresses), path="/", secure=cookie_is_secure(addresses), httponly=True, samesite="strict"
    )


def require_own_origin(request: Request, addresses: Addresses) -> None:
    """Raise ForbiddenError when a request that changes something does not come from the console itself.

    Browsers name the origin with every unsafe request; programs that use a session say `Origin: <console>` themselves.
    """
    if request.method in _SAFE:
        return
    origin = request.headers.get("origin")
    if origin == addresses.console_origin:
        return
    if origin is None and request.headers.get("sec-fetch-site") == "same-origin":
        return
    raise ForbiddenError(
        f"a request with a session must come from the console itself (Origin: {addresses.console_origin})",
        code="wrong_origin",
    )


def require_page_of_console(websocket: HTTPConnection, addresses: Addresses) -> None:
    """Raise ForbiddenError when a WebSocket with a session is not opened by a page of the console's, on its own host.

    Unlike `require_own_origin` there is no safe method here, and an Origin is named by every browser.
    """
    if kind_of(websocket.scope) is HostKind.CONSOLE and websocket.headers.get("origin") == addresses.console_origin:
        return
    raise ForbiddenError(
        f"a WebSocket with a session must be opened by the console's own page (Origin: {addresses.console_origin})",
        code="wrong_origin",
    )


def browser_of(request: Request, addresses: Addresses, trusted_proxies: Sequence[str]) -> Browser:
    """Return where a sign-in comes from."""
    return Browser(
        address=client_address(request, trusted_proxies),
        user_agent=request.headers.get("user-agent", ""),
        token=session_token(request, addresses),
    )
