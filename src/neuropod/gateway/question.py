"""A carrier's question about a visitor's request: the same check as a visit's, and an answer for the carrier.

Made by front.FrontProtocol for `/.neuropod/gate/…` on the host of a `gate_url`. The carrier lets a request with a 2xx
pass, with what the answer says of Cookie and of our headers; anything else goes to the visitor. The gate's own paths
never pass: the carrier has another way for them, to this gateway, and a path that one of us takes for such and the
other does not (`/.neuropod/../x`) must not come to a pod unchecked.

Controllers of the nginx class tell only 401 (on to the sign-in page) and 403 apart, so they are told nothing else.
"""

import json
from dataclasses import replace
from typing import Any

from neuropod.gateway import pages
from neuropod.gateway.carriers.asked import is_check, read_asked
from neuropod.gateway.carriers.proofs import CARRIED
from neuropod.gateway.checked import Checked
from neuropod.gateway.entrance import is_own_path
from neuropod.gateway.heads import BadHeadError, keep_cookies
from neuropod.gateway.pages import Answer, Situation
from neuropod.gateway.routes import Route
from neuropod.words import Access


class Question(Checked):
    """A question of a carrier's. Its `host` becomes the visitor's once it is known."""

    __slots__ = ("_kind",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kind = ""

    def start(self) -> None:
        """Answer; called when every earlier answer on this connection is out."""
        parts = self._parts
        if self.disconnected or parts.askers is None:
            return
        parts.streams.add(self)
        self.moved_at = self._client.loop.time()
        if is_check(parts.askers.key, self.head):
            content = json.dumps({"installation": parts.installation}).encode()
            self.answer(Answer(200, (("Content-Type", "application/json"), *pages.NEVER_KEPT), content))
            return
        try:
            asked = read_asked(parts.askers.key, self.head)
        except BadHeadError as bad:
            self.refuse(pages.bad_request(bad.status, bad.message))
            return
        if asked is None:
            self.refuse(pages.no_such_path())
            return
        self._kind, self.asked, self.host = asked.kind, asked.head, asked.head.host
        route = parts.table.get(self.host)
        if route is None:
            self.refuse(pages.unknown_host() if parts.table.loaded else pages.not_loaded())
        elif is_own_path(self.asked.target):
            self.refuse(pages.no_such_path())
        else:
            self._route = route
            if route.access is Access.PUBLIC:
                self._admit(route)
            else:
                self._check(route)

    def _admit(self, route: Route) -> None:
        parts = self._parts
        parts.streams.note_use(route.pod_id)
        headers = [*pages.NEVER_KEPT]
        cookie = keep_cookies(self.asked.read.get(b"cookie", b""))
        if cookie:
            headers.append(("Cookie", cookie.decode("latin-1")))
        if self.credential is not None and parts.askers is not None and parts.askers.may_come_here(route):
            headers.append((CARRIED, parts.askers.carry(self.credential, self.host)))
        self.answer(Answer(200, tuple(headers)))

    def _unknown(self, *, by_key: bool) -> None:
        if by_key or not self.wants_page:
            self.refuse(pages.unauthenticated())
        elif self._kind == "nginx":
            self.answer(self._told(pages.unauthenticated()))  # the carrier sends them to the sign-in page
        else:
            self._spawn(self._hop(self.asked.target.decode("latin-1")))

    def refuse(self, situation: Situation) -> None:
        """Answer with a page or a problem."""
        if self._kind == "nginx" and situation.status < 500:
            situation = replace(situation, status=403)
        self.answer(self._told(situation))

    def _told(self, situation: Situation) -> Answer:
        console_origin = self._parts.addresses.console_origin
        return pages.answer_for(situation, page=self.wants_page, console_origin=console_origin)
