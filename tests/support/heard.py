"""A client that follows everybody's events on a server, over its restarts, and keeps what it heard."""

import json
import threading
from contextlib import suppress
from typing import Any, Self

import httpx

from support.servers import ADMIN_KEY, Server


class Heard:
    """A client that follows everybody's events on one server, over its restarts, until its block ends."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.events: list[dict[str, Any]] = []
        self.resets = 0
        self.begun = threading.Event()
        self._last: str | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        assert self.begun.wait(20)

    def _follow(self) -> None:
        while not self._ends.is_set():
            headers = {"Authorization": f"Bearer {ADMIN_KEY}"} | ({"Last-Event-ID": self._last} if self._last else {})
            with (
                suppress(httpx.TransportError),
                httpx.stream(
                    "GET", f"{self._server.url}/api/v1/events?everybody=true", headers=headers, timeout=20
                ) as stream,
            ):
                self._read(stream)
            self._ends.wait(0.1)

    def _read(self, stream: httpx.Response) -> None:
        block: dict[str, str] = {}
        for line in stream.iter_lines():
            if self._ends.is_set():
                return
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
                continue
            self._last = block.get("id", self._last)
            if "data" in block:
                name = block.get("event", "message")
                self.resets += name == "reset"
                if name == "message":
                    self.events.append(json.loads(block["data"]))
                self.begun.set()
            block = {}

    def kinds(self, pod: str) -> list[str]:
        return [one["kind"] for one in self.events if one["pod_id"] == pod]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Follow no more, also after a failure: the thread ends with its stream, which ends with its server."""
        self._ends.set()
