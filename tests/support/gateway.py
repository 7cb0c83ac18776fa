"""A gateway served by a real uvicorn on a free port of loopback, with pods that are plain servers of the test.

`serving()` gives a `GatewayInTest`: add pods to it (`pod`), let visitors in (`visitors`), talk to it with raw sockets
(`raw`, `exchange`) or any client. Nothing is faked but the runtime (a dial to a loopback port) and who people are.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import uvicorn

from neuropod.accounts.visitors import Visitor
from neuropod.gateway.app import Gateway, serving_config
from neuropod.gateway.doorkeeper import LocalDoorkeeper, Transaction
from neuropod.gateway.passes import CookieNames, Pass, make_pass
from neuropod.gateway.routes import Change, Route
from neuropod.ids import ApiKeyId, InstallationId, PodId, RuntimeId, SessionId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kit.secrets import SecretBox
from neuropod.pods.hosts import pod_host
from neuropod.runtimes.contract import Connection, NotReadyError, WorkloadId
from neuropod.settings import Settings
from neuropod.words import Access, Reason, Role, Status

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
RUNTIME = RuntimeId("fake:gateway")
OWNER = UserId("usr_owner")
KEY = "key-of-the-owner"


class MemoryVisitors:
    """Who people are, as the test says."""

    def __init__(self) -> None:
        self.sessions: dict[str, Visitor] = {}
        self.keys: dict[str, Visitor] = {}

    async def by_session(self, session_id: SessionId) -> Visitor | None:
        return self.sessions.get(session_id)

    async def by_key(self, key: str) -> Visitor | None:
        return self.keys.get(key)


class LoopbackRuntime:
    """Reaches ports of an incarnation, and of that one alone, where the test listens."""

    def __init__(self) -> None:
        self.listening: dict[tuple[PodId, int, int], tuple[str, int]] = {}
        self.dials = 0

    async def connect(self, workload_id: WorkloadId, port: int) -> Connection:
        self.dials += 1
        address = self.listening.get((workload_id.pod, workload_id.incarnation, port))
        if address is None:
            raise NotReadyError("nothing listens")

        async def attach(protocol: asyncio.BaseProtocol) -> asyncio.Transport:
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, *address)
            return transport

        return Connection(attach)


@dataclass
class GatewayInTest:
    gateway: Gateway
    settings: Settings
    port: int
    visitors: MemoryVisitors
    runtime: LoopbackRuntime
    box: SecretBox
    clock: SystemClock
    asgi_requests: list[dict[str, Any]]
    doorkeeper: Any
    address: str = "127.0.0.1"
    _servers: list[asyncio.Server] = field(default_factory=list)
    _handlers: set[asyncio.Task[Any]] = field(default_factory=set)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    # ---- pods

    async def pod(self, handler: Handler, name: str = "lab", **values: Any) -> Route:
        """Serve a pod's port with `handler`; the route is ready unless `values` say otherwise."""
        server = await asyncio.start_server(self._handling(handler), "127.0.0.1", 0, limit=2**20)
        self._servers.append(server)
        return self.route_to(server.sockets[0].getsockname(), name, **values)

    def route_to(self, address: tuple[str, int], name: str = "lab", **values: Any) -> Route:
        owner = values.pop("owner_id", OWNER)
        port = values.pop("port", 8888)
        facts: dict[str, Any] = {
            "host": pod_host(name, user_hash(owner), port, self.gateway.addresses.pods.domain),
            "pod_id": PodId(new_id("pod")),
            "pod_name": name,
            "owner_id": owner,
            "runtime_id": RUNTIME,
            "incarnation": 1,
            "port": port,
            "access": Access.PRIVATE,
            "status": Status.RUNNING,
            "reason": Reason.READY,
            "message": "Running.",
        }
        route = Route(**(facts | values))
        self.runtime.listening[route.pod_id, route.incarnation or 1, port] = address[:2]
        self.serve(route)
        return route

    def serve(self, route: Route, **changes: Any) -> Route:
        """Serve a route, or a changed one."""
        route = replace(route, **changes)
        self.gateway.table.apply(Change((route,), ()))
        return route

    def withdraw(self, route: Route) -> None:
        self.gateway.table.apply(Change((), (route.host,)))

    # ---- visitors

    def key(self, key: str = KEY, *, user_id: UserId = OWNER, role: Role = Role.CLIENT) -> str:
        self.visitors.keys[key] = Visitor(user_id, role, key_id=ApiKeyId(f"id-of-{key}"))
        return key

    def signed_in(
        self, route: Route, *, user_id: UserId = OWNER, role: Role = Role.CLIENT, seconds: float = 3600
    ) -> str:
        """Return a Cookie header with a pass for the route's host, of a new session."""
        session_id = SessionId(new_id("ses"))
        self.visitors.sessions[session_id] = Visitor(user_id, role, session_id=session_id)
        return f"{self.cookie_name}={self.pass_of(session_id, route.host, seconds)}"

    def pass_of(self, session_id: SessionId, host: str, seconds: float = 3600) -> str:
        return make_pass(self.box, host, Pass(session_id, self.clock.now() + timedelta(seconds=seconds)))

    @property
    def cookie_name(self) -> str:
        return CookieNames(trustworthy=True).gate_pass

    def origin(self, route: Route) -> str:
        return self.gateway.addresses.pod_origin(route.host)

    # ---- talking to it

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.address, self.port, limit=2**22)
        self._writers.append(writer)
        return reader, writer

    async def raw(self, *parts: bytes, seconds: float = 10) -> bytes:
        """Send bytes and return all that comes until the connection ends."""
        reader, writer = await self.connect()
        answer = bytearray()
        async with asyncio.timeout(seconds):
            for part in parts:
                writer.write(part)
                await writer.drain()
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(1 << 20):
                    answer += data
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return bytes(answer)

    def head(self, route: Route, start: str = "GET / HTTP/1.1", *headers: str, key: str | None = KEY) -> bytes:
        """Return a request's head with the route's Host and the owner's key."""
        lines = [start, f"Host: {route.host}:{self.port}", *([f"X-Neuropod-Key: {key}"] if key else []), *headers]
        return "\r\n".join((*lines, "", "")).encode("latin-1")

    async def ask(
        self, route: Route, start: str = "GET / HTTP/1.1", *headers: str, body: bytes = b"", key: str | None = KEY
    ):
        """Send one request with `Connection: close` and return the answer."""
        return parse(await self.raw(self.head(route, start, *headers, "Connection: close", key=key) + body))

    def _handling(self, handler: Handler) -> Handler:
        """Serve a connection of a pod's, and let the test end it whatever it does."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            try:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await handler(reader, writer)
            except asyncio.CancelledError:
                writer.transport.abort()
            finally:
                self._handlers.discard(task)
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

        return handle

    async def aclose(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers)
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@dataclass(frozen=True)
class Answered:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    raw: bytes

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found.lower() == name.lower()]

    def __getitem__(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if found else None

    @property
    def content(self) -> bytes:
        """The body without its chunks; AssertionError when it is not complete."""
        if self["transfer-encoding"] != "chunked":
            length = self["content-length"]
            assert length is None or len(self.body) == int(length), "the body is not complete"
            return self.body
        rest, content = self.body, b""
        while True:
            size, _, rest = rest.partition(b"\r\n")
            count = int(size, 16)
            content += rest[:count]
            assert rest[count : count + 2] == b"\r\n", "the body is not complete"
            rest = rest[count + 2 :]
            if count == 0:
                return content


def parse(raw: bytes) -> Answered:
    head, separator, body = raw.partition(b"\r\n\r\n")
    assert separator, raw
    start, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answered(int(start.split(" ")[1]), headers, body, raw)


async def read_request(reader: asyncio.StreamReader) -> tuple[str, list[tuple[str, str]], bytes]:
    """Read one request as a pod would: start line, headers, body."""
    head = await reader.readuntil(b"\r\n\r\n")
    start, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    find = {name.lower(): value for name, value in headers}
    body = b""
    if find.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    elif "content-length" in find:
        body = await reader.readexactly(int(find["content-length"]))
    return start, headers, body


def answering(body: bytes = b"hello", *headers: str, status: str = "200 OK") -> Handler:
    """Return a pod that answers every request alike and keeps its connections."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        while True:
            await read_request(reader)
            writer.write("\r\n".join(lines).encode("latin-1") + body)
            await writer.drain()

    return handle


class Recorder:
    """A pod that keeps what it was asked and answers 200."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, list[tuple[str, str]], bytes]] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            self.requests.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()

    def sent(self, name: str) -> list[str]:
        """Return the values of a header of the newest request."""
        return [value for found, value in self.requests[-1][1] if found.lower() == name.lower()]


async def until(look: Callable[[], Any], what: str, seconds: float = 10) -> Any:
    """Return the first true answer of `look`."""
    async with asyncio.timeout(seconds):
        while not (answer := look()):
            await asyncio.sleep(0.01)
        return answer


def no_transaction() -> Any:
    raise AssertionError("this test redeems no tickets")


@asynccontextmanager
async def serving(
    transaction: Transaction = no_transaction, *, console: Any = None, installation: str = "npd_test", **settings: Any
) -> AsyncIterator[GatewayInTest]:
    """Serve a gateway until the block ends, and `console(GatewayInTest)`, an ASGI app, on all other hosts."""
    made = Settings(**settings)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((made.host, 0))
        port = listener.getsockname()[1]
        addresses = made.addresses(port)
        clock, box, visitors, runtime = (
            SystemClock(),
            SecretBox(SecretBox.new_key()),
            MemoryVisitors(),
            LoopbackRuntime(),
        )
        doorkeeper = LocalDoorkeeper(
            box, visitors, transaction, clock, addresses, pass_seconds=made.gateway.pass_seconds
        )
        gateway = Gateway(made, addresses, InstallationId(installation), {RUNTIME: runtime}, doorkeeper, clock)
        gateway.table.replace({})
        asgi_requests: list[dict[str, Any]] = []
        app = _recording_app(asgi_requests)
        in_test = GatewayInTest(
            gateway, made, port, visitors, runtime, box, clock, asgi_requests, doorkeeper, made.host
        )
        server = uvicorn.Server(serving_config(app if console is None else console(in_test), gateway, made))
        tasks = [
            asyncio.create_task(server._serve([listener])),
            asyncio.create_task(gateway.run()),
        ]
        await until(lambda: server.started, "uvicorn to start")
        try:
            yield in_test
        finally:
            gateway.end()
            server.should_exit = True
            await tasks[0]
            tasks[1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tasks[1]
            await in_test.aclose()


def _recording_app(requests: list[dict[str, Any]]) -> Any:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello from the console"})
            await send({"type": "websocket.close"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        requests.append(scope | {"body": body})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<title>console</title>console"})

    return app
