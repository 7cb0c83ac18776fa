"""The gate's check of a visitor's request, the same for one that comes here and one that a carrier asks about.

Subclassed by visit.Visit and question.Question, which say what is done with a visitor who passes and with one who is
not known. The order: preflights, credentials, whose will it is (rules.py), who it is (gate.py), may they pass.
"""

from typing import Any

from neuropod.accounts.visitors import Visitor
from neuropod.gateway import pages
from neuropod.gateway.gate import Credential, opens
from neuropod.gateway.heads import RequestHead
from neuropod.gateway.passes import cookie_values
from neuropod.gateway.proxy import Exchange
from neuropod.gateway.routes import Route
from neuropod.gateway.rules import is_own_will, wants_page

_MOST_PASSES = 5  # of one name; a hostile sibling may have added some where names have no `__Host-`


class Checked(Exchange):
    """A request that the gate looks at. `asked` is the visitor's, `host` the pod host that it is for."""

    __slots__ = ("_route", "asked")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: RequestHead = self.head
        self._route: Route | None = None

    # each kind's own

    def _admit(self, route: Route) -> None:
        """Let the visitor pass; `credential` is what they showed, None at a public port."""
        raise NotImplementedError

    def _unknown(self, *, by_key: bool) -> None:
        """Answer a visitor who shows nothing that opens anything; `by_key`: they showed a key."""
        raise NotImplementedError

    # the check

    @property
    def wants_page(self) -> bool:
        """A person looks at the answer."""
        asked = self.asked
        return wants_page(asked.circumstances, asked.read.get(b"accept", b""))

    def _check(self, route: Route) -> None:
        asked = self.asked
        if asked.preflight:
            self.refuse(pages.no_preflight())
            return
        credentials = self._credentials()
        if not credentials:
            self._unknown(by_key=False)
            return
        own_origin = self._parts.addresses.pod_origin(self.host).encode()
        if credentials[0].key is None and not is_own_will(
            asked.circumstances, own_origin, told=self._parts.told(self.host)
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
        """Return what the visitor shows: a key, or a browser's passes."""
        key = self.asked.read.get(b"x-neuropod-key")
        if key is not None:
            return [Credential(key=key.decode("latin-1"))]
        cookie = self.asked.read.get(b"cookie", b"")
        values = cookie_values(cookie, self._parts.cookies(self.host).gate_pass) if b"neuropod" in cookie else []
        return [Credential(pass_value=value, host=self.host) for value in values[:_MOST_PASSES]]

    async def _ask(self, credentials: list[Credential]) -> None:
        for credential in credentials:
            visitor = await self._parts.gate.visitor(credential)
            if visitor is not None:
                break
        else:
            self._unknown(by_key=credentials[0].key is not None)
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

    async def _hop(self, target: str) -> None:
        """Send the visitor to the console's sign-in, from where they come back to `target`."""
        hop = await self._parts.gate.doorkeeper.begin(self.host, target)
        location = f"{self._parts.addresses.console_origin}/gate/continue?ref={hop.reference}"
        self.answer(pages.redirect(location, (hop.set_cookie,)))
