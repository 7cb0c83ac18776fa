"""A proxy between a server and its API server that does what networks, load balancers and API servers do to each other.

It runs in a thread of its own, since tests wait with blocking looks. What becomes of a request is asked of `plan`, which
a test sets; what became of each is in `met`. One connection carries one request, so every fault hits that one alone.
"""

import asyncio
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from neuropod.kube.kubeconfig import from_kubeconfig

T = TypeVar("T")

_CONNECT_SECONDS = 5
_LINE = 1 << 20


class Fault(StrEnum):
    """What happens to one request."""

    NONE = "none"
    REFUSED = "refused"  # reset before anything of it was sent on
    SILENT = "silent"  # taken, and never answered
    LATE = "late"  # sent on only when who asked has given up
    ANSWER_LOST = "answer lost"  # it took effect, and the connection is reset instead of the answer
    BUSY = "busy"  # 429, with Retry-After
    ERROR = "error"  # 500, and nothing was done
    ERROR_AFTER = "error after"  # 500, and it took effect
    GONE = "gone"  # 410: for watches
    GONE_WITHIN = "gone within"  # a watch that is told of the 410 as an event, as after a compaction
    CUT = "cut"  # a watch that is reset at its first event


FOR_WRITES = (
    Fault.REFUSED,
    Fault.ANSWER_LOST,
    Fault.BUSY,
    Fault.ERROR,
    Fault.ERROR_AFTER,
    Fault.LATE,
    Fault.SILENT,
)
FOR_READS = (Fault.REFUSED, Fault.ANSWER_LOST, Fault.BUSY, Fault.ERROR, Fault.SILENT)
FOR_WATCHES = (Fault.REFUSED, Fault.CUT, Fault.GONE, Fault.GONE_WITHIN, Fault.BUSY, Fault.ERROR)


@dataclass(frozen=True, slots=True)
class Request:
    """What the proxy sees of a request."""

    method: str
    target: str
    upgrade: bool

    @property
    def watches(self) -> bool:
        return "watch=true" in self.target

    @property
    def writes(self) -> bool:
        return self.method != "GET"


def _nothing(_: Request) -> Fault:
    return Fault.NONE


class FaultyApi:
    """The proxy in front of the API server that a kubeconfig names; use `faulty_api`."""

    def __init__(self, kubeconfig: Path) -> None:
        access = from_kubeconfig(kubeconfig)
        parts = urlsplit(access.server)
        assert parts.hostname is not None
        self.plan: Callable[[Request], Fault] = _nothing
        self.met: Counter[Fault] = Counter()
        self._upstream = parts.hostname, parts.port or 443
        self._host = parts.netloc
        authority = None if access.ca_data is None else access.ca_data.decode()
        self._tls = ssl.create_default_context(cadata=authority)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listening: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._watches: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()
        self.up()

    def close(self) -> None:
        self.down()
        self._on_loop(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def kubeconfig(self, of: Path, folder: Path) -> Path:
        """Return a kubeconfig like that one that comes through here."""
        config = json.loads(of.read_text())
        for entry in config["clusters"]:
            entry["cluster"] = {"server": f"http://127.0.0.1:{self._port}"}
        path = folder / "through-the-proxy.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    # ---- what a test does to all of it

    def up(self) -> None:
        """Take connections (again), at the same address."""
        self._on_loop(self._listen())

    def down(self) -> None:
        """Refuse connections, and reset those that there are: nobody is at that address."""
        self._on_loop(self._leave())

    def cut_watches(self) -> int:
        """Reset all watches that stand; return how many."""

        async def cut() -> int:
            watches = list(self._watches)
            for writer in watches:
                writer.transport.abort()
            return len(watches)

        return self._on_loop(cut())

    # ---- within its thread

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        if self._listening is None:
            self._listening = await asyncio.start_server(self._take, "127.0.0.1", self._port, limit=_LINE)
            self._port = self._listening.sockets[0].getsockname()[1]

    async def _leave(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _end(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            self._serving.discard(task)
            self._open.discard(writer)
            self._watches.discard(writer)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        headers = dict(each.split(": ", 1) for each in lines)
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        request = Request(method, target, "Upgrade" in headers)
        fault = self.plan(request)
        self.met[fault] += 1
        if request.watches:
            self._watches.add(writer)
        # The whole connection is one request's, so its end is the answer's too.
        kept = [f"{name}: {value}" for name, value in headers.items() if name != "Host"]
        more = [f"Host: {self._host}", *([] if request.upgrade else ["Connection: close"])]
        sent = ("\r\n".join([line, *kept, *more]) + "\r\n\r\n").encode("latin-1") + body
        await self._meet(fault, sent, reader, writer)

    async def _meet(
        self, fault: Fault, sent: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match fault:
            case Fault.NONE:
                await self._relay(sent, reader, writer)
            case Fault.REFUSED:
                writer.transport.abort()
            case Fault.SILENT:
                await reader.read()
            case Fault.LATE:
                await reader.read()  # until its end: who asked has given up
                await self._whole(sent)
            case Fault.ANSWER_LOST:
                await self._whole(sent)
                writer.transport.abort()
            case Fault.ERROR_AFTER:
                await self._whole(sent)
                await _answer(writer, 500)
            case Fault.BUSY:
                await _answer(writer, 429, "Retry-After: 1\r\n")
            case Fault.ERROR:
                await _answer(writer, 500)
            case Fault.GONE:
                await _answer(writer, 410)
            case Fault.GONE_WITHIN:
                await _answer(writer, 200, body={"type": "ERROR", "object": _status(410)})
            case Fault.CUT:
                await self._relay(sent, reader, writer, cut=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await asyncio.open_connection(*self._upstream, ssl=self._tls, limit=_LINE)

    async def _whole(self, sent: bytes) -> bytes:
        reader, writer = await self._connect()
        try:
            writer.write(sent)
            return await reader.read()
        finally:
            writer.close()

    async def _relay(
        self, sent: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool = False
    ) -> None:
        above_reader, above = await self._connect()
        above.write(sent)
        ways = [
            asyncio.create_task(_pour(reader, above)),
            asyncio.create_task(_pour(above_reader, writer, cut_after=b"\r\n\r\n" if cut else None)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            above.transport.abort()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut_after: bytes | None = None) -> None:
    """Copy until the end; with `cut_after` reset the target at the first bytes that come after those."""
    before = b""
    while data := await reader.read(64 * 1024):
        if cut_after is not None:
            if cut_after in before:
                writer.transport.abort()
                return
            before += data
        writer.write(data)
        await writer.drain()


async def _answer(writer: asyncio.StreamWriter, status: int, headers: str = "", body: Any = None) -> None:
    content = json.dumps(_status(status) if body is None else body).encode() + b"\n"
    head = f"HTTP/1.1 {status} Provoked\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    await writer.drain()


def _status(code: int) -> dict[str, Any]:
    reasons = {410: "Expired", 429: "TooManyRequests", 500: "InternalError"}
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reasons.get(code, ""),
        "message": "provoked by a test",
    }


@contextmanager
def faulty_api(kubeconfig: Path) -> Iterator[FaultyApi]:
    """Run a proxy in front of the API server that this kubeconfig names."""
    proxy = FaultyApi(kubeconfig)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
