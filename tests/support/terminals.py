"""The API's WebSocket for commands, spoken to over a real port of a server of this process."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import uvicorn
from sqlalchemy import update
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from neuropod.api.callers import cookie_name
from neuropod.gateway.app import Gateway, serving_config
from neuropod.pods.records import IncarnationRow
from neuropod.wire.exec import CLOSE, RESIZE, STATUS, STDERR, STDIN, STDOUT, SUBPROTOCOL
from support.api import POD, ApiWorld

SIZE = {"rows": 33, "columns": 77}


@dataclass
class Spoken:
    """One command, as a client sees it."""

    socket: ClientConnection
    output: dict[int, bytearray] = field(default_factory=lambda: {STDOUT: bytearray(), STDERR: bytearray()})
    end: dict[str, Any] | None = None

    async def give(self, data: bytes) -> None:
        await self.socket.send(bytes([STDIN]) + data)

    async def end_input(self) -> None:
        await self.socket.send(bytes([CLOSE, STDIN]))

    async def resize(self, rows: int, columns: int) -> None:
        await self.socket.send(bytes([RESIZE]) + json.dumps({"rows": rows, "columns": columns}).encode())

    async def hear(self) -> bytes:
        """Take one message."""
        message = await self.socket.recv()
        assert isinstance(message, bytes)
        if message[0] == STATUS:
            self.end = json.loads(message[1:])
        else:
            self.output[message[0]] += message[1:]
        return message

    async def until(self, words: bytes, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while words not in self.output[STDOUT]:
                await self.hear()

    async def to_the_end(self, seconds: float = 20) -> int:
        """Take all; return the code with which the WebSocket was closed."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.hear()
                except ConnectionClosed as closed:
                    assert closed.rcvd is not None, closed
                    return closed.rcvd.code


@dataclass
class Served:
    """A world whose API answers on a port."""

    world: ApiWorld
    port: int

    async def running_pod(self, owner: str = "owner", name: str = "lab") -> str:
        """Launch a pod and let its process run."""
        http = await self.world.browser(owner)
        answer = await http.post("/api/v1/pods", json=POD | {"name": name})
        assert answer.status_code == 201, answer.text
        pod_id: str = answer.json()["id"]
        await self.world.run(pod_id)
        async with self.world.database.write() as session:
            statement = update(IncarnationRow).where(IncarnationRow.pod_id == pod_id)
            await session.execute(statement.values(started_at=self.world.clock.now()))
        return pod_id

    async def cookie(self, name: str) -> dict[str, str]:
        """The headers that a page of the console comes with."""
        token = await self.world.session_token(name)
        cookie = f"{cookie_name(self.world.parts.addresses)}={token}"
        return {"Cookie": cookie, "Origin": self.world.console}

    async def key(self, name: str, *scopes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self.world.key(name, *scopes)}"}

    @asynccontextmanager
    async def opened(
        self, pod: str, headers: dict[str, str], *, host: str | None = None, subprotocols: list[str] | None = None
    ) -> AsyncIterator[Spoken]:
        host = host or self.world.parts.addresses.console_host
        async with connect(
            f"ws://{host}:8080/api/v1/pods/{pod}/exec",
            host="127.0.0.1",
            port=self.port,
            additional_headers=headers,
            subprotocols=([SUBPROTOCOL] if subprotocols is None else subprotocols) or None,  # type: ignore[arg-type]
            proxy=None,
            compression=None,
            close_timeout=1,  # of who does not read what comes
        ) as socket:
            yield Spoken(socket)

    @asynccontextmanager
    async def command(
        self, pod: str, headers: dict[str, str], *words: str, terminal: dict[str, Any] | None = None, **given: Any
    ) -> AsyncIterator[Spoken]:
        async with self.opened(pod, headers, **given) as spoken:
            await spoken.socket.send(json.dumps({"command": list(words), "terminal": terminal}))
            yield spoken

    async def refusal(self, pod: str, headers: dict[str, str], **given: Any) -> tuple[int, str]:
        """Return status and code of the problem with which no WebSocket opens."""
        try:
            async with self.opened(pod, headers, **given):
                raise AssertionError("it opened")
        except InvalidStatus as refused:
            assert refused.response.headers["content-type"] == "application/problem+json"
            return refused.response.status_code, json.loads(refused.response.body)["code"]


@asynccontextmanager
async def served(world: ApiWorld, *, ping_seconds: float | None = None) -> AsyncIterator[Served]:
    """Serve the world's API on a free port, as server does, but without a gateway in front."""
    no_gateway = cast("Gateway", SimpleNamespace(protocol=HttpToolsProtocol))
    config = serving_config(cast("Any", world.app), no_gateway, world.settings)
    config.timeout_graceful_shutdown = 2
    if ping_seconds is not None:
        config.ws_ping_interval = ping_seconds
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield Served(world, listener.getsockname()[1])
    finally:
        server.should_exit = True
        await serving
        listener.close()
