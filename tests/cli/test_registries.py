"""`registry ls|set|rm`, as far as a played server sees them: a password is in no argument list."""

import io

import pytest

from support.commands import CommandLine, PlayedServer

REGISTRY = {"host": "ghcr.io", "username": "ada", "set_at": "2026-01-01T00:00:00Z"}


def test_a_password_is_read_from_standard_input(
    line: CommandLine, played: PlayedServer, monkeypatch: pytest.MonkeyPatch
):
    played.on("PUT", "/registries/ghcr.io", REGISTRY)
    monkeypatch.setattr("sys.stdin", io.StringIO("ghp_token\n"))

    ran = line.run("registry", "set", "ghcr.io", "--username", "ada")

    assert (ran.exit_code, ran.out) == (0, "ghcr.io: set\n")
    assert played.bodies("PUT", "/registries/ghcr.io") == [{"username": "ada", "password": "ghp_token"}]


def test_a_password_is_no_argument(line: CommandLine, played: PlayedServer):
    assert line.run("registry", "set", "ghcr.io", "-u", "ada", "hunter2").exit_code != 0
    assert line.run("registry", "set", "ghcr.io", "-u", "ada", "--password", "hunter2").exit_code != 0
    assert played.requests == []


def test_they_are_listed_without_passwords(line: CommandLine, played: PlayedServer):
    played.on("GET", "/registries", {"items": [REGISTRY], "next_cursor": None})

    assert line.run("registry", "ls").out.splitlines()[1].split()[:2] == ["ghcr.io", "ada"]
    assert line.run("registry", "ls", "--json").json == [REGISTRY]
    played.on("GET", "/registries", {"items": [], "next_cursor": None})
    assert "registry set" in line.run("registry", "ls").err


def test_a_host_with_a_port_is_one_part_of_the_path(line: CommandLine, played: PlayedServer):
    played.on("DELETE", "/registries/registry.lab:5000", {}, status=204)

    ran = line.run("registry", "rm", "registry.lab:5000")

    assert (ran.exit_code, ran.out) == (0, "registry.lab:5000: deleted\n")
