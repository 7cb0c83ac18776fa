"""Which requests with a pass are the visitor's own will, and which another site made their browser send. Pure.

Pods count as hostile to each other, and all are the same site to a browser: a page of pod A can make the visitor's
browser send requests to private pod B with B's cookie (SECURITY 17). So a pass alone opens nothing; the request must
also come from the pod's own pages, from the address bar, or be a top-level navigation by GET, which changes nothing
and whose answer the other page cannot read. Keys need none of this: no page of another site can send one.
"""

from dataclasses import dataclass

_SAFE = frozenset({b"GET", b"HEAD"})


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a browser tells about a request's origin; None where it said nothing."""

    method: bytes
    origin: bytes | None
    fetch_site: bytes | None
    fetch_mode: bytes | None
    fetch_dest: bytes | None
    referer: bytes | None
    upgrade: bool
    body: bool

    @property
    def top_level_get(self) -> bool:
        """A navigation of a whole tab by GET, as far as the browser says so."""
        return (
            self.method == b"GET"
            and not self.upgrade
            and not self.body
            and self.fetch_mode == b"navigate"
            and self.fetch_dest == b"document"
        )


def is_own_will(request: Circumstances, own_origin: bytes, *, told: bool) -> bool:
    """Tell whether a request with a pass may be let in.

    `told` says whether browsers send Sec-Fetch-* to these hosts at all: they do over https and to localhost. Where the
    settings accept plain http beyond localhost they do not; a safe request without Origin is then let in unless its
    Referer names another site. That is weaker, and docs/reference/settings.md says so.
    """
    if request.upgrade:  # a WebSocket is not under the same-origin policy, so its Origin must be there and ours
        return request.origin == own_origin
    if request.origin is not None and request.origin != b"null":
        return request.origin == own_origin
    if request.fetch_site is not None:
        return request.fetch_site in {b"same-origin", b"none"} or request.top_level_get
    if told or request.origin is not None or request.method not in _SAFE:
        return False
    return request.referer is None or request.referer.startswith(own_origin + b"/")


def wants_page(request: Circumstances, accept: bytes) -> bool:
    """Tell whether a person looks at the answer, so that it should be a page or the way to sign in.

    Programs and the parts of a page get a plain 401 or 503 instead.
    """
    if request.method not in _SAFE or request.upgrade or b"text/html" not in accept:
        return False
    return request.fetch_mode in {None, b"navigate"} and request.fetch_dest in {None, b"document"}
