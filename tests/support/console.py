"""A console as small as can be, for tests of the gateway in a browser: it is signed in and passes browsers on."""

from html import escape
from typing import Any
from urllib.parse import parse_qs

from neuropod.accounts.access import Actor
from neuropod.db.engine import Database
from neuropod.gateway.tickets import open_reference
from support.gateway import GatewayInTest
from support.tickets import ticket_for

SESSION = "__Host-neuropod-session"


class SmallConsole:
    """`/` signs the browser in as `actor`; `/gate/continue` does what the real page does."""

    def __init__(self, served: GatewayInTest, database: Database, actor: Actor) -> None:
        self._served = served
        self._database = database
        self._actor = actor

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self._served.asgi_requests.append(scope)
        headers = [(b"content-type", b"text/html"), (b"referrer-policy", b"no-referrer")]
        body = "<title>console</title>console"
        if scope["path"] == "/":
            headers.append((b"set-cookie", f"{SESSION}=s; Path=/; Secure; HttpOnly; SameSite=Strict".encode()))
        if scope["path"] == "/gate/continue":
            (reference,) = parse_qs(scope["query_string"].decode())["ref"]
            opened = open_reference(self._served.box, reference, now=self._served.clock.now())
            assert opened is not None
            ticket = await ticket_for(self._served, self._database, self._actor, reference)
            action = f"{self._served.gateway.addresses.pod_origin(opened.host)}/.neuropod/enter"
            body = (
                f'<form method="post" action="{escape(action)}"><input name="ticket" value="{escape(ticket)}"></form>'
                "<script>document.forms[0].submit()</script>"
            )
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})

    def cookies_seen(self, path: str) -> list[bytes]:
        """Return the Cookie headers of the requests for a path."""
        return [
            dict(scope["headers"]).get(b"cookie", b"") for scope in self._served.asgi_requests if scope["path"] == path
        ]
