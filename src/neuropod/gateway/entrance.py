"""The gate's own paths on pod hosts, below /.neuropod/: the entrance, where tickets are redeemed, and the sign-in.

Called by visit; nothing below that path ever reaches a pod. To the sign-in come only visitors whom a controller of the
nginx class sends there (carriers.nginx), with the address that they asked for as `rd`.
"""

import re
from urllib.parse import parse_qs, urlsplit

from neuropod.gateway import pages
from neuropod.gateway.carriers.style import SIGN_IN_PATH
from neuropod.gateway.gate import Doorkeeper
from neuropod.gateway.heads import RequestHead
from neuropod.gateway.pages import Answer, Situation
from neuropod.gateway.routes import Route
from neuropod.settings import Addresses

ENTER_PATH = "/.neuropod/enter"
MOST_FORM_BYTES = 8192
_TARGET = re.compile(r"/[!-~]*")  # what a request's target may hold; no line ends


def is_own_path(target: bytes) -> bool:
    """Tell whether a request is for the gate itself."""
    return target.startswith(b"/.neuropod") and target[10:11] in {b"/", b"?", b""}


def is_sign_in(head: RequestHead) -> bool:
    """Tell whether a visitor was sent to sign in."""
    return head.path == SIGN_IN_PATH.encode() and head.method in {b"GET", b"HEAD"}


def target_after_sign_in(head: RequestHead) -> str:
    """Return where on this host they come back to: what they asked for, else the start.

    Anybody can make a link with any `rd`; only its path and query are taken, so it leads nowhere else.
    """
    query = head.target.partition(b"?")[2].decode("latin-1")
    try:
        asked = urlsplit(parse_qs(query, max_num_fields=8).get("rd", [""])[0])
    except ValueError:
        return "/"
    target = asked.path + (f"?{asked.query}" if asked.query else "")
    return target if _TARGET.fullmatch(target) and not is_own_path(target.encode()) else "/"


async def enter(
    doorkeeper: Doorkeeper, addresses: Addresses, route: Route, head: RequestHead, body: bytes
) -> Answer | Situation:
    """Answer a request for an own path: a visitor who comes from the console with a ticket gets in.

    The console's page has no referrer, so its Origin may be `null`; the ticket is what counts, bound to host and hop.
    """
    if head.path != ENTER_PATH.encode() or head.method != b"POST":
        return pages.no_such_path()
    if head.read.get(b"origin") not in {None, b"null", addresses.console_origin.encode()}:
        return pages.foreign()
    if not head.read.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
        return pages.bad_ticket()
    try:
        tickets = parse_qs(body.decode("ascii"), max_num_fields=4).get("ticket", [])
    except ValueError:
        tickets = []
    entry = None
    if len(tickets) == 1:
        entry = await doorkeeper.enter(route.host, tickets[0], head.read.get(b"cookie", b""))
    if entry is None:
        return pages.bad_ticket()
    # The origin is ours by the settings, so whatever the path looks like it stays on this host.
    return pages.redirect(addresses.pod_origin(route.host) + entry.target, entry.set_cookies)
