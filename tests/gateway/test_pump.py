"""Long bodies that go from socket to socket inside the kernel."""

import asyncio
import contextlib
import hashlib
import os
from pathlib import Path

import pytest

from neuropod.gateway.pump import LEAST_BYTES, Pump
from support.gateway import read_request, serving, until

CONTENT = os.urandom(1 << 20) * 24
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def pumps(monkeypatch):
    """Count the pumps that were started."""
    started = []
    start = Pump.start

    def counted(self, *ends):
        started.append(self)
        return start(self, *ends)

    monkeypatch.setattr(Pump, "start", counted)
    return started


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _send_content(reader, writer, content=CONTENT):
    while True:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT))
        writer.write(content)
        await writer.drain()
        if len(content) < len(CONTENT):
            return


async def test_bodies_arrive_whole_and_both_connections_are_used_again(pumps):
    async with serving() as served:
        served.key()
        route = await served.pod(_send_content)
        before = _descriptors()
        reader, writer = await served.connect()

        for _ in range(3):
            writer.write(served.head(route))
            await reader.readuntil(b"\r\n\r\n")
            assert hashlib.sha256(await reader.readexactly(len(CONTENT))).hexdigest() == DIGEST

        assert len(pumps) == 3
        assert served.runtime.dials == 1
        await until(lambda: _descriptors() <= before + 4, "the pumps' descriptors to be closed")


async def test_a_slow_client_gets_it_whole_and_the_pod_waits_for_them(pumps):
    async with serving() as served:
        served.key()
        route = await served.pod(_send_content)
        reader, writer = await served.connect()
        writer.write(served.head(route, "GET / HTTP/1.1", "Connection: close"))
        await reader.readuntil(b"\r\n\r\n")
        digest = hashlib.sha256()

        for _ in range(10):
            digest.update(await reader.read(100_000))
            await asyncio.sleep(0.02)
        digest.update(await reader.read())

        assert digest.hexdigest() == DIGEST
        assert pumps


async def test_a_pod_that_dies_in_the_middle_leaves_the_answer_short(pumps):
    async def pod(reader, writer):
        await _send_content(reader, writer, CONTENT[: 8 << 20])

    async with serving() as served:
        served.key()
        route = await served.pod(pod)

        raw = await served.raw(served.head(route))

        assert len(raw.partition(b"\r\n\r\n")[2]) == 8 << 20
        assert pumps


async def test_a_client_that_goes_in_the_middle_ends_the_pods_side(pumps):
    gone = asyncio.Event()

    async def pod(reader, writer):
        with contextlib.suppress(ConnectionError):
            await _send_content(reader, writer)
            await reader.read()
        gone.set()

    async with serving() as served:
        served.key()
        route = await served.pod(pod)
        before = _descriptors()
        reader, writer = await served.connect()
        writer.write(served.head(route))
        await reader.readexactly(2 << 20)
        assert pumps

        writer.transport.abort()

        await asyncio.wait_for(gone.wait(), 5)
        await until(lambda: len(served.gateway.streams) == 0 and _descriptors() <= before + 2, "all to be closed")


async def test_a_download_whose_key_is_revoked_is_cut(pumps):
    async with serving() as served:
        served.key()
        route = await served.pod(_send_content)
        reader, writer = await served.connect()
        writer.write(served.head(route))
        await reader.readexactly(2 << 20)
        assert pumps

        served.visitors.keys.clear()
        served.serve(route)
        await until(lambda: len(served.gateway.streams) == 0, "the stream to be cut", 5)

        got = 2 << 20
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                got += len(data)
        assert got < len(CONTENT)


async def test_short_bodies_are_not_worth_it(pumps):
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LEAST_BYTES - 1) + bytes(LEAST_BYTES - 1))

    async with serving() as served:
        served.key()

        assert len((await served.ask(await served.pod(pod))).content) == LEAST_BYTES - 1
        assert pumps == []
