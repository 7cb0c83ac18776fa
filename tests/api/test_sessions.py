"""Signing in and out, and what a session's requests need."""

from http.cookies import SimpleCookie

import pytest

from neuropod.api.callers import cookie_name
from neuropod.db.engine import Database
from neuropod.words import Scope
from support.api import PASSWORD, ApiWorld, api_world

SIGN_IN = {"email": "owner@example.org", "password": PASSWORD}


async def test_a_password_signs_in_and_the_token_is_in_the_cookie_alone(world: ApiWorld):
    answer = await world.http(origin=world.console).post("/api/v1/session", json=SIGN_IN)

    cookie = SimpleCookie(answer.headers["set-cookie"])["__Host-neuropod-session"]
    assert answer.status_code == 201
    assert answer.json()["user"]["email"] == "owner@example.org"
    assert cookie.value not in answer.text
    assert (cookie["path"], cookie["samesite"].lower(), cookie["domain"]) == ("/", "strict", "")
    assert cookie["secure"]
    assert cookie["httponly"]


async def test_a_program_signs_in_without_an_origin_to_make_a_key(world: ApiWorld):
    signed_in = await world.http().post("/api/v1/session", json=SIGN_IN)
    cookie = signed_in.headers["set-cookie"].partition(";")[0]
    program = world.http(cookie=cookie, origin=world.console)

    made = await program.post("/api/v1/api-keys", json={"name": "laptop", "scopes": ["read"]})
    ended = await program.delete("/api/v1/session")
    after = await program.get("/api/v1/session")

    assert made.status_code == 201
    assert made.json()["key"].startswith("npk_")
    assert (ended.status_code, after.status_code) == (204, 401)


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
     {"origin": "http://lab-abcdefgh-8888.neuropod-pods.localhost:8080"},
     {"origin": "http://app.neuropod.localhost:8080.evil.example"}],
)  # fmt: skip
async def test_another_site_neither_signs_a_browser_in_nor_uses_its_session(
    sqlite_world: ApiWorld, headers: dict[str, str]
):
    browser = await sqlite_world.browser("owner")
    del browser.headers["origin"]

    signed_in = await sqlite_world.http().post("/api/v1/session", json=SIGN_IN, headers=headers)
    page = await sqlite_world.http().post("/sign-in", data=SIGN_IN, headers=headers)
    changed = await browser.patch("/api/v1/me", json={"name": "X"}, headers=headers)

    assert [answer.status_code for answer in (signed_in, page, changed)] == [403, 403, 403]
    assert changed.json()["code"] == "wrong_origin"


async def test_a_session_changes_nothing_without_saying_where_it_comes_from(sqlite_world: ApiWorld):
    browser = await sqlite_world.browser("owner")
    del browser.headers["origin"]

    reads = await browser.get("/api/v1/me")
    changes = await browser.patch("/api/v1/me", json={"name": "X"})
    same_origin = await browser.patch("/api/v1/me", json={"name": "X"}, headers={"sec-fetch-site": "same-origin"})

    assert [answer.status_code for answer in (reads, changes, same_origin)] == [200, 403, 200]


async def test_a_session_lasts_from_its_last_use(world: ApiWorld):
    used, unused = await world.browser("owner"), await world.browser("owner")

    for _ in range(3):
        await world.clock.advance(10 * 24 * 3600)
        assert (await used.get("/api/v1/session")).status_code == 200

    assert (await unused.get("/api/v1/session")).status_code == 401


async def test_who_is_suspended_is_out_at_once(world: ApiWorld):
    browser, program = await world.browser("owner"), await world.program("owner")
    async with world.database.write() as session:
        user = await session.merge(world.person("owner"))
        user.suspended_at = world.clock.now()

    answers = [await browser.get("/api/v1/me"), await program.get("/api/v1/me")]
    signed_in = await world.http().post("/api/v1/session", json=SIGN_IN)

    assert [answer.status_code for answer in answers] == [401, 401]
    assert (signed_in.status_code, signed_in.json()["code"]) == (401, "wrong_credentials")


async def test_a_key_notes_its_use_to_the_minute(world: ApiWorld):
    program = await world.program("owner", Scope.READ)
    before = world.database.write_transactions

    for _ in range(5):
        await program.get("/api/v1/me")
    one = world.database.write_transactions - before
    await world.clock.advance(61)
    await program.get("/api/v1/me")

    assert one == 1
    assert world.database.write_transactions - before == 2


async def test_a_new_password_ends_other_sessions_and_needs_the_present_one(world: ApiWorld):
    signed_in = await world.http().post("/api/v1/session", json=SIGN_IN)
    browser = world.http(cookie=signed_in.headers["set-cookie"].partition(";")[0], origin=world.console)
    other, program = await world.browser("owner"), await world.program("owner")
    new = "another good password"

    without = await browser.put("/api/v1/me/password", json={"new_password": new})
    short = await browser.put("/api/v1/me/password", json={"new_password": "short", "current_password": PASSWORD})
    done = await browser.put("/api/v1/me/password", json={"new_password": new, "current_password": PASSWORD})

    assert without.json()["fields"][0]["field"] == "current_password"
    assert (short.status_code, short.json()["fields"][0]["code"]) == (422, "too_short")
    assert done.status_code == 204
    assert [(await client.get("/api/v1/me")).status_code for client in (browser, other, program)] == [200, 401, 200]
    assert (await world.http().post("/api/v1/session", json=SIGN_IN)).status_code == 401
    assert (await world.http().post("/api/v1/session", json=SIGN_IN | {"password": new})).status_code == 201


async def test_beyond_localhost_without_tls_the_cookie_is_one_that_browsers_take(sqlite_url: str):
    database = Database(sqlite_url)
    async with api_world(database, domain="lab.example", accept_plain_http=True) as world:
        answer = await world.http().post("/api/v1/session", json=SIGN_IN)

        assert cookie_name(world.parts.addresses) == "neuropod-session"
        assert "secure" not in answer.headers["set-cookie"].lower()
    await database.aclose()


@pytest.mark.parametrize(
    ("trusted", "forwarded", "counted"),
    [((), "203.0.113.9", "198.51.100.7"), (("198.51.100.0/24",), "203.0.113.9", "203.0.113.9"),
     (("198.51.100.0/24",), "1.2.3.4, 203.0.113.9, 198.51.100.8", "203.0.113.9"),
     (("198.51.100.0/24",), "nonsense", "198.51.100.7")],
)  # fmt: skip
async def test_a_forwarded_address_counts_from_trusted_proxies_alone(
    sqlite_url: str, trusted: tuple[str, ...], forwarded: str, counted: str
):
    database = Database(sqlite_url)
    async with api_world(database, trusted_proxies=trusted) as world:
        asked = await world.http().post(
            "/api/v1/key-requests",
            json={"name": "x", "scopes": ["read"]},
            headers={"x-forwarded-for": forwarded},
        )
        async with database.read() as session:
            request = await world.parts.accounts.keys.asked(session, asked.json()["code"])

        assert request.address == counted
    await database.aclose()
