"""WebSockets: joined to the pod's without being taken apart, once the gate and the pod have agreed."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from neuropod.words import Access, Status
from support.gateway import OWNER, parse, read_request, serving, until

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def _echo(connection):
    async for message in connection:
        await connection.send(message)


def _open(served, route, **headers):
    """Connect as a client; the URL's host is the route's, the address is the gateway's."""
    return connect(
        f"ws://{route.host}:{served.port}/socket?x=1",
        host="127.0.0.1",
        port=served.port,
        additional_headers={name.replace("_", "-"): value for name, value in headers.items()},
        proxy=None,
        max_size=None,
    )


async def _echo_pod(served, **values):
    server = await serve(_echo, "127.0.0.1", 0, max_size=None)
    route = served.route_to(server.sockets[0].getsockname(), **values)
    return server, route


async def test_messages_of_all_sizes_come_back_through_a_socket_opened_with_a_key():
    async with serving() as served:
        server, route = await _echo_pod(served)
        async with server, _open(served, route, X_Neuropod_Key=served.key()) as connection:
            for message in ("hello", b"\x00\xff", "x" * 70_000, bytes(5 << 20)):
                await connection.send(message)
                assert await connection.recv() == message


async def test_a_browser_with_a_pass_gets_in_from_the_pods_own_pages_only():
    async with serving() as served:
        server, route = await _echo_pod(served)
        cookie = served.signed_in(route)
        async with server:
            async with _open(served, route, Cookie=cookie, Origin=served.origin(route)) as connection:
                await connection.send("mine")
                assert await connection.recv() == "mine"
            for origin in ({}, {"Origin": "http://evil-aaaaaaaa-1.neuropod-pods.localhost"}, {"Origin": "null"}):
                with pytest.raises(InvalidStatus) as refused:
                    await _open(served, route, Cookie=cookie, **origin)
                assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("changes", "key", "status"),
    [
        ({}, None, 401),
        ({"owner_id": "usr_other"}, OWNER, 403),
        ({"incarnation": None, "status": Status.STOPPED}, OWNER, 503),
    ],
)
async def test_who_may_not_pass_or_comes_too_early_is_refused_before_the_upgrade(changes, key, status):
    async with serving() as served:
        server, route = await _echo_pod(served)
        served.key()
        served.serve(route, **changes)
        async with server:
            with pytest.raises(InvalidStatus) as refused:
                await _open(served, route, **({"X_Neuropod_Key": served.key()} if key else {}))

            assert refused.value.response.status_code == status


async def test_a_public_port_takes_sockets_from_anywhere():
    async with serving() as served:
        server, route = await _echo_pod(served, access=Access.PUBLIC)
        async with server, _open(served, route, Origin="https://elsewhere.example") as connection:
            await connection.send("hi")
            assert await connection.recv() == "hi"


async def test_the_ends_of_both_sides_are_the_others():
    async with serving() as served:
        held = asyncio.Queue()

        async def hold(connection):
            await held.put(connection)
            await connection.wait_closed()

        server = await serve(hold, "127.0.0.1", 0)
        route = served.route_to(server.sockets[0].getsockname())
        key = served.key()
        async with server:
            client = await _open(served, route, X_Neuropod_Key=key)
            await client.close(4001, "bye")
            pod_side = await held.get()
            await pod_side.wait_closed()
            assert (pod_side.close_code, pod_side.close_reason) == (4001, "bye")

            client = await _open(served, route, X_Neuropod_Key=key)
            (await held.get()).transport.abort()
            with pytest.raises(ConnectionClosed):
                await client.recv()

            client = await _open(served, route, X_Neuropod_Key=key)
            client.transport.abort()
            async with asyncio.timeout(5):
                await (await held.get()).wait_closed()
        await until(lambda: len(served.gateway.streams) == 0, "the streams to end")


async def test_a_socket_that_nobody_reads_is_not_held_by_the_gateway():
    async with serving() as served:
        sent = 0

        async def flood(reader, writer):
            nonlocal sent
            await read_request(reader)
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            while sent < 1 << 30:
                writer.write(bytes(1 << 20))
                await writer.drain()
                sent += 1 << 20

        route = await served.pod(flood, access=Access.PUBLIC)
        _, writer = await served.connect()
        writer.transport.pause_reading()
        writer.write(served.head(route, "GET / HTTP/1.1", *UPGRADE))

        await until(lambda: sent > 0, "the pod to send")
        await asyncio.sleep(1)

        assert sent < 48 << 20


async def test_the_pods_refusal_comes_back_as_it_is():
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async with serving() as served:
        route = await served.pod(pod, access=Access.PUBLIC)

        answer = parse(await served.raw(served.head(route, "GET / HTTP/1.1", *UPGRADE)))

        assert answer.status == 403
        assert answer.content == b"no"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_a_wrong_101_is_a_502(head):
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(head)
        await reader.read()

    async with serving() as served:
        route = await served.pod(pod, access=Access.PUBLIC)

        answer = parse(await served.raw(served.head(route, "GET / HTTP/1.1", *UPGRADE)))

        assert answer.status == 502


async def test_a_101_that_nobody_asked_for_is_a_502():
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET ")
        await reader.read()

    async with serving() as served:
        answer = await served.ask(await served.pod(pod, access=Access.PUBLIC))

        assert answer.status == 502


async def test_what_is_sent_before_the_socket_is_accepted_reaches_nobody():
    got = bytearray()

    async def pod(reader, writer):
        got.extend(await reader.readuntil(b"\r\n\r\n"))
        got.extend(await reader.read(100))

    async with serving() as served:
        route = await served.pod(pod, access=Access.PUBLIC)
        head = served.head(route, "GET / HTTP/1.1", *UPGRADE)

        at_once = parse(await served.raw(head + b"GET /smuggled HTTP/1.1\r\n\r\n"))
        later = parse(await served.raw(head, b"", b"GET /smuggled HTTP/1.1\r\n\r\n"))

        assert (at_once.status, later.status) == (400, 400)
        assert b"smuggled" not in got


async def test_another_upgrade_is_answered_as_a_plain_request():
    async def pod(reader, writer):
        while True:
            _, headers, body = await read_request(reader)
            names = {name.lower() for name, _ in headers}
            content = b"%d %d %b" % ("upgrade" in names, "http2-settings" in names, body)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))

    async with serving() as served:
        route = await served.pod(pod, access=Access.PUBLIC)
        headers = (
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABk",
            "Content-Length: 3",
        )

        answer = parse(
            await served.raw(
                served.head(route, "POST / HTTP/1.1", *headers)
                + b"abc"
                + served.head(route, "GET / HTTP/1.1", "Connection: close")
            )
        )

        assert answer.body.startswith(b"0 0 abcHTTP/1.1 200 OK\r\n")
        assert answer.body.endswith(b"0 0 ")


async def test_sockets_of_other_hosts_are_uvicorns():
    async with serving() as served:
        url = f"ws://app.neuropod.localhost:{served.port}/"
        async with connect(url, host="127.0.0.1", port=served.port, proxy=None) as connection:
            assert await connection.recv() == "hello from the console"
