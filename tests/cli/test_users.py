"""Users, sessions, one's password and the audit log at the terminal."""

import io
import json
from typing import Any

import httpx
import pytest

from neuropod.kit.terminal.exits import Exit
from support.commands import URL, CommandLine, PlayedServer, pod_json, problem

ME = {
    "id": "usr_9", "email": "root@example.org", "name": "Root", "role": "admin", "hash": "rootroot",
    "has_password": True, "scopes": ["read", "write", "admin"], "via": "key",
}  # fmt: skip
SYSTEM = {"version": "1", "console_url": URL, "api_url": URL, "runtimes": [], "parts": None}
LINK = {"email": "ada@example.org", "url": f"{URL}/sign-in/link#t0ken", "expires_at": "2026-01-01T00:15:00Z"}
SESSION = {
    "id": "ses_1", "current": False, "address": "192.0.2.1", "user_agent": "Fire\x1b[31mfox", "by_link": False,
    "created_at": "2026-01-01T00:00:00Z", "used_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-15T00:00:00Z",
}  # fmt: skip


def user_json(**changes: Any) -> dict[str, Any]:
    return {
        "id": "usr_1", "email": "ada@example.org", "name": "Ada", "role": "client", "status": "active",
        "hash": "abcdefgh", "has_password": False, "pods": 2, "created_at": "2026-01-01T00:00:00Z", "seen_at": None,
        "suspended_at": None, "deleted_at": None, "volumes_at_end": None,
    } | changes  # fmt: skip


@pytest.fixture
def person(played: PlayedServer, monkeypatch: pytest.MonkeyPatch) -> PlayedServer:
    """A server where somebody signs in with the first line of standard input."""
    played.on("GET", "/me", ME)
    played.on("GET", "/system", SYSTEM)
    cookie = httpx.Response(201, json={}, headers={"set-cookie": "__Host-neuropod-session=s; Path=/"})
    played.on("POST", "/session", cookie)
    played.on("DELETE", "/session", httpx.Response(204))
    monkeypatch.setattr("sys.stdin", io.StringIO("my password\nthe new one\n"))
    return played


def test_users_are_listed_with_status_and_last_use(line: CommandLine, played: PlayedServer):
    played.on(
        "GET", "/users", {"items": [user_json(), user_json(email="b@x", status="suspended")], "next_cursor": None}
    )

    ran = line.run("user", "ls", "--search", "a", "--status", "suspended")

    assert ran.exit_code == Exit.OK
    assert [row.split()[:1] for row in ran.out.splitlines()] == [["E-MAIL"], ["ada@example.org"], ["b@x"]]
    assert dict(played.requests[0].url.params) == {"search": "a", "status": "suspended", "limit": "200"}


def test_a_client_is_made_by_key_and_the_next_step_is_said(line: CommandLine, played: PlayedServer):
    played.on("POST", "/users", user_json(), status=201)

    ran = line.run("user", "create", "ada@example.org", "--name", "Ada")

    assert played.bodies("POST", "/users") == [{"email": "ada@example.org", "name": "Ada", "role": "client"}]
    assert "neuropod user invite ada@example.org" in ran.err


def test_an_invitation_asks_for_a_password_and_prints_the_link(line: CommandLine, person: PlayedServer):
    person.on("POST", "/users", user_json(), status=201)
    person.on("POST", "/users/usr_1/sign-in-link", LINK, status=201)

    ran = line.run("user", "create", "ada@example.org", "--invite")

    made = next(request for request in person.requests if request.url.path == "/api/v1/users")
    assert person.bodies("POST", "/session") == [{"email": "root@example.org", "password": "my password"}]
    assert (made.headers["cookie"], made.headers["origin"]) == ("__Host-neuropod-session=s", URL)
    assert "authorization" not in made.headers
    assert ran.out == LINK["url"] + "\n"
    assert person.requests[-1].method == "DELETE"  # signed out again


def test_a_role_is_given_by_a_person(line: CommandLine, person: PlayedServer):
    person.on("PATCH", "/users/ada@example.org", user_json(role="admin"))

    ran = line.run("user", "role", "ada@example.org", "admin")

    assert ran.out == "ada@example.org is admin now.\n"
    assert person.bodies("PATCH", "/users/ada@example.org") == [{"role": "admin"}]


def test_a_suspension_says_how_to_undo_it(line: CommandLine, played: PlayedServer):
    played.on("POST", "/users/ada@example.org/suspend", user_json(status="suspended"))

    ran = line.run("user", "suspend", "ada@example.org", "--reason", "left")

    assert played.bodies("POST", "/users/ada@example.org/suspend") == [{"reason": "left"}]
    assert "is suspended" in ran.out
    assert "user reinstate ada@example.org" in ran.err


def test_a_deletion_has_to_say_what_becomes_of_volumes(line: CommandLine, played: PlayedServer):
    played.on("GET", "/users/ada@example.org", user_json())
    played.on("DELETE", "/users/usr_1", user_json(status="deleting", volumes_at_end="keep"), status=202)

    unsaid = line.run("user", "rm", "ada@example.org")
    said = line.run("user", "rm", "ada@example.org", "--volumes", "keep")

    assert (unsaid.exit_code, said.exit_code) == (Exit.USAGE, Exit.OK)
    assert "--volumes" in unsaid.err
    assert dict(played.requests[-1].url.params) == {"volumes": "keep"}


def test_the_last_administrator_gets_advice(line: CommandLine, played: PlayedServer):
    sentence = "root@example.org is the last active administrator; make somebody else one first"
    played.on("POST", "/users/root@example.org/suspend", problem(409, "last_administrator", sentence))

    ran = line.run("user", "suspend", "root@example.org")

    assert ran.exit_code == Exit.CONFLICT
    assert "neuropod user role USER admin" in ran.err


def test_a_password_is_changed_and_never_shown(line: CommandLine, person: PlayedServer):
    person.on("PUT", "/me/password", httpx.Response(204))

    ran = line.run("me", "passwd")

    assert ran.exit_code == Exit.OK
    assert person.bodies("PUT", "/me/password") == [{"new_password": "the new one", "current_password": "my password"}]
    assert "the new one" not in ran.out + ran.err


def test_who_has_no_password_is_led_to_the_browser(line: CommandLine, person: PlayedServer):
    person.on("GET", "/me", ME | {"has_password": False})

    ran = line.run("me", "passwd")

    assert ran.exit_code == Exit.CONFLICT
    assert f"{URL}/password" in ran.err


def test_sessions_are_listed_without_escapes_and_ended(line: CommandLine, played: PlayedServer):
    played.on("GET", "/me/sessions", {"items": [SESSION], "next_cursor": None})
    played.on("DELETE", "/me/sessions/ses_1", httpx.Response(204))
    played.on("DELETE", "/users/ada@example.org/sessions", {"revoked": 3})

    listed = line.run("session", "ls")
    one = line.run("session", "rm", "ses_1")
    everywhere = line.run("session", "rm", "--all", "--user", "ada@example.org")
    neither = line.run("session", "rm")

    assert "ses_1" in listed.out
    assert "\x1b" not in listed.out
    assert (one.out, everywhere.out) == ("Signed out 1 browser.\n", "Signed out 3 browsers.\n")
    assert neither.exit_code == Exit.USAGE


def test_the_audit_log_reads_downwards_and_names_who_did_what(line: CommandLine, played: PlayedServer):
    act = {
        "id": "act_1", "at": "2026-01-01T00:00:00Z", "actor": {"id": "usr_9", "email": "root@example.org"},
        "via": "session", "verb": "launch_pod", "subject": "pod/pod_1",
        "owner": {"id": "usr_1", "email": "ada@example.org"}, "data": {"gpu_count": 1, "template": "jupyterlab"},
    }  # fmt: skip
    later = act | {"id": "act_2", "actor": None, "via": "system", "verb": "stop_pod", "data": {"reason": "suspended"}}
    played.on("GET", "/audit", {"items": [later, act], "next_cursor": None})

    ran = line.run("audit", "--user", "ada@example.org", "--did", "launch_pod", "--since", "2026-01-01")
    as_json = line.run("audit", "--json")

    rows = [row.split("  ") for row in ran.out.splitlines()[1:]]
    assert [row[1].strip() for row in rows] == ["root@example.org", "(system)"]
    assert "gpu_count=1 template=jupyterlab" in ran.out
    asked = dict(played.requests[0].url.params)
    assert (asked["user"], asked["verb"], asked["limit"]) == ("ada@example.org", "launch_pod", "30")
    assert asked["since"].startswith("2026-01-01T00:00:00") or asked["since"].startswith("2025-12-31")
    assert [one["id"] for one in json.loads(as_json.out)] == ["act_1", "act_2"]


def test_a_pod_is_made_for_a_client_and_shows_by_whom(line: CommandLine, played: PlayedServer):
    made = pod_json(created_by={"id": "usr_9", "email": "root@example.org", "hash": "rootroot"})
    played.on("POST", "/pods", made, status=201)

    ran = line.run("pod", "create", "lab", "-t", "jupyterlab", "--for", "ada@example.org")

    assert played.bodies("POST", "/pods") == [{"name": "lab", "template": "jupyterlab", "owner": "ada@example.org"}]
    assert "Made by  root@example.org" in ran.out


def test_pods_are_listed_by_owner_status_and_type(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods", {"items": [], "next_cursor": None})

    ran = line.run("pod", "ls", "--user", "ada@example.org", "--status", "waiting", "--gpu-type", "rtx-4090")

    assert dict(played.requests[0].url.params) == {
        "owner": "ada@example.org", "status": "waiting", "gpu_type": "rtx-4090", "limit": "200",
    }  # fmt: skip
    assert "No pods are like that." in ran.err


def test_an_identity_is_linked_by_a_person(line: CommandLine, person: PlayedServer):
    identity = {
        "id": "idn_1", "issuer": "https://id.example", "subject": "7f3c", "email": None,
        "created_at": "2026-01-01T00:00:00Z", "used_at": None,
    }  # fmt: skip
    person.on("POST", "/users/ada@example.org/identities", {"identity": identity, "by_address_until": None}, status=201)
    person.on("GET", "/users/ada@example.org", user_json())
    person.on("GET", "/users/usr_1/identities", {"items": [identity], "next_cursor": None})

    ran = line.run("user", "link", "ada@example.org", "--subject", "7f3c")
    shown = line.run("user", "show", "ada@example.org")
    neither = line.run("user", "link", "ada@example.org")

    assert person.bodies("POST", "/users/ada@example.org/identities") == [{"subject": "7f3c", "by_address": False}]
    assert "7f3c at https://id.example signs ada@example.org in now." in ran.out
    assert "Signs in as 7f3c at https://id.example (idn_1)" in shown.out
    assert neither.exit_code == Exit.USAGE


def test_an_administrator_revokes_a_users_key_by_key(line: CommandLine, played: PlayedServer):
    key = {
        "id": "key_1", "name": "ci", "prefix": "npk_abcdef", "scopes": ["read"], "preset": False,
        "created_at": "2026-01-01T00:00:00Z", "used_at": None, "expires_at": None,
    }  # fmt: skip
    played.on("GET", "/users/ada@example.org/api-keys", {"items": [key], "next_cursor": None})
    played.on("DELETE", "/users/ada@example.org/api-keys/key_1", httpx.Response(204))

    listed = line.run("key", "ls", "--user", "ada@example.org")
    revoked = line.run("key", "rm", "ci", "--user", "ada@example.org", "--yes")

    assert "npk_abcdef…" in listed.out
    assert revoked.out == "ci (npk_abcdef…) is revoked.\n"
