"""login, logout, whoami, profiles and keys."""

import io
from datetime import timedelta

import httpx
import pytest

from neuropod.client.profile import ProfileFile
from neuropod.kit.terminal.exits import Exit
from support.commands import URL, CommandLine, PlayedServer, problem

ME = {
    "id": "usr_1", "email": "ada@example.org", "name": "Ada", "role": "client", "hash": "abcdefgh",
    "has_password": True, "scopes": ["read", "write"], "via": "key",
}  # fmt: skip
KEY = {
    "id": "key_1", "name": "ci", "prefix": "npk_abcdef", "scopes": ["read"], "preset": False,
    "created_at": "2026-01-01T00:00:00Z", "used_at": None, "expires_at": None,
}  # fmt: skip
WAITING, REFUSED = {"status": "waiting", "key": None}, {"status": "refused", "key": None}
CONFIRMED = {"status": "confirmed", "key": KEY | {"key": "npk_abcdefghij"}}


@pytest.fixture(autouse=True)
def _asks_for_keys(line: CommandLine, played: PlayedServer):
    del line.environ["NEUROPOD_URL"], line.environ["NEUROPOD_API_KEY"]
    expires_at = (line.clock.now() + timedelta(minutes=10)).isoformat()
    request = {
        "id": "krq_1", "secret": "s3cret", "code": "BCDF-GHJK", "url": f"{URL}/connect?code=BCDF-GHJK",
        "expires_at": expires_at, "interval_seconds": 2,
    }  # fmt: skip
    played.on("POST", "/key-requests", request, status=201)
    played.on("GET", "/me", ME)


def _profiles(line: CommandLine) -> ProfileFile:
    return ProfileFile.of_user(line.environ)


def test_login_shows_the_code_waits_and_keeps_the_key(line: CommandLine, played: PlayedServer):
    played.on("POST", "/key-requests/krq_1/claim", WAITING, WAITING, CONFIRMED)

    ran = line.run("login", "app.neuropod.localhost:8080")

    assert ran.exit_code == 0
    assert "BCDF-GHJK" in ran.err
    assert "ada@example.org" in ran.out
    assert "npk_abcdefghij" not in ran.out + ran.err
    target = _profiles(line).target(environ={})
    assert (target.url, target.key, target.profile) == (URL, "npk_abcdefghij", "neuropod.localhost")
    assert line.slept == [2, 2, 2]
    assert played.bodies("POST", "/key-requests/krq_1/claim")[0] == {"secret": "s3cret"}
    assert played.bodies("POST", "/key-requests")[0]["scopes"] == ["read", "write", "admin"]


def test_a_refused_sign_in_keeps_nothing(line: CommandLine, played: PlayedServer):
    played.on("POST", "/key-requests/krq_1/claim", REFUSED)

    ran = line.run("login", URL)

    assert ran.exit_code == Exit.NOT_ALLOWED
    assert _profiles(line).read().by_name == {}


def test_a_sign_in_that_nobody_confirms_ends(line: CommandLine, played: PlayedServer):
    played.on("POST", "/key-requests/krq_1/claim", WAITING)

    ran = line.run("login", URL)

    assert ran.exit_code == Exit.NOT_SIGNED_IN
    assert sum(line.slept) == 600


def test_a_key_at_hand_is_taken_from_standard_input_and_tried_first(line, played, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("npk_mine\n"))
    assert line.run("login", URL, "--key-stdin", "--profile", "lab").exit_code == 0
    played.on("GET", "/me", problem(401, "unauthenticated", "unknown key"))
    monkeypatch.setattr("sys.stdin", io.StringIO("npk_wrong\n"))

    assert line.run("login", URL, "--key-stdin").exit_code == Exit.NOT_SIGNED_IN

    assert {name: one.key for name, one in _profiles(line).read().by_name.items()} == {"lab": "npk_mine"}


def test_plain_http_beyond_this_machine_has_to_be_accepted(line, played, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("npk_mine\n"))

    refused = line.run("login", "http://lab.example.org", "--key-stdin")
    assert (refused.exit_code, played.requests) == (Exit.USAGE, [])
    assert line.run("login", "http://lab.example.org", "--key-stdin", "--accept-plain-http").exit_code == 0


def test_logout_forgets_the_key_and_the_next_command_says_how_to_sign_in(line, played, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("npk_mine\n"))
    line.run("login", URL, "--key-stdin")

    ran = line.run("logout")

    assert ran.exit_code == 0
    assert "npk_mine" not in _profiles(line).path.read_text()
    after = line.run("whoami")
    assert after.exit_code == Exit.NOT_SIGNED_IN
    assert "neuropod login URL" in after.err
    assert "neuropod up" in after.err


def test_whoami_tells_where_as_whom_and_with_what(line, played, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("npk_mine\n"))
    line.run("login", URL, "--key-stdin", "--profile", "lab")

    shown = line.run("whoami").out

    for text in (URL, "lab", "ada@example.org", "read, write"):
        assert text in shown
    assert line.run("whoami", "--json").json["me"]["email"] == "ada@example.org"


def test_one_changes_between_servers(line, played, monkeypatch):
    for name, url in (("one", "http://one.localhost"), ("two", "http://two.localhost")):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"npk_{name}\n"))
        line.run("login", url, "--key-stdin", "--profile", name)
    played.on("GET", "/pods", {"items": [], "next_cursor": None})

    line.run("pod", "ls")
    line.run("pod", "ls", "--profile", "one")
    line.run("profile", "use", "one")
    line.run("pod", "ls")

    asked = [(r.url.host, r.headers["Authorization"]) for r in played.requests if r.url.path.endswith("/pods")]
    two, one = ("two.localhost", "Bearer npk_two"), ("one.localhost", "Bearer npk_one")
    assert asked == [two, one, one]
    assert line.run("profile", "ls", "--json").json == [
        {"name": "one", "url": "http://one.localhost", "in_force": True},
        {"name": "two", "url": "http://two.localhost", "in_force": False},
    ]
    assert line.run("pod", "ls", "--profile", "three").exit_code == Exit.NOT_FOUND


# Keys


@pytest.fixture
def signed_in(line: CommandLine, played: PlayedServer) -> CommandLine:
    line.environ |= {"NEUROPOD_URL": "http://127.0.0.1:8080", "NEUROPOD_API_KEY": "npk_mine"}
    played.on("GET", "/api-keys", {"items": [KEY, KEY | {"id": "key_2", "name": "old"}], "next_cursor": None})
    system = {"version": "0", "console_url": URL, "api_url": URL, "runtimes": []}
    played.on("GET", "/system", system)
    session = httpx.Response(
        201,
        json={"id": "ses_1"},
        headers={"Set-Cookie": "__Host-neuropod-session=t0ken; Path=/; Secure; HttpOnly; SameSite=strict"},
    )
    played.on("POST", "/session", session)
    played.on("DELETE", "/session", httpx.Response(204))
    return line


def test_a_new_key_is_alone_on_standard_output(signed_in: CommandLine, played: PlayedServer):
    played.on("POST", "/key-requests/krq_1/claim", CONFIRMED)

    ran = signed_in.run("key", "create", "ci", "--scope", "read")

    assert ran.out == "npk_abcdefghij\n"
    assert played.bodies("POST", "/key-requests") == [{"name": "ci", "scopes": ["read"]}]


def test_a_key_is_revoked_in_a_session_of_its_own_that_ends(signed_in, played, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    played.on("DELETE", "/api-keys/key_1", httpx.Response(204))

    ran = signed_in.run("key", "rm", "ci")

    assert ran.exit_code == 0
    revoked = next(r for r in played.requests if r.url.path.endswith("/api-keys/key_1"))
    assert revoked.url.host == "app.neuropod.localhost"
    assert "Authorization" not in revoked.headers
    assert (revoked.headers["Cookie"], revoked.headers["Origin"]) == ("__Host-neuropod-session=t0ken", URL)
    assert (played.requests[-1].method, played.requests[-1].url.path) == ("DELETE", "/api/v1/session")
    assert played.bodies("POST", "/session") == [{"email": "ada@example.org", "password": "correct horse"}]


def test_a_key_with_an_end_is_made_with_the_password(signed_in, played, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    played.on("POST", "/api-keys", KEY | {"key": "npk_new"}, status=201)

    ran = signed_in.run("key", "create", "ci", "--password", "--days", "30")

    assert ran.out == "npk_new\n"
    body = played.bodies("POST", "/api-keys")[0]
    assert (body["scopes"], body["expires_at"][:10]) == (["read", "write"], "2026-01-31")


def test_a_key_that_is_not_there_is_not_asked_a_password_for(signed_in: CommandLine, played: PlayedServer):
    ran = signed_in.run("key", "rm", "nothing")

    assert ran.exit_code == Exit.NOT_FOUND
    assert "neuropod key ls" in ran.err
