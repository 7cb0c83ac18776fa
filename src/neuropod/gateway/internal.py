"""What a server tells a gateway that runs as a process of its own: an ASGI app for the server's 0600 Unix socket.

Whoever can open that socket may know everything that is said here, so nothing is checked again; the app must never be
reachable by any other way. `remote.py` is the other end.

- `GET /internal/hello`: the installation, the addresses that URLs and origins come from, the key of carriers.
- `GET /internal/routes`: a stream of JSON lines: `{"set": […], "gone": […]}` first for all routes, then for each change
  (an empty one says that rights may have changed), `{"loaded": true}` once the snapshot is complete, `{}` now and then.
- `POST /internal/gate`: the doorkeeper's questions, as JSON.
- `POST /internal/traffic`: `{"pods": […]}`, which pods were used through that gateway a moment ago.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from neuropod.gateway.gate import Credential, Doorkeeper, Known
from neuropod.gateway.routes import Change, Route
from neuropod.gateway.table import RouteTable
from neuropod.gateway.traffic import Traffic
from neuropod.ids import InstallationId, PodId
from neuropod.settings import Addresses

BEAT_SECONDS = 5.0
_BATCH = 500
_MOST_WAITING = 10_000  # changes that a follower may be behind; then it starts anew
_MOST_BODY = 1024 * 1024

Json = dict[str, Any]


class InternalApp:
    """The app; `server.sock` alone may serve it. Answers 404 for what is not its own."""

    def __init__(
        self,
        installation: InstallationId,
        addresses: Addresses,
        table: RouteTable,
        doorkeeper: Doorkeeper,
        traffic: Traffic | None = None,
    ) -> None:
        self._installation = installation
        self._addresses = addresses
        self._table = table
        self._doorkeeper = doorkeeper
        self._traffic = traffic  # None: nobody here asks which pods are used

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            return
        match scope["method"], scope["path"]:
            case "GET", "/internal/hello":
                key = self._doorkeeper.carrier_key
                hello = {
                    "installation": self._installation,
                    "addresses": self._addresses.model_dump(),
                    "carrier_key": None if key is None else base64.b64encode(key.key).decode(),
                }
                await _answer(send, 200, hello)
            case "GET", "/internal/routes":
                await self._stream(receive, send)
            case "POST", "/internal/gate":
                await self._answer_question(receive, send, self._ask)
            case "POST", "/internal/traffic":
                await self._answer_question(receive, send, self._learn_traffic)
            case _:
                await _answer(send, 404, {"detail": "not found"})

    async def _stream(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        follower = _Follower(self._table)
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/x-ndjson")]}
            )
            while not gone.done():
                line = await follower.next_line(gone)
                if line is None:
                    break
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            follower.end()
            gone.cancel()

    async def _answer_question(
        self, receive: ASGIReceiveCallable, send: ASGISendCallable, ask: Callable[[Json], Awaitable[Json]]
    ) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request" or len(body) > _MOST_BODY:
                return
            body += message["body"]
            more = message["more_body"]
        try:
            answer = await ask(json.loads(body))
        except (ValueError, KeyError, TypeError) as error:
            await _answer(send, 400, {"detail": f"this is not what is asked here: {error!r}"})
            return
        await _answer(send, 200, answer)

    async def _ask(self, question: Json) -> Json:
        doorkeeper = self._doorkeeper
        match question["op"]:
            case "identify":
                credential = Credential(question["key"], question["pass"], question["host"])
                known = await doorkeeper.identify(credential)
                return {"known": None if known is None else known_to_json(known)}
            case "begin":
                hop = await doorkeeper.begin(question["host"], question["target"])
                return {"reference": hop.reference, "set_cookie": hop.set_cookie}
            case "enter":
                cookie = question["cookie"].encode("latin-1")
                entry = await doorkeeper.enter(question["host"], question["ticket"], cookie)
                return {"entry": None if entry is None else {"target": entry.target, "set_cookies": entry.set_cookies}}
            case op:
                raise ValueError(f"unknown op {op!r}")

    async def _learn_traffic(self, told: Json) -> Json:
        pods = [PodId(str(pod_id)) for pod_id in told["pods"]]
        if self._traffic is not None:
            self._traffic.used(pods)
        return {}


def known_to_json(known: Known) -> Json:
    """Return a visitor as `remote.py` reads it."""
    visitor = known.visitor
    return {
        "user_id": visitor.user_id,
        "role": visitor.role,
        "session_id": visitor.session_id,
        "key_id": visitor.key_id,
        "ends_at": None if known.ends_at is None else known.ends_at.isoformat(),
    }


class _Follower:
    """One gateway that follows: the snapshot first, then what changes, with nothing lost in between."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._told_loaded = False
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        routes = tuple(table.routes.values())
        for start in range(0, len(routes), _BATCH):
            self._changes.put_nowait(Change(routes[start : start + _BATCH], ()))
        table.listen(self._changes.put_nowait)

    async def next_line(self, gone: "asyncio.Task[None]") -> bytes | None:
        """Return the next line; None when the follower is too far behind and has to start anew, or is gone."""
        if self._changes.qsize() > _MOST_WAITING:
            return None
        if self._table.loaded and not self._told_loaded and self._changes.empty():
            self._told_loaded = True
            return b'{"loaded": true}\n'
        waiting = asyncio.create_task(self._changes.get())
        await asyncio.wait({waiting, gone}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            return None if gone.done() else b"{}\n"
        return _line(waiting.result())

    def end(self) -> None:
        """Follow no more."""
        self._table.unlisten(self._changes.put_nowait)


def _line(change: Change) -> bytes:
    content = {"set": [route.to_json() for route in change.set], "gone": list(change.gone)}
    return json.dumps(content).encode() + b"\n"


def read_line(line: str) -> tuple[Change | None, bool]:
    """Return the change in a line (None: there is none), and whether it says that the snapshot is complete."""
    content = json.loads(line)
    if "set" not in content:
        return None, bool(content.get("loaded"))
    return Change(tuple(Route.from_json(route) for route in content["set"]), tuple(content["gone"])), False


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: ASGISendCallable, status: int, content: Json) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode(), "more_body": False})
