"""One HTTP connection to the API: addresses, keys, errors, retries, event streams. `api.py` puts the nouns on top.

Retried are only requests that may be sent twice (GET, or with an Idempotency-Key), and only when no answer came.
"""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from pydantic import ValidationError

from neuropod.client.errors import ClientError, NotSignedInError, ProblemError, UnreachableError
from neuropod.client.profile import Profile
from neuropod.wire.problems import Problem

_TRIES = 3
_UNAUTHENTICATED = 401


class Http:
    """Talks to one server with one key."""

    def __init__(self, url: str, key: str | None, transport: httpx.BaseTransport | None = None) -> None:
        address = httpx.URL(url)
        headers = {"User-Agent": "neuropod"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        host = address.host
        if host == "localhost" or host.endswith(".localhost"):
            # RFC 6761: these names are this machine; not every resolver knows, so none is asked.
            headers["Host"] = address.netloc.decode()
            address = address.copy_with(host="127.0.0.1")
        self.url = url
        self._client = httpx.Client(
            base_url=address.join("/api/v1/"),
            headers=headers,
            timeout=httpx.Timeout(30, read=60),
            transport=transport,
            trust_env=host not in {"127.0.0.1", "localhost"} and not host.endswith(".localhost"),
        )

    @classmethod
    def of(cls, profile: Profile) -> "Http":
        """Return the connection of a profile."""
        return cls(profile.url, profile.key)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> httpx.Response:
        """Return the answer. Raises UnreachableError, NotSignedInError, ProblemError."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        tries = _TRIES if method == "GET" or idempotency_key is not None else 1
        given = {name: value for name, value in (params or {}).items() if value is not None}
        while True:
            tries -= 1
            try:
                answer = self._client.request(method, path.lstrip("/"), json=body, params=given, headers=headers)
            except httpx.TransportError as error:
                if tries == 0:
                    raise self._unreachable(error) from error
                time.sleep(0.3)
                continue
            return self._checked(answer)

    def events(
        self, path: str, *, params: Mapping[str, Any], last_event_id: str | None
    ) -> Iterator[tuple[str, str, str]]:
        """Yield `(event, id, data)` of a Server-Sent Events stream (the HTML standard, 9.2) until it ends.

        Raises like `request`; a stream that is cut raises UnreachableError, and the caller resumes by the last id.
        """
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        try:
            with self._client.stream("GET", path.lstrip("/"), params=dict(params), headers=headers) as answer:
                if not answer.is_success:
                    answer.read()
                self._checked(answer)
                yield from _events(answer.iter_lines())
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        if answer.status_code == _UNAUTHENTICATED:
            raise NotSignedInError(
                f"{self.url} does not take this key: run `neuropod login {self.url}`, or start the server again with "
                "`make up` if it is this machine's"
            )
        try:
            problem = Problem.model_validate_json(answer.content)
        except ValidationError:
            raise ClientError(f"{self.url} answered {answer.status_code}, which is not Neuropod's API") from None
        raise ProblemError(problem)

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(f"no server answers at {self.url} ({reason}): is it running? `make up` starts one here")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    event, event_id = "message", ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield event, event_id, "\n".join(data)
            event, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                event = value
            case "id":
                event_id = value
            case "data":
                data.append(value)


def json_text(value: Any) -> str:
    """Return JSON as the commands print it."""
    return json.dumps(value, indent=2, ensure_ascii=False)
