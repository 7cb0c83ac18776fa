"""What the gateway answers by itself: small pages for people, RFC 9457 problems for programs. Pure.

Called by the proxy when a request does not reach a pod. A page has no script, loads nothing, cannot be framed and
escapes all text; it has no button that changes anything, since it stands on the pod's own origin, where the pod's
scripts could press it (SECURITY 20). It links to the console. While a pod starts the page asks for itself again.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus

from neuropod.gateway.routes import Route
from neuropod.words import Status

_STYLE = """
:root{color-scheme:light dark;--bg:#f4f5f7;--card:#fff;--ink:#1b1f27;--dim:#5c6470;--line:#e1e4e9;--accent:#3a5bd9}
@media(prefers-color-scheme:dark){:root{--bg:#101319;--card:#191d26;--ink:#eceef2;--dim:#9aa3b2;--line:#2a303c;\
--accent:#8ea6ff}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:24px;background:var(--bg);color:var(--ink);\
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:460px;background:var(--card);border:1px solid var(--line);border-radius:16px;padding:36px;\
box-shadow:0 12px 40px rgb(0 0 0/.07)}
.mark{display:flex;align-items:center;gap:10px;color:var(--dim);font-size:14px;margin-bottom:22px;overflow-wrap:anywhere}
.dot{width:10px;height:10px;flex:none;border-radius:50%;background:var(--dim)}
.dot.good{background:#2f9e58}.dot.busy{background:#d99a1c;animation:pulse 1.4s ease-in-out infinite}\
.dot.bad{background:#d6453d}
@keyframes pulse{50%{opacity:.25}}
@media(prefers-reduced-motion:reduce){.dot.busy{animation:none}}
h1{font-size:22px;line-height:1.3;margin:0 0 10px;overflow-wrap:anywhere}
p{margin:0 0 14px;color:var(--dim);overflow-wrap:anywhere}
a{display:inline-block;margin-top:10px;color:var(--accent);font-weight:600;text-decoration:none}
a:hover,a:focus-visible{text-decoration:underline}
code{font:14px ui-monospace,SFMono-Regular,Menlo,monospace}
""".strip()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_RELOAD_SECONDS = 2
_SETTLED = frozenset({Status.STOPPED, Status.FINISHED, Status.FAILED, Status.DELETING})
_TITLES = {
    Status.WAITING: "waits for its turn",
    Status.STARTING: "is starting",
    Status.RUNNING: "is starting",
    Status.STOPPING: "is stopping",
    Status.STOPPED: "is stopped",
    Status.FINISHED: "has finished",
    Status.FAILED: "has failed",
    Status.UNREACHABLE: "cannot be reached",
    Status.DELETING: "is being deleted",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of our own: a page, a problem, or a redirect."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Situation:
    """Why a request does not reach a pod, in words for people and a code for programs."""

    status: int
    code: str
    title: str
    message: str
    dot: str = ""
    reload_seconds: int | None = None
    subject: str = "Neuropod"
    headers: tuple[tuple[str, str], ...] = field(default=())


def unknown_host() -> Situation:
    """Say that nothing is served under this host."""
    return Situation(
        404,
        "unknown_host",
        "Nothing lives here",
        "This address belongs to no pod. It may have been deleted, or mistyped.",
    )


def not_loaded() -> Situation:
    """Say that the gateway has just started and does not know the routes yet."""
    return Situation(
        503, "starting", "One moment", "Neuropod has just started and is looking where this leads.", "busy", 1
    )  # fmt: skip


def forbidden(route: Route) -> Situation:
    """Tell a visitor who is signed in that they may not pass."""
    return Situation(
        403,
        "forbidden",
        "This is not yours to open",
        "You are signed in, but this port is private to its owner. Ask them to let members in, or to make it public.",
        "bad",
        subject=route.host,
    )


def foreign() -> Situation:
    """Refuse a request that another site made the visitor's browser send."""
    return Situation(
        403,
        "foreign_origin",
        "This came from another site",
        "Another site's page sent this request in your name, so it was not let through. Open the address yourself.",
        "bad",
    )


def no_preflight() -> Situation:
    """Refuse a preflight at a port that is not public."""
    return Situation(
        403,
        "preflight_refused",
        "Not for pages of other sites",
        "Pages of other sites may use public ports only.",
        "bad",
    )


def unauthenticated() -> Situation:
    """Refuse a program, or a part of a page, that shows nothing that passes."""
    return Situation(
        401,
        "unauthenticated",
        "Sign in first",
        "This port is not public. Open it in a browser, or send an API key of scope 'ports' as X-Neuropod-Key.",
        headers=(("WWW-Authenticate", 'Neuropod realm="ports"'),),
    )


def no_doorkeeper() -> Situation:
    """Say that nobody can be asked now who the visitor is."""
    return Situation(
        503,
        "unavailable",
        "One moment",
        "Who you are cannot be checked now, because the server does not answer. This page tries again by itself.",
        "busy",
        3,
    )


def bad_ticket() -> Situation:
    """Refuse a ticket that is used, too old, or another browser's."""
    return Situation(
        400,
        "bad_ticket",
        "That did not work",
        "This way in was used already, is too old, or was begun in another browser. Open the pod's address again.",
        "bad",
    )


def no_such_path() -> Situation:
    """Say that nothing is there among the gate's own paths."""
    return Situation(404, "not_found", "Nothing is here", "Paths below /.neuropod/ belong to the gate, not to the pod.")


def bad_request(status: int, message: str) -> Situation:
    """Refuse a request as it is."""
    return Situation(status, "bad_request", "This request cannot be understood", f"{message.capitalize()}.", "bad")


def busy(route: Route) -> Situation:
    """Refuse more requests at once than one pod may have."""
    return Situation(
        503, "busy", f"{route.pod_name} has its hands full", "Too many requests at once. Try again in a moment.",
        "busy", 3, subject=route.host,
    )  # fmt: skip


def bad_gateway(host: str, message: str) -> Situation:
    """Say that the pod took the request and gave no answer that can be passed on."""
    return Situation(502, "bad_gateway", "No answer came back", message, "bad", subject=host)


def no_server() -> Situation:
    """Say that the server behind this gateway is away."""
    return Situation(
        503,
        "unavailable",
        "One moment",
        "The server does not answer; pods go on meanwhile. This page tries again by itself.",
        "busy",
        _RELOAD_SECONDS,
    )


def not_listening(route: Route) -> Situation:
    """Say that the pod runs, and nothing answers at that port."""
    return Situation(
        503,
        "not_listening",
        f"Nothing answers on port {route.port}",
        f"The pod {route.pod_name} is running, but no program in it accepts connections on port {route.port} yet. "
        "This page tries again by itself.",
        "busy",
        _RELOAD_SECONDS,
        subject=route.host,
    )


def unreachable(route: Route) -> Situation:
    """Say that the machine or cluster that runs the pod gives no answer."""
    return Situation(
        503,
        "unreachable",
        f"{route.pod_name} cannot be reached",
        "The machine or cluster that runs this pod does not answer. This page tries again by itself.",
        "busy",
        _RELOAD_SECONDS,
        subject=route.host,
    )


def too_slow(route: Route) -> Situation:
    """Say that the port did not accept a connection in time."""
    return Situation(
        504, "timeout", f"{route.pod_name} does not answer", f"Port {route.port} did not accept a connection in time.",
        "bad", subject=route.host,
    )  # fmt: skip


def status_page(route: Route) -> Situation:
    """Tell what a pod that is not running is, why, and the way to the console."""
    settled = route.status in _SETTLED
    return Situation(
        503,
        route.status.value,
        f"{route.pod_name} {_TITLES[route.status]}",
        route.message,
        ("bad" if route.status is Status.FAILED else "") if settled else "busy",
        None if settled else _RELOAD_SECONDS,
        subject=route.host,
    )


def answer_for(situation: Situation, *, page: bool, console_origin: str) -> Answer:
    """Return the answer: a page for people, a problem (RFC 9457) for programs."""
    headers = [*situation.headers]
    if situation.reload_seconds is not None:
        headers.append(("Retry-After", str(situation.reload_seconds)))
    if page:
        return Answer(situation.status, (*headers, *_page_headers()), _page(situation, console_origin))
    problem = {
        "type": "about:blank",
        "title": situation.title,
        "status": situation.status,
        "detail": situation.message,
        "code": situation.code,
    }
    headers.extend((("Content-Type", "application/problem+json"), *NEVER_KEPT))
    return Answer(situation.status, tuple(headers), json.dumps(problem).encode())


NEVER_KEPT = (
    ("Cache-Control", "no-store"),
    ("CDN-Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


def redirect(location: str, set_cookies: tuple[str, ...] = ()) -> Answer:
    """Return a 303, which a browser follows by GET."""
    cookies = tuple(("Set-Cookie", cookie) for cookie in set_cookies)
    return Answer(303, (("Location", location), *cookies, *NEVER_KEPT))


def answer_head(answer: Answer, more: tuple[str, ...]) -> bytes:
    """Return the head of an answer, with some more header lines."""
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return "\r\n".join((*lines, f"Content-Length: {len(answer.body)}", *more, "", "")).encode("latin-1")


def _page_headers() -> tuple[tuple[str, str], ...]:
    return (("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", _POLICY), *NEVER_KEPT)


def _page(situation: Situation, console_origin: str) -> bytes:
    reload = situation.reload_seconds
    again = "" if reload is None else f'<meta http-equiv="refresh" content="{reload}">'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"{again}<title>{escape(situation.title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<div class="mark"><span class="dot {situation.dot}"></span><code>{escape(situation.subject)}</code></div>'
        f"<h1>{escape(situation.title)}</h1><p>{escape(situation.message)}</p>"
        f'<a href="{escape(console_origin)}/">Open the console</a></main></body></html>'
    ).encode()
