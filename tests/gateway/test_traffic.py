"""A gateway knows which pods are used: by requests, by streams, by what is said on WebSockets; another process tells it."""

import asyncio
import contextlib
import json
import secrets
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from neuropod.gateway.gate import DoorkeeperUnavailableError
from neuropod.gateway.internal import InternalApp
from neuropod.gateway.remote import ServerSocket
from neuropod.gateway.traffic import REPORT_SECONDS, Traffic, TrafficReport
from neuropod.ids import InstallationId, PodId
from support.clocks import ManualClock
from support.gateway import answering, read_request, serving, until

ONE, TWO = PodId("pod_one"), PodId("pod_two")


async def test_a_request_of_somebody_who_is_let_in_uses_the_pod_once():
    async with serving() as served:
        served.key()
        route = await served.pod(answering())

        await served.ask(route)

        assert served.gateway.take_used() == {route.pod_id}
        assert served.gateway.take_used() == set()


async def test_who_is_not_let_in_uses_nothing():
    async with serving() as served:
        route = await served.pod(answering())

        answer = await served.ask(route, key="somebody else's")

        assert answer.status == 401
        assert served.gateway.take_used() == set()


async def test_an_answer_that_goes_on_uses_the_pod_until_its_end():
    end = asyncio.Event()

    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await end.wait()

    async with serving() as served:
        served.key()
        route = await served.pod(pod)
        reader, writer = await served.connect()
        writer.write(served.head(route))
        await reader.readuntil(b"data: 1\n\n")
        served.gateway.take_used()

        while_open = served.gateway.take_used()
        end.set()
        await reader.readuntil(b"0\r\n\r\n")
        await until(lambda: not len(served.gateway.streams), "the stream's end")

        assert while_open == {route.pod_id}
        assert served.gateway.take_used() == set()


async def test_an_open_websocket_uses_the_pod_until_it_was_quiet_for_too_long_though_it_is_kept_alive():
    async def echo(connection):
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async with serving() as served:
        served.key()
        sockets = await serve(echo, "127.0.0.1", 0, ping_interval=None)
        route = served.route_to(sockets.sockets[0].getsockname())
        async with (
            sockets,
            connect(
                f"ws://{route.host}:{served.port}/",
                host="127.0.0.1",
                port=served.port,
                additional_headers={"X-Neuropod-Key": served.key()},
                proxy=None,
                ping_interval=None,
            ) as socket,
        ):
            now = asyncio.get_running_loop().time()
            served.gateway.take_used()
            streams = served.gateway.streams

            assert streams.take_used(now + 3500) == {route.pod_id}

            await asyncio.sleep(0.1)  # a loop's clock stands still within a turn: less may pass by it
            await (await socket.ping())
            assert streams.take_used(now + 3650) == set()

            await socket.send(secrets.token_hex(100))  # which compression leaves larger than a ping
            await socket.recv()
            said = asyncio.get_running_loop().time()
            assert said - now >= 0.05
            assert streams.take_used(now + 3600.02) == {route.pod_id}


class _Server:
    def __init__(self) -> None:
        self.told: list[set[PodId]] = []
        self.away = False

    async def tell_traffic(self, pods):
        if self.away:
            raise DoorkeeperUnavailableError("away")
        self.told.append(set(pods))


async def test_a_gateway_of_its_own_tells_what_it_carried_and_nothing_is_lost_while_the_server_is_away():
    clock, server, used = ManualClock(), _Server(), set()

    def take():
        taken = set(used)
        used.clear()
        return taken

    task = asyncio.create_task(TrafficReport(take, server, clock).run())
    await asyncio.sleep(0)  # it sleeps on the clock now
    await clock.advance(3 * REPORT_SECONDS)
    assert server.told == []

    server.away = True
    used.add(ONE)
    await clock.advance(REPORT_SECONDS)
    server.away = False
    used.add(TWO)
    await clock.advance(REPORT_SECONDS)
    await clock.advance(REPORT_SECONDS)

    assert server.told == [{ONE, TWO}]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_servers_socket_takes_what_other_gateways_tell(tmp_path: Path):
    traffic = Traffic(lambda: {ONE})
    async with serving() as served:
        app = InternalApp(
            InstallationId("npd_test"), served.gateway.addresses, served.gateway.table, served.doorkeeper, traffic
        )
        server = ServerSocket(tmp_path / "none")
        server._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")

        await server.tell_traffic([TWO])
        wrong = await server._client.post("/internal/traffic", content=json.dumps([1]))
        await server.aclose()

    assert wrong.status_code == 400
    assert traffic.take() == {ONE, TWO}
    assert traffic.take() == {ONE}
