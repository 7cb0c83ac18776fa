"""The outermost layers of the app: one log line and one measurement per request, defects caught, bodies kept small.

A request's line holds its route's pattern and path, never its query (SECURITY 25). A defect is logged with its
traceback and answered without it; uvicorn never sees it.
"""

from collections.abc import Awaitable, Callable

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neuropod.api.errors import internal_problem, problem
from neuropod.kit.clock import Clock
from neuropod.kit.errors import NeuropodError
from neuropod.observability.metrics import Metrics

MAX_BODY_BYTES = 1024 * 1024

_API = "/api/v1/"
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_log = structlog.get_logger(__name__)


class Watch:
    """Logs and measures requests, and answers defects."""

    def __init__(self, app: ASGIApp, metrics: Metrics, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._requests = metrics.counter("http_requests_total", "Requests by route.", ("method", "route", "status"))
        self._seconds = metrics.histogram("http_request_seconds", "Time until an answer begins.", ("route",))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock.monotonic()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _with_defaults(message["headers"])}
                self._note(scope, status, self._clock.monotonic() - began)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:  # noqa: BLE001  # the last place that can: whatever it is, it is ours to log
            _log.exception("a request failed", method=scope["method"], path=scope["path"])
            if status == 0:
                await internal_problem()(scope, receive, noting)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")  # a pattern: its values are few
        if scope["path"].startswith(_API) and route.startswith("/") and not route.startswith(_API):
            route = _API + route.removeprefix("/")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if scope["path"] not in _QUIET:
            _log.info(
                "request", method=scope["method"], path=scope["path"], status=status, milliseconds=round(seconds * 1000)
            )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _with_defaults(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Add what every answer carries, unless it has its own: nothing is kept, sniffed, framed or read elsewhere."""
    there = {name.lower() for name, _ in headers}
    added = [pair for pair in _SECURITY_HEADERS if pair[0] not in there]
    if b"cache-control" not in there:
        added.append((b"cache-control", b"no-store"))
    if b"referrer-policy" not in there:
        added.append((b"referrer-policy", b"no-referrer"))
    return [*headers, *added]


class SmallBodies:
    """Refuses bodies that no request of ours has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > MAX_BODY_BYTES:
            await problem(too_large())(scope, receive, send)
            return
        await self._app(scope, _counted(receive), send)


def too_large() -> NeuropodError:
    """Return the error for a body that is too large."""
    error = NeuropodError(f"a request has at most {MAX_BODY_BYTES} bytes", code="too_large")
    error.status = 413
    return error


def _counted(receive: Receive) -> Callable[[], Awaitable[Message]]:
    read = 0

    async def counting() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MAX_BODY_BYTES:
            raise HTTPException(413)
        return message

    return counting
