"""API keys, and how `neuropod login` gets one."""

from datetime import timedelta

import pytest

from neuropod.words import Scope
from support.api import ApiWorld


async def test_a_key_is_shown_once_and_works_until_it_is_revoked(world: ApiWorld):
    browser = await world.browser("owner")

    made = (await browser.post("/api/v1/api-keys", json={"name": "ci", "scopes": ["read", "write"]})).json()
    listed = (await browser.get("/api/v1/api-keys")).json()["items"]
    program = world.http("http://localhost:8080", authorization=f"Bearer {made['key']}")
    worked = await program.get("/api/v1/me")
    await browser.delete(f"/api/v1/api-keys/{made['id']}")
    after = await program.get("/api/v1/me")

    assert [(key["name"], key["prefix"]) for key in listed] == [("ci", made["key"][:10])]
    assert "key" not in listed[0]
    assert (worked.json()["scopes"], worked.json()["via"]) == (["read", "write"], "key")
    assert after.status_code == 401
    assert (await browser.get("/api/v1/api-keys")).json()["items"] == []


async def test_a_key_ends_by_itself(world: ApiWorld):
    browser = await world.browser("owner")
    end = (world.clock.now() + timedelta(hours=1)).isoformat()
    made = await browser.post("/api/v1/api-keys", json={"name": "x", "scopes": ["read"], "expires_at": end})
    program = world.http("http://localhost:8080", authorization=f"Bearer {made.json()['key']}")

    before = await program.get("/api/v1/me")
    await world.clock.advance(3601)
    after = await program.get("/api/v1/me")

    assert (before.status_code, after.status_code) == (200, 401)


async def test_all_that_is_wrong_with_a_key_is_told_at_once(sqlite_world: ApiWorld):
    browser = await sqlite_world.browser("owner")
    wrong = {"name": " ", "scopes": ["read", "admin"], "expires_at": "2020-01-01T00:00:00Z"}

    answer = await browser.post("/api/v1/api-keys", json=wrong)

    assert [field["field"] for field in answer.json()["fields"]] == ["name", "scopes", "expires_at"]


async def test_there_are_only_so_many_keys(sqlite_world: ApiWorld):
    browser = await sqlite_world.browser("owner")
    for _ in range(sqlite_world.settings.limits.api_keys_per_user):
        await sqlite_world.key("owner")

    answer = await browser.post("/api/v1/api-keys", json={"name": "x", "scopes": ["read"]})

    assert (answer.status_code, answer.json()["code"]) == (409, "limit_reached")


@pytest.mark.parametrize(
    ("scopes", "reads", "writes"),
    [({Scope.READ}, 200, 403), ({Scope.WRITE}, 403, 201), ({Scope.READ, Scope.WRITE}, 200, 201),
     ({Scope.PORTS}, 403, 403), ({Scope.ADMIN}, 403, 403)],
)  # fmt: skip
async def test_scopes_are_a_set_and_none_implies_another(
    sqlite_world: ApiWorld, scopes: set[Scope], reads: int, writes: int
):
    program = await sqlite_world.program("owner", *scopes)

    listed = await program.get("/api/v1/pods")
    made = await program.post("/api/v1/pods", json={"name": "lab", "template": "jupyterlab"})

    assert (listed.status_code, made.status_code) == (reads, writes)


async def _ask(world: ApiWorld, *scopes: str) -> dict[str, str]:
    body = {"name": "neuropod on laptop", "scopes": list(scopes or ("read", "write"))}
    return (await world.http("http://127.0.0.1:8080").post("/api/v1/key-requests", json=body)).json()


async def _claim(world: ApiWorld, asked: dict[str, str]):
    program = world.http("http://127.0.0.1:8080")
    return await program.post(f"/api/v1/key-requests/{asked['id']}/claim", json={"secret": asked["secret"]})


async def test_a_program_gets_its_key_once_a_person_has_confirmed_the_code(world: ApiWorld):
    browser = await world.browser("owner")
    asked = await _ask(world)

    waiting = (await _claim(world, asked)).json()
    shown = await browser.get(asked["url"].removeprefix(world.console))
    confirmed = await browser.post("/connect", data={"code": asked["code"].lower(), "decision": "confirm"})
    claimed = (await _claim(world, asked)).json()
    again = await _claim(world, asked)

    me = await world.http("http://localhost", authorization=f"Bearer {claimed['key']['key']}").get("/api/v1/me")
    assert waiting == {"status": "waiting", "key": None}
    assert asked["code"] in shown.text
    assert "neuropod on laptop" in shown.text
    assert confirmed.status_code == 200
    assert (me.json()["email"], me.json()["scopes"]) == ("owner@example.org", ["read", "write"])
    assert again.status_code == 404


async def test_a_refused_program_gets_nothing(world: ApiWorld):
    browser = await world.browser("owner")
    asked = await _ask(world)

    await browser.post("/connect", data={"code": asked["code"], "decision": "refuse"})
    late = await browser.post("/connect", data={"code": asked["code"], "decision": "confirm"})

    assert (await _claim(world, asked)).json() == {"status": "refused", "key": None}
    assert late.status_code == 404


async def test_a_request_ends_after_ten_minutes(world: ApiWorld):
    browser = await world.browser("owner")
    asked = await _ask(world)
    await world.clock.advance(601)

    answer = await browser.post("/connect", data={"code": asked["code"], "decision": "confirm"})

    assert (answer.status_code, (await _claim(world, asked)).status_code) == (404, 404)


async def test_only_the_program_that_asked_gets_the_key(world: ApiWorld):
    browser = await world.browser("owner")
    asked = await _ask(world)
    await browser.post("/connect", data={"code": asked["code"], "decision": "confirm"})

    answer = await _claim(world, asked | {"secret": "guessed"})

    assert answer.status_code == 404
    assert (await _claim(world, asked)).json()["status"] == "confirmed"


async def test_a_client_cannot_confirm_administrators_rights(world: ApiWorld):
    browser = await world.browser("owner")
    asked = await _ask(world, "read", "admin")

    shown = await browser.get(asked["url"].removeprefix(world.console))
    await browser.post("/connect", data={"code": asked["code"], "decision": "confirm"})

    assert "administrator may" not in shown.text
    assert (await _claim(world, asked)).json()["key"]["scopes"] == ["read"]


async def test_one_address_cannot_fill_the_table_with_requests(sqlite_world: ApiWorld):
    statuses = []

    for _ in range(11):
        body = {"name": "x", "scopes": ["read"]}
        statuses.append((await sqlite_world.http().post("/api/v1/key-requests", json=body)).status_code)

    assert statuses == [201] * 10 + [429]
