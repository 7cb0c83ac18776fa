"""Which hosts are served, and what on which (DESIGN §5, SECURITY 21): the outermost door.

Exactly these hosts are known: the console's, the API's own, and, for bearer keys, the address that the server is bound
to, `localhost` and 127.0.0.1. All else is a 404 of ours, so a name that somebody points at this server reaches nothing
(DNS rebinding). `/healthz` and `/readyz` answer on any host. Pod hosts never come here: server gives them to the
gateway. Nothing but the Host header is looked at, and it is compared, never used to make an address.
"""

import ipaddress
import re
from enum import StrEnum

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from neuropod.settings import Addresses, Settings

ANY_HOST = frozenset({"/healthz", "/readyz"})
_HOST = re.compile(r"(?P<name>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_KIND = "neuropod.host"


class HostKind(StrEnum):
    """What a request's host is."""

    CONSOLE = "console"  # pages, and the API for the console's own cookie
    API = "api"
    DIRECT = "direct"  # the bind address: the API for bearer keys, pages are redirected to the console


def kind_of(scope: Scope) -> HostKind:
    """Return what HostDoor found."""
    kind: HostKind = scope[_KIND]
    return kind


class HostDoor:
    """Lets requests for known hosts in, marked with their kind."""

    def __init__(self, app: ASGIApp, settings: Settings, addresses: Addresses) -> None:
        self._app = app
        self._addresses = addresses
        self._direct = {"localhost", "127.0.0.1", "::1"} | {settings.host.lower()} - {"0.0.0.0", "::", ""}  # noqa: S104

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        kind = None
        if scope["path"] in ANY_HOST:
            kind = HostKind.DIRECT
        else:
            hosts = Headers(scope=scope).getlist("host")
            match = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
            if match is None:
                await self._answer(PlainTextResponse("one Host header is needed\n", 400), scope, receive, send)
                return
            kind = self._kind(match["name"].strip("[]"), scope)
        if kind is None:
            await self._answer(PlainTextResponse("nothing is served at this host\n", 404), scope, receive, send)
        elif kind is not HostKind.CONSOLE and not _for_programs(scope["path"]):
            # The origin is ours by the settings; the path cannot leave it.
            target = self._addresses.console_origin + scope.get("raw_path", b"/").decode("ascii", "replace")
            await self._answer(RedirectResponse(target, 307), scope, receive, send)
        else:
            scope[_KIND] = kind
            await self._app(scope, receive, send)

    def _kind(self, name: str, scope: Scope) -> HostKind | None:
        if name == self._addresses.console_host:
            return HostKind.CONSOLE
        if name == self._addresses.api_host:
            return HostKind.API
        if name in self._direct or _is_own_address(name, scope):
            return HostKind.DIRECT
        return None

    @staticmethod
    async def _answer(
        response: PlainTextResponse | RedirectResponse, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        response.headers["Cache-Control"] = "no-store"
        await response(scope, receive, send)


def _for_programs(path: str) -> bool:
    return path in ANY_HOST or path == "/metrics" or path.startswith("/api/")


def _is_own_address(name: str, scope: Scope) -> bool:
    """Whether it is the very address that the connection came in at; a literal address cannot be rebound."""
    server = scope.get("server")
    if server is None or server[1] is None:
        return False
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(server[0])
    except ValueError:
        return False
