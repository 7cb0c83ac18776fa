"""`secret ls|set|rm` and `--secret-env`, as far as a played server sees them: a value is in no argument list."""

import io

import pytest

from support.commands import CommandLine, PlayedServer, pod_json, problem

SECRET = {"name": "HF_TOKEN", "set_at": "2026-01-01T00:00:00Z", "pods": [{"id": "pod_1", "name": "lab"}]}


def test_a_value_is_read_from_standard_input(line: CommandLine, played: PlayedServer, monkeypatch: pytest.MonkeyPatch):
    played.on("PUT", "/secrets/HF_TOKEN", SECRET)
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines\n"))

    ran = line.run("secret", "set", "HF_TOKEN")

    assert (ran.exit_code, ran.out) == (0, "HF_TOKEN: set\n")
    assert "lab" in ran.err
    assert played.bodies("PUT", "/secrets/HF_TOKEN") == [{"value": "two\nlines"}]


def test_a_value_is_no_argument(line: CommandLine, played: PlayedServer):
    assert line.run("secret", "set", "HF_TOKEN", "hunter2").exit_code != 0
    assert played.requests == []


def test_they_are_listed_with_the_pods_that_use_them(line: CommandLine, played: PlayedServer):
    played.on("GET", "/secrets", {"items": [SECRET], "next_cursor": None})

    assert "lab" in line.run("secret", "ls").out
    assert line.run("secret", "ls", "--json").json == [SECRET]


def test_one_in_use_is_deleted_by_force(line: CommandLine, played: PlayedServer):
    played.on("DELETE", "/secrets/HF_TOKEN", problem(409, "secret_in_use", "secret HF_TOKEN is used by lab"))

    refused = line.run("secret", "rm", "HF_TOKEN")
    played.on("DELETE", "/secrets/HF_TOKEN", {}, status=204)
    forced = line.run("secret", "rm", "HF_TOKEN", "--force")

    assert refused.exit_code != 0
    assert "--force" in refused.err
    assert (forced.exit_code, forced.out) == (0, "HF_TOKEN: deleted\n")
    assert [request.url.query for request in played.requests] == [b"", b"force=true"]


def test_a_pod_names_secrets_beside_plain_variables(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", pod_json(), status=201)
    played.on("PATCH", "/pods/lab", pod_json())

    line.run("pod", "create", "lab", "-t", "jupyterlab", "-e", "A=1", "--secret-env", "T=HF_TOKEN", "--secret-env", "B")
    line.run("pod", "edit", "lab", "--secret-env", "T=HF_TOKEN")

    (created,) = played.bodies("POST", "/pods")
    assert created["env"] == {"A": "1", "T": {"secret": "HF_TOKEN"}, "B": {"secret": "B"}}
    assert played.bodies("PATCH", "/pods/lab") == [{"env": {"T": {"secret": "HF_TOKEN"}}}]
    assert line.run("pod", "edit", "lab", "--secret-env", "T=").exit_code != 0
