"""A reader of Server-Sent Events straight from the ASGI app, at the test's own pace."""

import asyncio
import json
from typing import Any

from support.api import ApiWorld


class Reader:
    """One open stream; `closed` tells that the app has ended it."""

    def __init__(self, world: ApiWorld, path: str, headers: dict[str, str], *, paused: bool = False) -> None:
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._reads = asyncio.Event()
        if not paused:
            self._reads.set()
        self._asked = False
        self._rest = b""
        self._events: list[dict[str, Any]] = []
        self.status = 0
        self.comments = 0
        self.last_id: str | None = None
        route, _, query = path.partition("?")
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": route,
            "raw_path": route.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("198.51.100.7", 4000), "server": ("127.0.0.1", 8080), "asgi": {"version": "3.0"},
        }  # fmt: skip
        self.task = asyncio.create_task(world.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        await self._reads.wait()  # a socket whose other end takes nothing
        self._parts.put_nowait(message.get("body", b""))
        if not message.get("more_body"):
            self._parts.put_nowait(None)

    def read_on(self) -> None:
        self._reads.set()

    async def next(self, seconds: float = 20) -> dict[str, Any]:
        """The next frame but comments: its name, its id and its data."""
        async with asyncio.timeout(seconds):
            while not self._events:
                part = await self._parts.get()
                if part is None:
                    raise EOFError
                *whole, self._rest = (self._rest + part).split(b"\n\n")
                for block in whole:
                    fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
                    if "data" not in fields:
                        self.comments += 1
                        continue
                    name = fields.get("event", "message")
                    self._events.append({"name": name, "id": fields.get("id"), "data": json.loads(fields["data"])})
        event = self._events.pop(0)
        self.last_id = event["id"] or self.last_id
        return event

    async def happened(self, kind: str, seconds: float = 20) -> dict[str, Any]:
        """The data of the next event of this kind."""
        while True:
            event = await self.next(seconds)
            if event["name"] == "message" and event["data"]["kind"] == kind:
                return event["data"]

    async def closed(self, seconds: float) -> bool:
        await asyncio.wait({self.task}, timeout=seconds)
        return self.task.done()

    async def close(self) -> None:
        self._gone.set()
        await asyncio.wait({self.task}, timeout=5)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def follow(
    world: ApiWorld, who: str, query: str = "", *, paused: bool = False, begin: bool = True, **headers: str
) -> Reader:
    """Follow the events by a session of somebody's; the stream has begun."""
    cookie = (await world.browser(who)).headers["cookie"]
    given = {"host": "app.neuropod.localhost", "cookie": cookie, **headers}
    reader = Reader(world, f"/api/v1/events?{query}", given, paused=paused)
    if begin and not paused:
        first = await reader.next()
        assert first["name"] == "begin", first
    return reader
