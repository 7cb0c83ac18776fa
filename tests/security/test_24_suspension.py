"""SECURITY 24 with real rows: who is suspended, deleted or signed out by an administrator is out of the gate in 5 s."""

import asyncio
import contextlib

import pytest
from sqlalchemy import select

from neuropod.accounts.records import SessionRow
from neuropod.accounts.visitors import Visitors
from neuropod.ids import SessionId, UserId
from neuropod.words import Scope
from support.api import ApiWorld
from support.gateway import read_request, serving

SECONDS = 5.0
ACTS = {
    "suspend": ("POST", "/api/v1/users/{user}/suspend", {}),
    "delete": ("DELETE", "/api/v1/users/{user}", {"volumes": "keep"}),
    "revoke": ("DELETE", "/api/v1/users/{user}/sessions", {}),
}


async def _events(reader, writer):
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"data: x\n\n")
            await writer.drain()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("act", ACTS)
async def test_streams_of_a_user_who_may_not_any_more_are_cut(sqlite_world: ApiWorld, act: str):
    world = sqlite_world
    owner = world.person("owner").id
    await world.session_token("owner")
    key = await world.key("owner", Scope.PORTS)
    async with world.database.read() as session:
        session_id = await session.scalar(select(SessionRow.id).where(SessionRow.user_id == owner))
    admin = await world.browser("admin")
    method, path, params = ACTS[act]

    async with serving() as served:
        served.doorkeeper._visitors = Visitors(world.database, world.parts.accounts)
        route = await served.pod(_events, owner_id=UserId(owner))
        cookie = f"{served.cookie_name}={served.pass_of(SessionId(session_id or ''), route.host)}"
        by_session, writer = await served.connect()
        writer.write(served.head(route, "GET / HTTP/1.1", f"Cookie: {cookie}", "Sec-Fetch-Site: none", key=None))
        by_key, writer = await served.connect()
        writer.write(served.head(route, key=key))
        for reader in (by_session, by_key):
            await asyncio.wait_for(reader.readuntil(b"data: x\n\n"), 5)

        answer = await admin.request(method, path.format(user=owner), params=params)

        cut = (by_session,) if act == "revoke" else (by_session, by_key)  # keys stay when sessions end
        async with asyncio.timeout(SECONDS):
            for reader in cut:
                with contextlib.suppress(ConnectionError):
                    while await reader.read(65536):
                        pass
        if act == "revoke":
            await asyncio.wait_for(by_key.readuntil(b"data: x\n\n"), 2)
        refused = await served.ask(route, "GET / HTTP/1.1", f"Cookie: {cookie}", "Sec-Fetch-Site: none", key=None)

    assert answer.status_code in {200, 202}
    assert refused.status == 401
