"""Which hosts are served, and what on which (DESIGN §5, SECURITY 21's part of the API)."""

import pytest

from support.api import ApiWorld


@pytest.mark.parametrize(
    "host",
    ["evil.example", "app.neuropod.localhost.evil.example", "neuropod.localhost", "xapp.neuropod.localhost",
     "app.neuropod.localhost.", "10.0.0.1:8080", "169.254.169.254"],
)  # fmt: skip
async def test_an_unknown_host_gets_nothing(sqlite_world: ApiWorld, host: str):
    nobody = sqlite_world.http()

    answers = [await nobody.get(path, headers={"host": host}) for path in ("/", "/api/v1/me", "/sign-in", "/metrics")]

    assert [answer.status_code for answer in answers] == [404] * 4


@pytest.mark.parametrize("host", ["", "a b", "app.neuropod.localhost:x", "user@app.neuropod.localhost", "a/b", "[::1"])
async def test_a_doubtful_host_is_a_400(sqlite_world: ApiWorld, host: str):
    answer = await sqlite_world.http().get("/", headers={"host": host})

    assert answer.status_code == 400


async def test_two_hosts_are_a_400(sqlite_world: ApiWorld):
    hosts = [("host", "app.neuropod.localhost:8080"), ("host", "evil.example")]

    answer = await sqlite_world.http().get("/", headers=hosts)

    assert answer.status_code == 400


async def test_a_forwarded_host_is_not_looked_at(sqlite_world: ApiWorld):
    headers = {"host": "evil.example", "x-forwarded-host": "app.neuropod.localhost"}

    answer = await sqlite_world.http().get("/sign-in", headers=headers)

    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_told_on_any_host(sqlite_world: ApiWorld, path: str):
    answer = await sqlite_world.http().get(path, headers={"host": "10.1.2.3:8080"})

    assert answer.status_code == 200


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST"])
async def test_the_bare_address_serves_the_api_to_keys_alone(sqlite_world: ApiWorld, host: str):
    key = await sqlite_world.program("owner")
    browser = await sqlite_world.browser("owner")

    by_key = await key.get("/api/v1/me", headers={"host": host})
    by_cookie = await browser.get("/api/v1/me", headers={"host": host})

    assert (by_key.status_code, by_cookie.status_code) == (200, 401)


@pytest.mark.parametrize(
    ("path", "location"),
    [("/", "/"), ("/sign-in", "/sign-in"), ("//evil.example/x", "//evil.example/x"), ("/a%0d%0ab", "/a%0d%0ab")],
)
async def test_pages_at_the_bare_address_lead_to_the_console_and_nowhere_else(
    sqlite_world: ApiWorld, path: str, location: str
):
    nobody = sqlite_world.http()

    answer = await nobody.request("GET", f"http://127.0.0.1:8080{path}")

    assert answer.status_code == 307
    assert answer.headers["location"] == f"{sqlite_world.console}{location}"


async def test_the_apis_own_host_serves_the_api(sqlite_world: ApiWorld):
    key = await sqlite_world.program("owner")

    answer = await key.get("http://api.neuropod.localhost:8080/api/v1/me")

    assert answer.status_code == 200


async def test_a_request_with_a_wrong_key_is_nobodys_whatever_its_cookie_says(sqlite_world: ApiWorld):
    browser = await sqlite_world.browser("owner")

    answer = await browser.get("/api/v1/me", headers={"authorization": "Bearer npk_wrong"})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_no_answer_of_the_api_may_be_kept_or_framed(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")

    answer = await owner.get("/api/v1/me")

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in answer.headers
