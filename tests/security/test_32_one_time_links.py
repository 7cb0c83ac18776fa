"""SECURITY 32: one-time links are not logged, not used by a look, not used twice; sessions rotate at sign-in.

Identities by issuer and subject belong to the issue that builds sign-in by other providers.
"""

import io
import logging

import structlog
from sqlalchemy import text

from neuropod.api.callers import cookie_name
from neuropod.api.machine import Machine
from neuropod.observability.logs import configure
from support.api import PASSWORD, ApiWorld


async def _link(world: ApiWorld, email: str = "owner@example.org") -> tuple[str, str]:
    made = await Machine(world.parts).sign_in_link(email)
    address, _, token = made.url.partition("#")
    return address, token


async def test_the_token_is_in_the_fragment_and_a_look_does_not_use_it_up(world: ApiWorld):
    address, token = await _link(world)
    page = world.http(origin=world.console)

    looks = [(await page.request(method, address)).status_code for method in ("GET", "GET", "HEAD")]
    by_query = await page.get(address, params={"token": token})
    signed_in = await page.post("/sign-in/link", data={"token": token})

    assert "?" not in address
    assert looks[:2] == [200, 200]
    assert "set-cookie" not in by_query.headers
    assert signed_in.status_code == 303


async def test_a_link_works_once_for_fifteen_minutes(world: ApiWorld):
    page = world.http(origin=world.console)
    _, used = await _link(world)
    first = await page.post("/sign-in/link", data={"token": used})
    second = await page.post("/sign-in/link", data={"token": used})
    _, old = await _link(world)
    await world.clock.advance(15 * 60 + 1)
    late = await page.post("/sign-in/link", data={"token": old})

    assert [answer.status_code for answer in (first, second, late)] == [303, 401, 401]


async def test_no_token_of_a_link_or_session_gets_into_the_log(world: ApiWorld):
    root = logging.getLogger()
    before = (root.handlers, root.level)
    stream = io.StringIO()
    configure("json", "debug", stream)
    try:
        address, token = await _link(world)
        page = world.http(origin=world.console)
        await page.get(f"{address}?token={token}")
        answer = await page.post("/sign-in/link", data={"token": token})
        session = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        await world.http(cookie=f"{cookie_name(world.parts.addresses)}={session}").get("/")
        structlog.get_logger().info("made a link", url=f"{address}#{token}")
    finally:
        root.handlers = before[0]
        root.setLevel(before[1])
        structlog.reset_defaults()

    assert '"path": "/sign-in/link"' in stream.getvalue()
    assert token not in stream.getvalue()
    assert session not in stream.getvalue()


async def test_another_site_cannot_use_a_link_in_somebodys_browser(world: ApiWorld):
    _, token = await _link(world)

    foreign = await world.http(origin="http://evil.example").post("/sign-in/link", data={"token": token})
    own = await world.http(origin=world.console).post("/sign-in/link", data={"token": token})

    assert (foreign.status_code, own.status_code) == (403, 303)


async def test_a_session_that_was_planted_is_worth_nothing_after_the_sign_in(world: ApiWorld):
    name = cookie_name(world.parts.addresses)
    planted = await world.session_token("outsider")
    unknown = "x" * 43

    for cookie in (planted, unknown):
        victim = world.http(origin=world.console, cookie=f"{name}={cookie}")
        answer = await victim.post("/sign-in", data={"email": "owner@example.org", "password": PASSWORD})
        given = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]

        assert given not in (planted, unknown)
        assert (await world.http(cookie=f"{name}={cookie}").get("/api/v1/me")).status_code == 401
        assert (await world.http(cookie=f"{name}={given}").get("/api/v1/me")).json()["email"] == "owner@example.org"


async def test_only_hashes_of_tokens_are_kept(world: ApiWorld):
    _, token = await _link(world)
    session_token = await world.session_token("owner")

    async with world.database.read() as session:
        rows = [
            str((await session.execute(text(f"SELECT * FROM {table}"))).all())
            for table in ("sessions", "sign_in_links", "api_keys", "audit")
        ]

    assert [row for row in rows if token in row or session_token in row] == []
