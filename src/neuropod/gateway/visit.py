"""A visitor's request on a pod host: looked at by the gate, then carried to the pod.

Made by front.FrontProtocol. The order, and what each step may end in:

1. the host's route: none is a 404, no routes yet a 503;
2. the gate's own paths (below /.neuropod/) never reach a pod;
3. the gate: sign-in hop, 401 or 403, unless the port is public or the visitor passes (checked.py);
4. the pod: no ready incarnation is its status page, a port where nothing listens a page that tries again;
5. the request is carried (proxy.py).

A gateway of its own also carries the requests of the other hosts, unlooked at, to the server: Passage.
"""

from typing import Any

from neuropod.gateway import pages
from neuropod.gateway.checked import Checked
from neuropod.gateway.connector import BusyError
from neuropod.gateway.entrance import MOST_FORM_BYTES, enter, is_own_path, is_sign_in, target_after_sign_in
from neuropod.gateway.gate import Credential
from neuropod.gateway.pages import Situation
from neuropod.gateway.proxy import Exchange
from neuropod.gateway.routes import Route
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.words import Access


class Visit(Checked):
    """A request on a pod host."""

    __slots__ = ("_own",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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

    def _credentials(self) -> list[Credential]:
        carried, askers = self.head.read.get(b"x-neuropod-carried"), self._parts.askers
        if carried is not None and askers is not None:
            credential = askers.carried(carried, self.host)
            if credential is not None:
                return [credential]
        return super()._credentials()

    def _unknown(self, *, by_key: bool) -> None:
        if not by_key and self.wants_page:
            self._spawn(self._hop(self.head.target.decode("latin-1")))
        else:
            self.refuse(pages.unauthenticated())

    def _enter(self, route: Route) -> None:
        self._own = False
        self._spawn(self._entered(route))

    async def _entered(self, route: Route) -> None:
        if is_sign_in(self.head):
            if self.wants_page:
                await self._hop(target_after_sign_in(self.head))
            else:
                self.refuse(pages.unauthenticated())
            return
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
