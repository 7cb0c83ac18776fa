"""Logs by the API: as text, and followed."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

from neuropod.ids import PodId
from neuropod.runtimes.fake.world import Script
from neuropod.words import Reason
from support.api import POD, ApiWorld


async def _running(world: ApiWorld, *prints: str) -> str:
    world.fake.scripts["lab"] = Script(prints=prints)
    owner = await world.browser("owner")
    pod = (await owner.post("/api/v1/pods", json=POD)).json()["id"]
    await world.run(pod)
    return str(pod)


class Follower:
    """Reads a stream as a browser does: by the app itself, at its own pace."""

    def __init__(self, world: ApiWorld, path: str, headers: dict[str, str]) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(2)
        self._gone = asyncio.Event()
        self.status = 0
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        route, _, query = path.partition("?")
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": route,
            "raw_path": route.encode(), "query_string": query.encode(), "headers": raw, "root_path": "",
            "client": ("198.51.100.7", 4000), "server": ("127.0.0.1", 8080), "asgi": {"version": "3.0"},
        }  # fmt: skip
        self._task = asyncio.create_task(world.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not hasattr(self, "_asked"):
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            await self._queue.put(message.get("body", b""))
            if not message.get("more_body"):
                await self._queue.put(None)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        rest = b""
        while (part := await asyncio.wait_for(self._queue.get(), 20)) is not None:
            *whole, rest = (rest + part).split(b"\n\n")
            for block in whole:
                fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
                if "event" in fields:
                    yield {"event": fields["event"], "id": fields.get("id"), **json.loads(fields["data"])}

    async def close(self) -> None:
        self._gone.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def _follow(world: ApiWorld, pod: str, query: str = "follow=true", **headers: str) -> Follower:
    browser = await world.browser("owner")
    given = {"host": "app.neuropod.localhost", "cookie": browser.headers["cookie"], **headers}
    return Follower(world, f"/api/v1/pods/{pod}/logs?{query}", given)


async def test_a_log_is_text_and_its_end_can_be_asked_for(world: ApiWorld):
    pod = await _running(world, "one", "two", "three")
    owner = await world.browser("owner")

    whole = await owner.get(f"/api/v1/pods/{pod}/logs")
    last = await owner.get(f"/api/v1/pods/{pod}/logs", params={"tail": 1})

    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.text == "one\ntwo\nthree\n"
    assert last.text == "three\n"


async def test_a_pod_that_never_ran_has_an_empty_log(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await owner.post("/api/v1/pods", json=POD)

    log = await owner.get("/api/v1/pods/lab/logs")
    third_run = await owner.get("/api/v1/pods/lab/logs", params={"incarnation": 3})

    assert (log.status_code, log.text) == (200, "")
    assert third_run.status_code == 404


async def test_a_follower_hears_what_comes_and_the_end(world: ApiWorld):
    pod = await _running(world, "one")
    follower = await _follow(world, pod)
    events = follower.events()
    async with world.database.read() as session:
        source = await world.parts.pods.log_source(session, pod, actor=world.actor("owner"))
    assert source is not None

    first = await anext(events)
    world.fake.print(source[1], "two")
    second = await anext(events)
    world.fake.standing[source[1]].kill(world.clock.now(), Reason.REQUESTED)
    world.fake.nudge(PodId(pod))
    third = await anext(events)

    assert [(event["event"], event.get("text"), event["incarnation"]) for event in (first, second, third)] == [
        ("line", "one", 1), ("line", "two", 1), ("end", None, 1),
    ]  # fmt: skip
    assert [event async for event in events] == []
    await follower.close()


async def test_a_follower_that_comes_back_goes_on_where_it_was(sqlite_world: ApiWorld):
    pod = await _running(sqlite_world, "one", "two", "three")
    first = await _follow(sqlite_world, pod)
    seen = [event async for event in _take(first, 2)]
    await first.close()

    second = await _follow(sqlite_world, pod, **{"last-event-id": seen[1]["id"]})
    rest = [event async for event in _take(second, 1)]

    assert [event["text"] for event in seen + rest] == ["one", "two", "three"]
    await second.close()


async def _take(follower: Follower, count: int) -> AsyncIterator[dict[str, Any]]:
    async for event in follower.events():
        yield event
        count -= 1
        if count == 0:
            return


async def test_fifty_thousand_lines_at_once_come_whole_and_cost_a_slow_follower_little_memory(sqlite_world: ApiWorld):
    lines = tuple(f"line {number} " + "x" * 80 for number in range(50_000))
    pod = await _running(sqlite_world, *lines)
    follower = await _follow(sqlite_world, pod)
    tracemalloc.start()

    count = 0
    async for event in _take(follower, 50_000):
        assert event["text"] == lines[count]
        count += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 50_000
    assert peak < 24 * 1024 * 1024
    await follower.close()


async def test_a_revoked_session_hears_no_more(sqlite_world: ApiWorld):
    pod = await _running(sqlite_world, "one")
    follower = await _follow(sqlite_world, pod)
    events = follower.events()
    await anext(events)
    async with sqlite_world.database.read() as session:
        source = await sqlite_world.parts.pods.log_source(session, pod, actor=sqlite_world.actor("owner"))
    assert source is not None

    async with sqlite_world.database.write() as session:
        (await session.merge(sqlite_world.person("owner"))).suspended_at = sqlite_world.clock.now()
    await sqlite_world.clock.advance(6)
    sqlite_world.fake.print(source[1], "seen while it is being asked")
    told = [event async for event in events]

    assert [event["event"] for event in told] == ["line"]
    await follower.close()
