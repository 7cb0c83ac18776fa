"""An API server small enough to script: real TLS and HTTP/1.1, objects in memory, watches, WebSockets, and faults.

It speaks as much of https://kubernetes.io/docs/reference/using-api/api-concepts/ as the client uses. A test scripts
faults by `faults` (a function that may answer a request instead), cuts watches, forgets versions, and reads what came.
"""

import asyncio
import json
import select
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol

from neuropod.kube.access import Access


@dataclass
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes
    signs: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def make_pair(name: str, authority: Pair | None = None) -> Pair:
    """A certificate for `name` (also of 127.0.0.1 and localhost), signed by the authority, or by itself as one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.signs[0].subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    if authority is not None:
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority.signs[1] if authority else key, hashes.SHA256())
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        (certificate, key),
    )


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    connection: int

    def param(self, name: str) -> str | None:
        return self.query[name][0] if name in self.query else None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """One answer; `cut` ends the connection, before it (b"") or after that much of it."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bytes | None = None


_STILL_TURNS = 50

Fault = Callable[[Request], "Answer | Awaitable[Answer | None] | None"]
Stream = Callable[[Request, "Sender"], Awaitable[None]]
Socket = Callable[["Channel"], Awaitable[None]]


def status(code: int, reason: str, message: str = "no", **details: Any) -> Answer:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return Answer(code, {**body, "message": message, "details": details})


def takes_no_more(writer: asyncio.StreamWriter) -> bool:
    """Tell whether the kernel's buffers of a connection are full: the other end reads nothing of it."""
    return not select.select([], [writer.get_extra_info("socket").fileno()], [], 0)[1]


class Sender:
    """Sends the parts of a chunked answer."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    def cut(self) -> None:
        self._writer.transport.abort()

    @property
    def takes_no_more(self) -> bool:
        return takes_no_more(self._writer)


class Channel:
    """The server's end of a WebSocket."""

    def __init__(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.machine: Any = None
        self._reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.machine.send_binary(data)
        await self._flush()

    async def messages(self) -> AsyncIterator[bytes]:
        """The messages that come, until the end."""
        while True:
            data = await self._reader.read(65536)
            if not data:
                return
            self.machine.receive_data(data)
            for event in self.machine.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                    yield bytes(event.data)
                if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                    await self._flush()
                    return
            await self._flush()

    @property
    def takes_no_more(self) -> bool:
        return takes_no_more(self.writer)

    async def close(self) -> None:
        self.machine.send_close(1000)
        await self._flush()

    async def _flush(self) -> None:
        with suppress(ConnectionError):  # the other end did not wait for it
            for data in self.machine.data_to_send():
                if data:
                    self.writer.write(data)
            await self.writer.drain()


class FakeApi:
    """The server. `objects` by their path; `requests` are all that came, in order."""

    def __init__(self) -> None:
        self.authority = make_pair("authority")
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.streams: dict[str, Stream] = {}
        self.sockets: dict[str, Socket] = {}
        self.version = 100
        self.oldest = 0  # watches from before that are 410
        self.uids = 0
        self.connections = 0
        self.watching = 0
        self._history: list[tuple[int, str, dict[str, Any]]] = []
        self._changed = asyncio.Condition()
        self._end_watches: list[str] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._pair = make_pair("server", self.authority)

    def access(self, **changes: Any) -> Access:
        return Access(**{"server": f"https://127.0.0.1:{self.port}", "ca_data": self.authority.certificate, **changes})

    async def start(self, folder: Path, *, tls: bool = True) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        file = folder / "server.pem"
        file.write_bytes(self._pair.certificate + self._pair.key)
        context.load_cert_chain(file)
        authority = folder / "authority.pem"
        authority.write_bytes(self.authority.certificate)
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=context if tls else None)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Gone from one moment to the next; `start` brings it back on the same port, with its objects."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def fail_once(self, answer: Answer, *, method: str | None = None) -> None:
        """The next request (of that method) is answered so."""
        left = [answer]

        def fault(request: Request) -> Answer | None:
            return left.pop() if left and (method is None or request.method == method) else None

        self.faults.append(fault)

    # Objects, as others change them.

    async def put(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        """Make or replace the object at a path (`/api/v1/namespaces/n/pods/p`)."""
        before = self.objects.get(path)
        self.version += 1
        metadata = dict(obj.get("metadata", {}))
        parts = path.split("/")
        metadata["name"] = parts[-1]
        if "namespaces" in parts and parts[-2] != "namespaces":
            metadata["namespace"] = parts[parts.index("namespaces") + 1]
        if before is not None:
            metadata.setdefault("uid", before["metadata"]["uid"])
        else:
            self.uids += 1
            metadata["uid"] = f"uid-{self.uids}"
        metadata["resourceVersion"] = str(self.version)
        self.objects[path] = {**obj, "metadata": metadata}
        await self._record("MODIFIED" if before is not None else "ADDED", path)
        return self.objects[path]

    async def remove(self, path: str) -> None:
        self.version += 1
        self.objects[path]["metadata"]["resourceVersion"] = str(self.version)
        await self._record("DELETED", path)
        del self.objects[path]

    async def _record(self, kind: str, path: str) -> None:
        event = {"type": kind, "object": json.loads(json.dumps(self.objects[path]))}
        async with self._changed:
            self._history.append((self.version, path, event))
            self._changed.notify_all()

    async def tell_watches(self, word: str) -> None:
        """`end`: they end as agreed; `cut`; `gone`: an ERROR event; `bookmark`."""
        async with self._changed:
            self._end_watches.append(word)
            self._changed.notify_all()

    async def until_watching(self, count: int = 1) -> None:
        async with asyncio.timeout(20):
            async with self._changed:
                await self._changed.wait_for(lambda: self.watching >= count)

    # One connection.

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._writers.add(writer)
        try:
            while (request := await self._read(reader, number)) is not None:
                self.requests.append(request)
                if not await self._respond(request, reader, writer):
                    writer.close()
                    await writer.wait_closed()
                    break
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    @staticmethod
    async def _read(reader: asyncio.StreamReader, number: int) -> Request | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        line, *lines = head.split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines) if name}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        parts = urlsplit(target)
        query = parse_qs(parts.query, keep_blank_values=True)
        return Request(method, unquote(parts.path), query, headers, body, number)

    async def _respond(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for fault in list(self.faults):
            answer = fault(request)
            if answer is not None and not isinstance(answer, Answer):
                answer = await answer
            if answer is not None:
                return await self._send(writer, answer)
        if request.headers.get("upgrade") == "websocket" and request.path in self.sockets:
            await self._upgrade(request, reader, writer)
            return False
        if request.path in self.streams:
            await self._stream(request, writer, self.streams[request.path])
            return True
        if request.param("watch") == "true":
            if int(request.param("resourceVersion") or 0) < self.oldest:
                return await self._send(writer, status(410, "Expired", "too old resource version"))
            await self._stream(request, writer, self._watch)
            return True
        return await self._send(writer, await self._object(request))

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, answer: Answer) -> bool:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        whole = (
            f"HTTP/1.1 {answer.status} X\r\nContent-Type: application/json\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        if answer.cut is not None:
            writer.write(answer.cut)
            await writer.drain()
            return False
        writer.write(whole)
        await writer.drain()
        return answer.headers.get("Connection") != "close"

    async def _stream(self, request: Request, writer: asyncio.StreamWriter, stream: Stream) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await writer.drain()
        await stream(request, Sender(writer))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _upgrade(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(request, reader, writer)
        wanted = request.headers.get("sec-websocket-protocol", "")
        channel.machine = ServerProtocol(subprotocols=[wanted])  # type: ignore[list-item]
        line = f"GET {request.path} HTTP/1.1\r\n"
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        channel.machine.receive_data(f"{line}{head}\r\n".encode())
        (handshake,) = channel.machine.events_received()
        assert isinstance(handshake, Handshake)
        channel.machine.send_response(channel.machine.accept(handshake))
        for data in channel.machine.data_to_send():
            writer.write(data)
        await writer.drain()
        await self.sockets[request.path](channel)

    # Verbs.

    async def _watch(self, request: Request, sender: Sender) -> None:
        told = int(request.param("resourceVersion") or 0)
        seen = len(self._end_watches)
        async with self._changed:
            self.watching += 1
            self._changed.notify_all()
        try:
            while True:
                words, seen = self._end_watches[seen:], len(self._end_watches)
                for word in words:
                    if word == "end":
                        return
                    if word == "cut":
                        sender.cut()
                        raise ConnectionResetError
                    if word == "bookmark":
                        mark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}}
                        await sender.send(json.dumps(mark).encode() + b"\n")
                    if word == "gone":
                        error = {"type": "ERROR", "object": status(410, "Expired", "too old").body}
                        await sender.send(json.dumps(error).encode() + b"\n")
                news = [entry for entry in self._history if entry[0] > told]
                told = self.version
                for _, path, event in news:
                    if belongs(path, request.path):
                        await sender.send(json.dumps(event).encode() + b"\n")
                async with self._changed:
                    await self._changed.wait_for(
                        lambda told=told, seen=seen: self.version > told or len(self._end_watches) > seen
                    )
        finally:
            self.watching -= 1

    async def _object(self, request: Request) -> Answer:
        path = request.path
        if path == "/version":
            return Answer(body={"major": "1", "minor": "36", "gitVersion": "v1.36.3"})
        if request.method == "GET" and path in self.objects:
            return Answer(body=self.objects[path])
        if request.method == "GET" and path.rpartition("/")[2].endswith("s"):
            return self._page(request)
        if request.method == "POST":
            obj = request.json()
            path = f"{path}/{obj['metadata']['name']}"
            if path in self.objects:
                return status(409, "AlreadyExists", f"{path} already exists")
            return Answer(201, await self.put(path, obj))
        if request.method == "PATCH":
            return await self._patch(request)
        if request.method == "DELETE" and path in self.objects:
            wanted = request.json().get("preconditions", {}).get("uid")
            if wanted not in {None, self.objects[path]["metadata"]["uid"]}:
                return status(409, "Conflict", "Precondition failed: UID")
            await self.remove(path)
            return Answer(body={"kind": "Status", "status": "Success"})
        return status(404, "NotFound", f"{path} not found", name=path.rpartition("/")[2])

    async def _patch(self, request: Request) -> Answer:
        found, patch = self.objects.get(request.path), request.json()
        if request.headers["content-type"] == "application/apply-patch+yaml":
            return Answer(body=await self.put(request.path, merged(found or {}, patch)))
        if found is None:
            return status(404, "NotFound", "not found", name=request.path.rpartition("/")[2])
        uid = patch.get("metadata", {}).get("uid")
        if uid not in {None, found["metadata"]["uid"]}:
            cause = {"reason": "FieldValueInvalid", "message": "field is immutable", "field": "metadata.uid"}
            return status(422, "Invalid", "metadata.uid: field is immutable", name="x", causes=[cause])
        return Answer(body=await self.put(request.path, merged(found, patch)))

    def _page(self, request: Request) -> Answer:
        found = sorted(path for path in self.objects if belongs(path, request.path))
        start, limit = int(request.param("continue") or 0), int(request.param("limit") or 0) or len(found)
        metadata = {"resourceVersion": str(self.version)}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        items = [self.objects[path] for path in found[start : start + limit]]
        return Answer(body={"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})


def belongs(path: str, collection: str) -> bool:
    """Whether the object at `path` is one of a collection (`/api/v1/pods`, `/api/v1/namespaces/n/pods`)."""
    below, _, plural = collection.rpartition("/")
    return path.startswith(below) and path.split("/")[-2] == plural


def merged(base: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


async def until_held_back(sent: Callable[[], int], sender: Callable[[], Sender | Channel | None]) -> None:
    """Wait until what a server sends stands still, since nobody takes it: for many turns of the loop, which both share.

    A client that read it would do so in one of these turns, and the server would go on.
    """
    before, turns = -1, 0
    async with asyncio.timeout(30):
        while turns < _STILL_TURNS:
            at = sender()
            still = at is not None and at.takes_no_more and sent() == before
            turns = turns + 1 if still else 0
            before = sent()
            await asyncio.sleep(0.001)


@asynccontextmanager
async def fake_api(folder: Path) -> AsyncIterator[FakeApi]:
    server = FakeApi()
    await server.start(folder)
    try:
        yield server
    finally:
        await server.stop()
