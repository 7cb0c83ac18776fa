"""The way from the console to a pass, as a browser and the console go it."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from neuropod.accounts.access import Actor
from neuropod.accounts.records import SessionRow
from neuropod.db.engine import Database
from neuropod.gateway.routes import Route
from neuropod.gateway.tickets import mint_ticket, open_reference
from neuropod.ids import SessionId, UserId
from neuropod.kit.identifiers import new_id
from neuropod.words import Role, Scope
from support.gateway import Answered, GatewayInTest
from support.rows import NOW, user_row


async def console_session(database: Database) -> Actor:
    """Return the actor of a new user's console session."""
    user = user_row()
    row = SessionRow(
        id=new_id("ses"), user_id=user.id, token_hash=new_id("h"), created_at=NOW, used_at=NOW,
        expires_at=NOW + timedelta(days=9999), address="127.0.0.1", user_agent="test",
    )  # fmt: skip
    async with database.write() as session:
        session.add(user)
        await session.flush()
        session.add(row)
    return Actor(UserId(user.id), Role.CLIENT, frozenset({Scope.READ}), "session", session_id=SessionId(row.id))


class Browser:
    """Keeps cookies of one pod host."""

    def __init__(self, served: GatewayInTest, route: Route) -> None:
        self.served = served
        self.route = route
        self.cookies: dict[str, str] = {}

    async def get(self, target: str = "/") -> Answered:
        """Follow a link from another site."""
        return await self._ask(
            f"GET {target} HTTP/1.1", "Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document",
            "Sec-Fetch-Site: cross-site",
        )  # fmt: skip

    async def post_ticket(self, ticket: str, *headers: str) -> Answered:
        """Send the console's form."""
        body = urlencode({"ticket": ticket}).encode()
        return await self._ask(
            "POST /.neuropod/enter HTTP/1.1",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
            *(headers or (f"Origin: {self.served.gateway.addresses.console_origin}",)),
            body=body,
        )

    async def _ask(self, start: str, *headers: str, body: bytes = b"") -> Answered:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = (*headers, f"Cookie: {cookie}") if cookie else headers
        answer: Any = await self.served.ask(self.route, start, *sent, body=body, key=None)
        for set_cookie in answer.all("set-cookie"):
            assert set_cookie.startswith("__Host-")
            attributes = {part.strip().partition("=")[0] for part in set_cookie.split(";")[1:]}
            assert {"Secure", "HttpOnly", "Path"} <= attributes
            assert "Domain" not in attributes
            name, _, value = set_cookie.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if "Max-Age=0" not in set_cookie:
                self.cookies[name] = value
        return answer


def reference_of(answer: Answered) -> str:
    """Return the reference with which the gate sent the browser to the console."""
    assert answer.status == 303, answer.raw
    return parse_qs(urlsplit(answer["location"] or "").query)["ref"][0]


async def ticket_for(served: GatewayInTest, database: Database, actor: Actor, reference: str) -> str:
    """Do what the console's page does."""
    now = served.clock.now()
    opened = open_reference(served.box, reference, now=now)
    assert opened is not None
    async with database.write() as session:
        return (await mint_ticket(session, opened, actor=actor, now=now)).reveal()
