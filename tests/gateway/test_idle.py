"""What may be silent for how long. Real times divided by about 1,000: an hour is three seconds here, other timers less.

No timer but `idle_stream_seconds` cuts a stream, and that one does.
"""

import asyncio
import contextlib

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from neuropod.gateway import app, connector, front
from support.gateway import read_request, serving

IDLE = 3.0


@pytest.fixture(autouse=True)
def _short_timers(monkeypatch):
    monkeypatch.setattr(app, "_KEEP_ALIVE_SECONDS", 0.5)
    monkeypatch.setattr(front, "_HEAD_SECONDS", 0.5)
    monkeypatch.setattr(front, "_LINGER_SECONDS", 0.5)
    monkeypatch.setattr(connector, "_IDLE_SECONDS", 0.1)


def _serving():
    return serving(gateway={"idle_stream_seconds": IDLE, "connect_timeout_seconds": 1, "decision_cache_seconds": 0.1})


async def _silence(seconds: float = 0.6 * IDLE) -> None:
    await asyncio.sleep(seconds)


async def test_an_event_stream_may_be_silent_for_as_long_as_the_setting_says_and_no_longer():
    more = asyncio.Event()

    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await more.wait()
        writer.write(b"data: 2\n\n")
        await asyncio.sleep(60)

    async with _serving() as served:
        served.key()
        route = await served.pod(pod)
        reader, writer = await served.connect()
        writer.write(served.head(route))
        await reader.readuntil(b"data: 1\n\n")

        await _silence()
        more.set()
        await asyncio.wait_for(reader.readuntil(b"data: 2\n\n"), 10)

        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5 * IDLE) != b"0\r\n\r\n"


async def test_an_answer_may_be_long_in_coming():
    async def pod(reader, writer):
        await read_request(reader)
        await _silence()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    async with _serving() as served:
        served.key()

        assert (await served.ask(await served.pod(pod))).content == b"late"


async def test_an_upload_may_pause():
    async def pod(reader, writer):
        _, _, body = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body)

    async with _serving() as served:
        served.key()
        route = await served.pod(pod)
        reader, writer = await served.connect()
        writer.write(served.head(route, "PUT / HTTP/1.1", "Content-Length: 4") + b"ab")

        await _silence()
        writer.write(b"cd")

        assert (await asyncio.wait_for(reader.readuntil(b"abcd"), 10)).startswith(b"HTTP/1.1 200")


async def test_a_websocket_may_be_silent_for_as_long_as_the_setting_says_and_no_longer():
    async def echo(connection):
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async with _serving() as served:
        served.key()
        sockets = await serve(echo, "127.0.0.1", 0, ping_interval=None)
        route = served.route_to(sockets.sockets[0].getsockname())
        async with (
            sockets,
            connect(
                f"ws://{route.host}:{served.port}/",
                host="127.0.0.1",
                port=served.port,
                additional_headers={"X-Neuropod-Key": "key-of-the-owner"},
                proxy=None,
                ping_interval=None,
            ) as socket,
        ):
            for message in ("one", "two"):
                await _silence()
                await socket.send(message)
                assert await asyncio.wait_for(socket.recv(), 10) == message

            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 5 * IDLE)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come_ends_its_connection(sent):
    async with _serving() as served:
        reader, writer = await served.connect()
        writer.write(sent)

        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_kept_connection_that_is_not_used_ends():
    async with _serving() as served:
        reader, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: app.neuropod.localhost\r\n\r\n")

        assert b"console" in await asyncio.wait_for(reader.read(), 10)
