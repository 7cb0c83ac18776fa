"""A visitor's request on a pod host: looked at by the gate, then carried to the pod.

Made by front.FrontProtocol. The order, and what each step may end in:

1. the host's route: none is a 404, no routes yet a 503;
2. the gate's own paths (below /.neuropod/) never reach a pod;
3. the gate: sign-in hop, 401 or 403, unless the port is public or the visitor passes (gate.py, rules.py);
4. the pod: no ready incarnation is its status page, a port where nothing listens a page that tries again;
5. the request is carried (proxy.py).

A gateway of its own also carries the requests of the other hosts, unlooked at, to the server: Passage.
"""

from typing import Any

from neuropod.accounts.visitors import Visitor
from neuropod.gateway import pages
from neuropod.gateway.connector import BusyError
from neuropod.gateway.entrance import MOST_FORM_BYTES, enter, is_own_path
from neuropod.gateway.gate import Credential, opens
from neuropod.gateway.pages import Situation
from neuropod.gateway.passes import cookie_values
from neuropod.gateway.proxy import Exchange
from neuropod.gateway.routes import Route
from neuropod.gateway.rules import is_own_will, wants_page
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.words import Access

_MOST_PASSES = 5  # of one name; a hostile sibling may have added some where names have no `__Host-`


class Visit(Exchange):
    """A request on a pod host."""

    __slots__ = ("_own", "_route")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._route: Route | None = None
        self._own = False  # for the gate itself, and still coming

    def start(self) -> None:
        """Begin; called when every earlier answer on this connection is out."""
        parts = self._parts
        if self.disconnected:
            return
        parts.streams.add(self)
        self.moved_at = self._client.loop.time()
        route = parts.table.get(self.host)
        if route is None:
            self.refuse(pages.unknown_host() if parts.table.loaded else pages.not_loaded())
            return
        self._route = route
        if is_own_path(self.head.target):
            if self._body_done:
                self._enter(route)
            else:
                self._own = True
        elif route.access is Access.PUBLIC:
            self._admit(route)
        else:
            self._check(route)

    def _check(self, route: Route) -> None:
        head = self.head
        if head.preflight:
            self.refuse(pages.no_preflight())
            return
        credentials = self._credentials()
        if not credentials:
            self._unknown()
            return
        own_origin = self._parts.addresses.pod_origin(self.host).encode()
        if credentials[0].key is None and not is_own_will(
            head.circumstances, own_origin, told=self._parts.told(self.host)
        ):
            self.refuse(pages.foreign())
            return
        for credential in credentials:
            visitor = self._parts.gate.remembered(credential)
            if visitor is not None:
                self._judge(route, visitor, credential)
                return
        self._spawn(self._ask(credentials))

    def _credentials(self) -> list[Credential]:
        key = self.head.read.get(b"x-neuropod-key")
        if key is not None:
            return [Credential(key=key.decode("latin-1"))]
        cookie = self.head.read.get(b"cookie", b"")
        values = cookie_values(cookie, self._parts.cookies(self.host).gate_pass) if b"neuropod" in cookie else []
        return [Credential(pass_value=value, host=self.host) for value in values[:_MOST_PASSES]]

    async def _ask(self, credentials: list[Credential]) -> None:
        for credential in credentials:
            visitor = await self._parts.gate.visitor(credential)
            if visitor is not None:
                break
        else:
            self._unknown()
            return
        route = self._parts.table.get(self.host)
        if route is None:
            self.refuse(pages.unknown_host())
        else:
            self._route = route
            self._judge(route, visitor, credential)

    def _judge(self, route: Route, visitor: Visitor, credential: Credential) -> None:
        if opens(route, visitor):
            self.credential = credential
            self._admit(route)
        else:
            self.refuse(pages.forbidden(route))

    def _unknown(self) -> None:
        read = self.head.read
        if b"x-neuropod-key" not in read and wants_page(self.head.circumstances, read.get(b"accept", b"")):
            self._spawn(self._hop())
        else:
            self.refuse(pages.unauthenticated())

    async def _hop(self) -> None:
        hop = await self._parts.gate.doorkeeper.begin(self.host, self.head.target.decode("latin-1"))
        location = f"{self._parts.addresses.console_origin}/gate/continue?ref={hop.reference}"
        self.answer(pages.redirect(location, (hop.set_cookie,)))

    def _enter(self, route: Route) -> None:
        self._own = False
        self._spawn(self._entered(route))

    async def _entered(self, route: Route) -> None:
        body = b"".join(self._body)
        self._body.clear()
        found = await enter(self._parts.gate.doorkeeper, self._parts.addresses, route, self.head, body)
        if isinstance(found, Situation):
            self.refuse(found)
        else:
            self.answer(found)

    def _admit(self, route: Route) -> None:
        self.admitted = True
        self._parts.streams.note_use(route.pod_id)
        self._private = route.access is not Access.PUBLIC
        if route.incarnation is None:
            self.refuse(pages.status_page(route))
            return
        try:
            connector = self._parts.connectors.of(route, route.incarnation)
        except RuntimeUnavailableError as error:
            self.refuse(self._trouble(error))
            return
        self._reach(connector, route.port)

    def _trouble(self, error: Exception) -> Situation:
        """Return what to say when no connection can be had."""
        route = self._route
        if route is None:
            return pages.no_server()
        match error:
            case RuntimeUnavailableError():
                return pages.unreachable(route)
            case TimeoutError():
                return pages.too_slow(route)
            case BusyError():
                return pages.busy(route)
            case _:
                return pages.not_listening(route)

    def body_received(self, data: bytes) -> None:
        """Take a part of the request's body."""
        super().body_received(data)
        if self._own and self._body_bytes > MOST_FORM_BYTES:
            self.refuse(pages.bad_request(413, "the form is too large"))

    def body_ended(self) -> None:
        """Take the end of the request."""
        super().body_ended()
        if self._own and self._route is not None and not self.response_complete:
            self._enter(self._route)


class Passage(Exchange):
    """A request for the console's or the API's host at a gateway of its own: carried to the server as it is.

    The server checks it; here nobody is admitted, so only idleness or the server ends it.
    """

    __slots__ = ()
    to_pod = False

    def start(self) -> None:
        """Begin."""
        if self.disconnected or self._parts.server is None:
            return
        self._parts.streams.add(self)
        self.moved_at = self._client.loop.time()
        self._reach(self._parts.server, 0)

    def _trouble(self, _: Exception) -> Situation:
        """Return what to say when no connection can be had."""
        return pages.no_server()
