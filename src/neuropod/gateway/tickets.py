"""Hops and tickets: how a browser that signed in at the console comes to pass a pod's gate (SECURITY 19).

1. At the pod host the gate seals path and query of the first request into a *hop* cookie of that host and browser, and
   sends the browser to the console with a *reference*: sealed too, naming the host and the hop, nothing else.
2. The console (api, `GET /gate/continue?ref=…`) opens the reference with `open_reference`, requires its session, looks
   the host up among the routes, and has `mint_ticket` make a ticket for reference and session. Its page POSTs the
   ticket to `https://<host>/.neuropod/enter` (form field `ticket`).
3. There `redeem_ticket` uses it up, once and within 60 s, and only for the host and hop that it was made for. So a
   ticket is worth nothing in another browser, and a reference of one browser nothing in another's. The browser gets its
   pass, loses the hop, and is led to the first request's path and query by a 303 that stays on the host.

Nothing is stored before the console knows who asks, so strangers cannot fill anything.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from neuropod.accounts.access import Actor
from neuropod.db.engine import Session
from neuropod.gateway import store
from neuropod.gateway.passes import open_text, seal_text
from neuropod.gateway.records import GateTicketRow
from neuropod.ids import SessionId, UserId
from neuropod.kit.errors import ForbiddenError
from neuropod.kit.identifiers import new_id, new_token
from neuropod.kit.secrets import Secret, SecretBox, token_hash

HOP_SECONDS = 900  # time enough to sign in
TICKET_SECONDS = 60
_LONGEST_TARGET = 2500  # sealed and encoded it still fits a cookie's 4096 bytes; a longer one is dropped
_REFERENCE_PLACE = "gate/reference"


@dataclass(frozen=True, slots=True)
class Reference:
    """What the console learns: which host, and which hop of which browser."""

    host: str
    hop_id: str


@dataclass(frozen=True, slots=True)
class NewHop:
    """A hop that begins."""

    hop_id: str
    reference: str
    cookie_value: str


def begin_hop(box: SecretBox, host: str, target: str, *, now: datetime) -> NewHop:
    """Return a new hop; `target` is path and query of the visitor's first request."""
    hop_id = new_token(16)
    end = int((now + timedelta(seconds=HOP_SECONDS)).timestamp())
    kept = target if len(target) <= _LONGEST_TARGET else "/"
    return NewHop(
        hop_id,
        reference=seal_text(box, [host, hop_id, end], place=_REFERENCE_PLACE),
        cookie_value=seal_text(box, [kept, end], place=_hop_place(host, hop_id)),
    )


def open_reference(box: SecretBox, reference: str, *, now: datetime) -> Reference | None:
    """Return what a reference names; None when it is forged or too old."""
    match open_text(box, reference, place=_REFERENCE_PLACE):
        case [str(host), str(hop_id), int(end)] if end > now.timestamp():
            return Reference(host, hop_id)
        case _:
            return None


def read_hop(box: SecretBox, host: str, hop_id: str, cookie_value: str, *, now: datetime) -> str | None:
    """Return the path and query that wait in a browser's hop; None when it is not that hop's, or too old."""
    match open_text(box, cookie_value, place=_hop_place(host, hop_id)):
        case [str(target), int(end)] if end > now.timestamp():
            return target
        case _:
            return None


def _hop_place(host: str, hop_id: str) -> str:
    return f"gate/hop/{host}/{hop_id}"


async def mint_ticket(session: Session, reference: Reference, *, actor: Actor, now: datetime) -> Secret:
    """Return a ticket for a browser that is signed in at the console. The caller has looked the host up."""
    if actor.session_id is None or actor.user_id is None:
        raise ForbiddenError("an API key cannot do this; sign in", code="session_needed")
    await store.delete_old_tickets(session, before=now - timedelta(hours=1))
    ticket = new_token()
    session.add(
        GateTicketRow(
            id=new_id("tkt"),
            token_hash=token_hash(ticket),
            host=reference.host,
            hop_id=reference.hop_id,
            session_id=actor.session_id,
            user_id=actor.user_id,
            created_at=now,
            expires_at=now + timedelta(seconds=TICKET_SECONDS),
        )
    )
    return Secret(ticket)


@dataclass(frozen=True, slots=True)
class Redeemed:
    """Whose ticket it was, and the hop that it was for."""

    hop_id: str
    session_id: SessionId
    user_id: UserId


async def redeem_ticket(session: Session, host: str, ticket: str, *, now: datetime) -> Redeemed | None:
    """Use a ticket up; None when it is unknown, used, too old or another host's. Used up it is in any case."""
    row = await store.use_ticket(session, token_hash(ticket), now=now)
    if row is None or row.host != host or row.expires_at <= now:
        return None
    return Redeemed(row.hop_id, SessionId(row.session_id), UserId(row.user_id))
