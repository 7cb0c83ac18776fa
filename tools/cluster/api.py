"""The few calls of the Kubernetes API that the cluster's set-up makes, as its administrator.

Blocking, one connection per call, JSON in and out. It is no client for tests: they have `kubectl` and the product's.
"""

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any

from .places import API_PORT, CONTROL, Cluster

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML


class RefusedError(Exception):
    """The API server answered with an error; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """`call` may be repeated where the method may; OSError while the API server is not there."""

    def __init__(self, cluster: Cluster) -> None:
        self._tls = ssl.create_default_context(cafile=str(cluster.keys / "ca.crt"))
        self._tls.load_cert_chain(cluster.keys / "admin.crt", cluster.keys / "admin.key")

    def call(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Any:
        connection = self._connection(timeout=10)
        try:
            answer = self._request(connection, method, path, body, kind)
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise RefusedError(answer.status, text.decode(errors="replace")[:500])
        return json.loads(text) if text.startswith((b"{", b"[")) else text.decode()

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """Events of a watch, first ADDED for what is there; ends or raises OSError when the server ends it."""
        connection = self._connection(timeout=None)
        try:
            answer = self._request(connection, "GET", f"{path}?watch=true", None, "application/json")
            if answer.status >= 400:
                raise RefusedError(answer.status, answer.read().decode(errors="replace")[:500])
            while line := answer.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def _connection(self, timeout: float | None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(CONTROL, API_PORT, context=self._tls, timeout=timeout)

    def _request(
        self, connection: http.client.HTTPSConnection, method: str, path: str, body: Any, kind: str
    ) -> http.client.HTTPResponse:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": kind, "Accept": "application/json"})
        return connection.getresponse()
