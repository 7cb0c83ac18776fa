"""When a Jupyter worked last: asked over the runtime's connection, bounded, whatever the pod answers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from neuropod.ids import InstallationId, PodId
from neuropod.kit.secrets import Secret
from neuropod.reconcile import kernels
from neuropod.reconcile.kernels import activities, worked_at
from neuropod.runtimes.contract import Connection, NotReadyError, RuntimeUnavailableError, WorkloadId

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = WorkloadId(InstallationId("npd_test"), PodId("pod_1"), 1)
TOKEN = Secret("a-token-of-jupyter")

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def before(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def told(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


class Reaching:
    """As much of a runtime as is used: a way to a port."""

    def __init__(self, address: tuple[str, int] | Exception) -> None:
        self._address = address

    async def connect(self, workload_id: WorkloadId, port: int) -> Connection:
        assert (workload_id, port) == (ID, 8888)
        if isinstance(self._address, Exception):
            raise self._address
        address = self._address

        async def attach(protocol: asyncio.BaseProtocol) -> asyncio.Transport:
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, *address)
            return transport

        return Connection(attach)


@asynccontextmanager
async def jupyter(handler: Handler) -> AsyncIterator[Reaching]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    yield Reaching(server.sockets[0].getsockname())
    server.close()


def answering(answers: dict[str, object], asked: list[str] | None = None, status: str = "200 OK") -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if asked is not None:
            asked.append(head)
        path = head.split(" ")[1].partition("?")[0]
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode() + json.dumps(answers.get(path, [])).encode())
        writer.close()

    return handle


async def test_kernels_and_terminals_are_asked_with_the_token_and_without_making_activity():
    asked: list[str] = []
    answers = {
        "/api/kernels": [{"execution_state": "idle", "last_activity": told(before(50))}],
        "/api/terminals": [{"name": "1", "last_activity": told(before(20))}],
    }
    async with jupyter(answering(answers, asked)) as runtime:
        assert await worked_at(runtime, ID, TOKEN, NOW) == before(20)

    assert all("?no_track_activity=1 HTTP/1.0" in head for head in asked)
    assert all("Authorization: token a-token-of-jupyter\r\n" in head for head in asked)


async def test_a_jupyter_without_terminals_still_tells_of_its_kernels():
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"terminals" in head:
            writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n{}")
        else:
            writer.write(b'HTTP/1.1 200 OK\r\n\r\n[{"execution_state": "busy"}]')
        writer.close()

    async with jupyter(handle) as runtime:
        assert await worked_at(runtime, ID, None, NOW) == NOW


@pytest.mark.parametrize(
    ("answer", "times"),
    [
        ([], []),
        ([{"execution_state": "idle", "last_activity": told(before(3))}], [before(3)]),
        ([{"execution_state": "busy", "last_activity": told(before(3))}], [NOW, before(3)]),
        ([{"execution_state": "starting"}], [NOW]),
        ([{"last_activity": told(NOW + timedelta(days=400))}], [NOW]),
        ([{"last_activity": "2026-01-01T11:00:00"}, {"last_activity": "soon"}, {"last_activity": 5}], []),
        ({"execution_state": "busy"}, []),
        ("busy", []),
        ([["busy"], None, 1], []),
    ],
)
def test_what_an_answer_says_and_nothing_that_is_later_than_now(answer: object, times: list[datetime]):
    assert list(activities(answer, NOW)) == times


async def _nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n{{{")
    writer.close()


async def _endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n[")
    try:
        while True:
            writer.write(b" " * 65536)
            await writer.drain()
    except ConnectionError:
        writer.close()


async def _deep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 200_000)
    writer.close()


@pytest.mark.parametrize(
    "handler",
    [_nonsense, _endless, _deep, answering({}, status="403 Forbidden")],
    ids=["nonsense", "endless", "deep", "no"],
)
async def test_a_hostile_answer_tells_nothing(handler: Handler):
    async with jupyter(handler) as runtime:
        assert await worked_at(runtime, ID, TOKEN, NOW) is None


async def test_one_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels, "ASK_SECONDS", 0.05)
    let_go = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        writer.close()

    async with jupyter(handle) as runtime:
        began = time.monotonic()
        assert await worked_at(runtime, ID, TOKEN, NOW) is None
        assert time.monotonic() - began < 5
        let_go.set()
        await asyncio.sleep(0)


@pytest.mark.parametrize("error", [NotReadyError("no"), RuntimeUnavailableError("no"), OSError("no")])
async def test_one_that_cannot_be_reached_tells_nothing(error: Exception):
    assert await worked_at(Reaching(error), ID, TOKEN, NOW) is None
