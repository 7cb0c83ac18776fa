"""SECURITY 24: whoever may not pass any more is out within five seconds, with every stream they hold open."""

import asyncio
import contextlib

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from neuropod.words import Access, Role
from support.gateway import OWNER, read_request, serving, until

SECONDS = 5.0


async def _events(reader, writer):
    """A pod that sends an event now and then, for ever."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"data: x\n\n")
            await writer.drain()
            await asyncio.sleep(0.05)


class _Held:
    """A visitor's open streams: an event stream and a WebSocket, both to the same port."""

    def __init__(self, served, stack):
        self._served = served
        self._stack = stack

    async def open(self, route, *headers):
        self._reader, writer = await self._served.connect()
        writer.write(self._served.head(route, "GET / HTTP/1.1", *headers, key=None))
        await asyncio.wait_for(self._reader.readuntil(b"data: x\n\n"), 5)

        async def hold(connection):
            await connection.wait_closed()

        pod = await self._stack.enter_async_context(await serve(hold, "127.0.0.1", 0))
        chat = self._served.route_to(
            pod.sockets[0].getsockname(), "chat", owner_id=route.owner_id, access=route.access, port=3000
        )
        cookies = self._served.visitors.sessions
        given = dict(header.split(": ", 1) for header in headers)
        if "Cookie" in given:  # a pass for the other host, of the same session
            (session_id,) = list(cookies)
            given = {
                "Cookie": f"{self._served.cookie_name}={self._served.pass_of(session_id, chat.host)}",
                "Origin": self._served.origin(chat),
            }
        self._socket = await self._stack.enter_async_context(
            connect(
                f"ws://{chat.host}:{self._served.port}/",
                host="127.0.0.1",
                port=self._served.port,
                additional_headers=given,
                proxy=None,
            )
        )
        return chat

    async def is_cut(self) -> None:
        """Return once both are; TimeoutError after five seconds."""
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(65536):
                    pass
            with pytest.raises(ConnectionClosed):
                await self._socket.recv()

    async def is_open(self) -> None:
        await asyncio.wait_for(self._reader.readuntil(b"data: x\n\n"), 2)
        await asyncio.wait_for(await self._socket.ping(), 2)


@pytest.mark.parametrize("told", [True, False], ids=["with a nudge", "with the nudge lost"])
async def test_a_revoked_session_is_out_and_another_stays(told):
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving())
        route = await served.pod(_events)
        cookie = served.signed_in(route)
        held = _Held(served, stack)
        await held.open(route, f"Cookie: {cookie}", "Sec-Fetch-Site: same-origin")
        other = served.signed_in(route)
        _, writer = await served.connect()
        reader, writer = await served.connect()
        writer.write(served.head(route, "GET / HTTP/1.1", f"Cookie: {other}", "Sec-Fetch-Site: same-origin", key=None))
        await reader.readuntil(b"data: x\n\n")
        await held.is_open()

        served.visitors.sessions.pop(next(iter(served.visitors.sessions)))
        if told:
            served.serve(route)  # what the feed does after a commit that nudged Topic.ROUTES

        await held.is_cut()
        await reader.readuntil(b"data: x\n\n")
        refused = await served.ask(route, "GET / HTTP/1.1", f"Cookie: {cookie}", "Sec-Fetch-Site: none", key=None)
        assert refused.status == 401


async def test_a_revoked_key_is_out():
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving())
        route = await served.pod(_events)
        held = _Held(served, stack)
        await held.open(route, f"X-Neuropod-Key: {served.key()}")

        served.visitors.keys.clear()

        await held.is_cut()
        await until(lambda: len(served.gateway.streams) == 0, "nothing to be open")


async def test_a_member_is_out_when_the_port_becomes_private_and_its_owner_is_not():
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving())
        route = await served.pod(_events, access=Access.MEMBERS)
        member, owner = _Held(served, stack), _Held(served, stack)
        served.key("member", user_id="usr_other")
        chat = await member.open(route, "X-Neuropod-Key: member")
        await owner.open(route, f"X-Neuropod-Key: {served.key()}")

        served.serve(route, access=Access.PRIVATE)
        served.serve(chat, access=Access.PRIVATE)

        await member.is_cut()
        await owner.is_open()


async def test_strangers_are_out_when_a_public_port_becomes_private():
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving())
        route = await served.pod(_events, access=Access.PUBLIC)
        stranger = _Held(served, stack)
        chat = await stranger.open(route)

        served.serve(route, access=Access.PRIVATE)
        served.serve(chat, access=Access.PRIVATE)

        await stranger.is_cut()


async def test_an_administrator_who_is_one_no_more_is_out():
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving())
        route = await served.pod(_events)
        served.key("admin", user_id="usr_admin", role=Role.ADMIN)
        held = _Held(served, stack)
        await held.open(route, "X-Neuropod-Key: admin")

        served.key("admin", user_id="usr_admin", role=Role.CLIENT)

        await held.is_cut()


async def test_streams_of_a_port_that_is_removed_end():
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving())
        route = await served.pod(_events)
        held = _Held(served, stack)
        chat = await held.open(route, f"X-Neuropod-Key: {served.key()}")

        served.withdraw(route)
        served.withdraw(chat)

        await held.is_cut()


async def test_a_pass_that_ends_by_its_time_ends_its_streams():
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving())
        route = await served.pod(_events)
        cookie = served.signed_in(route, seconds=2)
        reader, writer = await served.connect()
        writer.write(served.head(route, "GET / HTTP/1.1", f"Cookie: {cookie}", "Sec-Fetch-Site: none", key=None))
        await reader.readuntil(b"data: x\n\n")

        async with asyncio.timeout(2 + SECONDS):
            with contextlib.suppress(ConnectionError):
                while await reader.read(65536):
                    pass


async def test_an_upload_under_way_is_cut_too():
    taken = 0

    async def pod(reader, writer):
        nonlocal taken
        while data := await reader.read(65536):
            taken += len(data)

    async with serving() as served:
        route = await served.pod(pod, owner_id=OWNER)
        _reader, writer = await served.connect()
        writer.write(served.head(route, "PUT / HTTP/1.1", "Content-Length: 1000000000", key=served.key()))
        await until(lambda: taken, "the upload to begin")

        served.visitors.keys.clear()

        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"x" * 1000)
                    await writer.drain()
                    await asyncio.sleep(0.02)
