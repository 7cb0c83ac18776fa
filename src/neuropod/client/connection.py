"""One server, spoken to with one key: addresses, errors, retries, streams. The nouns' modules put methods on top.

What is sent again after a failure is only what may be: anything that never left (the connection was refused), and what
is the same when it comes twice (reads, deletes, and creations with an Idempotency-Key).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from neuropod import __version__
from neuropod.client.errors import NotNeuropodError, UnreachableError, error_of
from neuropod.client.localhost import LoopbackTransport, is_loopback
from neuropod.client.sse import ServerSentEvent, events
from neuropod.kit.errors import NeuropodError
from neuropod.wire.shapes import Answer, Page, Request

AnswerT = TypeVar("AnswerT", bound=Answer)
ItemT = TypeVar("ItemT")

# The waits between tries: for one that never left, and for one that may come twice.
_UNSENT_WAITS = (0.1, 0.4)
_REPEATED_WAITS = (0.3, 1.0)
_BUSY = frozenset({502, 503, 504})
_REPEATABLE = frozenset({"GET", "DELETE"})
_PAGE = 200

_TIMEOUT = httpx.Timeout(30, connect=5)
_STREAM_TIMEOUT = httpx.Timeout(30, connect=5, read=45)  # the server says something every 15 s


class Connection:
    """Raises the errors of `kit.errors` as the server names them; UnreachableError when none answers."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url
        self._sleep = sleep
        here = is_loopback(httpx.URL(url).host)
        if transport is None and here:
            transport = LoopbackTransport(tls=url.startswith("https:"))
        self._client = httpx.Client(
            base_url=url,
            transport=transport,
            timeout=_TIMEOUT,
            headers={"User-Agent": f"neuropod/{__version__}", "Accept": "application/json"},
            trust_env=not here,  # a proxy of the environment is not for this machine
        )
        self.use_key(key)

    def use_key(self, key: str | None) -> None:
        """Send this key from now on."""
        if key is None:
            self._client.headers.pop("Authorization", None)
        else:
            self._client.headers["Authorization"] = f"Bearer {key}"

    @property
    def authorization(self) -> str | None:
        """The header that goes with every request, for what is no request of HTTP's."""
        value: str | None = self._client.headers.get("Authorization")
        return value

    def close(self) -> None:
        """Close it."""
        self._client.close()

    def ask(
        self,
        shape: type[AnswerT],
        method: str,
        path: str,
        *,
        body: Request | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AnswerT:
        """Return the answer in its shape."""
        response = self.send(method, path, body=body, params=params, headers=headers)
        try:
            return shape.model_validate_json(response.content)
        except ValueError as error:
            raise NotNeuropodError(f"{self.url} answered something else than Neuropod's API does") from error

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Request | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Return the answer, already read, once it is a good one."""
        request = self._client.build_request(
            method,
            f"/api/v1{path}",
            json=None if body is None else body.sent(),
            params={name: value for name, value in (params or {}).items() if value is not None},
            headers=dict(headers or {}),
        )
        repeatable = method in _REPEATABLE or "Idempotency-Key" in request.headers
        unsent, repeated = iter(_UNSENT_WAITS), iter(_REPEATED_WAITS if repeatable else ())
        while True:
            failed: NeuropodError
            try:
                response = self._client.send(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                wait, failed = next(unsent, None), self._unreachable(error)
            except httpx.TransportError as error:
                wait, failed = next(repeated, None), self._unreachable(error)
            else:
                if response.is_success:
                    return response
                failed = error_of(response, self.url)
                wait = next(repeated, None) if response.status_code in _BUSY else None
            if wait is None:
                raise failed
            self._sleep(wait)

    def pages(
        self, shape: type[Page[ItemT]], path: str, *, params: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> Iterator[ItemT]:
        """Yield the items of a list, at most `limit`, page by page."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            page = self.ask(shape, "GET", path, params={**(params or {}), "cursor": cursor, "limit": size})
            yield from page.items
            if left is not None:
                left -= len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    @contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """Give an answer whose body has not been read. UnreachableError also when it is cut."""
        request = self._client.build_request(
            "GET",
            f"/api/v1{path}",
            params={name: value for name, value in params.items() if value is not None},
            headers=dict(headers or {}),
            timeout=_STREAM_TIMEOUT,
        )
        try:
            response = self._client.send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                    raise error_of(response, self.url)
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def events(self, path: str, *, params: Mapping[str, Any], last_event_id: str | None) -> Iterator[ServerSentEvent]:
        """Yield Server-Sent Events until the stream ends; UnreachableError when it is cut."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        with self.stream(path, params=params, headers=headers) as response:
            yield from events(response.iter_bytes())

    def _unreachable(self, error: httpx.TransportError) -> UnreachableError:
        return UnreachableError(f"no server answers at {self.url} ({_why(error)})")


def _why(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "time-out"
    text = str(error)
    if "refused" in text:
        return "connection refused"
    if "Name or service not known" in text or "name resolution" in text or "No address associated" in text:
        return "its name is not known"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted here; SSL_CERT_FILE names another bundle"
    return text or type(error).__name__
