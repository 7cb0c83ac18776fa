"""The user's commands: words into requests, answers into tables, errors into sentences and exit codes."""

import json
import re
import shlex

import click
import httpx
import pytest

from neuropod.cli.main import root
from neuropod.kit.terminal.commands import Command
from neuropod.kit.terminal.exits import Exit
from support.commands import CommandLine, PlayedServer, pod_json, problem

EMPTY = {"items": [], "next_cursor": None}


def _leaves(command: click.Command, path: tuple[str, ...] = ()):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _leaves(command.get_command(context, name), (*path, name))
    else:
        yield path, command


LEAVES = dict(_leaves(root))


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_help_with_examples_of_its_own_and_json(path, line: CommandLine, capsys):
    line.run(*path, "--help")

    shown = capsys.readouterr().out
    command = LEAVES[path]
    assert isinstance(command, Command)
    assert command.examples
    assert all(" ".join(("neuropod", *path)) in example for example in command.examples)
    assert "--json" in shown
    assert f"Examples:\n  {command.examples[0]}" in shown


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_example_is_a_command_line_that_can_be_read(path):
    for example in LEAVES[path].examples:
        words = [part for part in _words(example) if part]
        context = click.Context(root)
        command, rest = root, words
        while isinstance(command, click.Group):
            command = command.get_command(context, rest[0])
            rest = rest[1:]
        parser = command.make_parser(click.Context(command))
        parser.parse_args(list(rest))


def _words(example: str) -> list[str]:
    text = example.split("neuropod ", 1)[1]
    for end in (" >", ')"', "  #"):
        text = text.split(end)[0]
    return shlex.split(text)


def test_a_launch_sends_what_was_given_and_nothing_else(line: CommandLine, played: PlayedServer):
    line.environ["TOKEN"] = "s3cret=="
    played.on("POST", "/pods", pod_json(), status=201)

    ran = line.run(
        "pod", "create", "big", "-t", "jupyterlab", "--gpu-type", "rtx-4090", "--gpu-count", "2", "--disk", "20",
        "--volume", "data:100", "--port", "8888", "--port", "8000:my: site:public", "-e", "A=b=c", "-e", "TOKEN",
        "--command", "python -c 'print(1)'", "--jupyter", "off",
    )  # fmt: skip

    assert ran.exit_code == 0
    assert played.bodies("POST", "/pods") == [
        {
            "name": "big",
            "template": "jupyterlab",
            "gpu_type": "rtx-4090",
            "gpu_count": 2,
            "container_disk_gb": 20,
            "volume": {"name": "data", "size_gb": 100},
            "ports": [{"port": 8888}, {"port": 8000, "name": "my: site", "access": "public"}],
            "env": {"A": "b=c", "TOKEN": "s3cret=="},
            "command": ["python", "-c", "print(1)"],
            "jupyter": "off",
        }
    ]


def test_no_volume_is_said_and_an_absent_one_is_not(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", pod_json(volume=None), status=201)

    line.run("pod", "create", "a", "--image", "ubuntu", "--no-volume")
    line.run("pod", "create", "a", "--image", "ubuntu")

    assert played.bodies("POST", "/pods") == [
        {"name": "a", "image": "ubuntu", "volume": None},
        {"name": "a", "image": "ubuntu"},
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("pod", "create", "a"),
        ("pod", "create", "a", "--template", "t", "--image", "i"),
        ("pod", "create", "a", "-t", "t", "--port", "http"),
        ("pod", "create", "a", "-t", "t", "--port", "80:x:everybody"),
        ("pod", "create", "a", "-t", "t", "--volume", "data:big"),
        ("pod", "create", "a", "-t", "t", "--volume", "d", "--no-volume"),
        ("pod", "create", "a", "-t", "t", "-e", "NOT_SET_HERE"),
        ("pod", "create", "a", "-t", "t", "--command", "'open"),
        ("pod", "edit", "a"),
        ("pod", "edit", "a", "--restart"),
        ("port", "set", "a", "80"),
        ("pod", "logs", "a", "--previous", "--run", "2"),
        ("pod", "nonsense"),
        ("nonsense",),
        ("pod", "ls", "--nonsense"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_said_before_anything_is_sent(line: CommandLine, played: PlayedServer, words):
    ran = line.run(*words)

    assert (ran.exit_code, ran.out, played.requests) == (Exit.USAGE, "", [])
    assert ran.err.startswith("Error: ")
    assert "--help" in ran.err


@pytest.mark.parametrize(
    ("answer", "exit_code", "hint"),
    [
        (problem(401, "unauthenticated", "who are you?"), Exit.NOT_SIGNED_IN, "neuropod login http://app.neuropod"),
        (problem(403, "forbidden", "not yours to do"), Exit.NOT_ALLOWED, ""),
        (problem(403, "scope_missing", "this needs a key of scope 'write'"), Exit.NOT_ALLOWED, "neuropod whoami"),
        (problem(404, "not_found", "no such pod: lab"), Exit.NOT_FOUND, "neuropod pod ls"),
        (problem(409, "restart_required", "this needs a new run"), Exit.CONFLICT, "--restart"),
        (problem(409, "name_taken", "name 'lab' is taken"), Exit.CONFLICT, "another name"),
        (problem(503, "unavailable", "the machine does not answer"), Exit.UNREACHABLE, ""),
        (problem(500, "internal", "a fault of the server"), Exit.FAILED, ""),
        (httpx.ConnectError("refused"), Exit.UNREACHABLE, "neuropod up"),
    ],
    ids=lambda value: value.json()["code"] if isinstance(value, httpx.Response) else None,
)
def test_each_kind_of_error_has_its_exit_code_and_says_what_to_do(line, played, answer, exit_code, hint):
    played.on("GET", "/pods/lab", answer)

    ran = line.run("pod", "show", "lab")

    assert (ran.exit_code, ran.out) == (exit_code, "")
    assert ran.err.startswith("Error: ")
    assert hint in ran.err


def test_all_wrong_fields_are_told_by_the_options_that_fill_them(line: CommandLine, played: PlayedServer):
    fields = [
        {"field": "container_disk_gb", "code": "range", "message": "is 1 to 100 GB"},
        {"field": "gpu_type", "code": "unknown", "message": "no GPU type 'x' is on offer"},
        {"field": "ports.0.port", "code": "range", "message": "is 1 to 65535"},
    ]
    played.on("POST", "/pods", problem(422, "invalid", "three things", fields))

    ran = line.run("pod", "create", "lab", "-t", "jupyterlab", "--disk", "1000")

    assert ran.exit_code == Exit.USAGE
    for text in ("--disk: is 1 to 100 GB", "--gpu-type: no GPU", "--port.0.port: is 1", "neuropod gpu-type ls"):
        assert text in ran.err


def test_an_error_as_json_is_an_object_on_standard_error(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods/lab", problem(404, "not_found", "no such pod: lab"))

    ran = line.run("pod", "show", "lab", "--json")
    usage = line.run("pod", "show", "--json")

    assert ran.out == usage.out == ""
    error = json.loads(ran.err)["error"]
    assert (error["code"], error["exit_code"], error["message"]) == ("not_found", 4, "no such pod: lab")
    assert json.loads(usage.err)["error"]["code"] == "usage"


def test_the_program_is_named_in_hints_as_it_was_called(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods", EMPTY)
    call = line.call

    def as_checkout(out, err):
        made = call(out, err)
        made.program = "./neuropod"
        return made

    line.call = as_checkout

    assert "Launch one: ./neuropod pod create lab" in line.run("pod", "ls").err
    played.on("GET", "/pods", problem(401, "unauthenticated", "who?"))
    assert "sign in: ./neuropod login" in line.run("pod", "ls").err


def test_hostile_names_and_messages_cannot_control_the_terminal(line: CommandLine, played: PlayedServer):
    evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202eevil"
    port = pod_json()["ports"][0] | {"name": evil, "url": evil}
    hostile = pod_json(name=evil, status="failed", message=evil, template=evil, ports=[port])
    event = {"id": 1, "at": "2026-01-01T00:00:00Z", "kind": evil, "message": evil, "pod_id": None, "data": {}}
    played.on("GET", "/pods", {"items": [hostile], "next_cursor": None})
    played.on("GET", "/pods/lab", hostile)
    played.on("GET", "/pods/lab/events", {"items": [event], "next_cursor": None})
    played.on("POST", "/pods/lab/stop", problem(409, "conflict", evil))

    for words in (("ls",), ("show", "lab"), ("events", "lab"), ("stop", "lab")):
        for terminal in (False, True):
            line.environ["NO_COLOR"] = "1"
            ran = line.run("pod", *words, terminal=terminal)
            shown = _without_colours(ran.out + ran.err)
            assert "evil" in shown
            assert not set(shown) & set("\x1b\x07\r\u202e"), words


def _without_colours(text: str) -> str:
    return re.sub("\x1b\\[[0-9]+m", "", text)


def test_the_list_says_why_where_something_is_not_as_wished(line: CommandLine, played: PlayedServer):
    failed = pod_json(name="bad", status="failed", message="It crashed.", since="2025-12-31T22:00:00Z")
    played.on("GET", "/pods", {"items": [pod_json(), failed], "next_cursor": None})

    lines = line.run("pod", "ls").out.splitlines()

    assert lines[0].split() == ["NAME", "STATUS", "SINCE", "FROM", "TYPE", "PER", "HOUR", "WHY"]
    assert lines[1].split() == ["lab", "running", "0", "s", "jupyterlab", "cpu", "0.30", "EUR"]
    assert "2 h" in lines[2]
    assert lines[2].endswith("It crashed.")


def test_all_pods_are_shown_with_their_owners(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods", {"items": [pod_json()], "next_cursor": None})

    ran = line.run("pod", "ls", "--all")

    assert "ada@example.org" in ran.out
    assert played.requests[0].url.params["everybody"] == "true"


def test_json_is_what_the_api_answered(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods", {"items": [pod_json()], "next_cursor": None})
    played.on("GET", "/pods/lab", pod_json())

    assert line.run("pod", "ls", "--json").json == [pod_json()]
    assert line.run("pod", "show", "lab", "--json").json == pod_json()


@pytest.mark.parametrize(
    ("words", "path", "next_command"),
    [
        (("pod", "ls"), "/pods", "pod create"),
        (("template", "ls"), "/templates", "pod create"),
        (("key", "ls"), "/api-keys", "key create"),
        (("port", "ls", "lab"), "/pods/lab/ports", "port add"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_where_there_is_nothing_the_next_command_is_told(line, played, words, path, next_command):
    played.on("GET", path, EMPTY)

    ran = line.run(*words)

    assert (ran.exit_code, ran.out) == (0, "")
    assert f"neuropod {next_command}" in ran.err
    assert line.run(*words, "--json").json == []


def test_open_prints_the_link_alone(line: CommandLine, played: PlayedServer):
    link = "http://lab-abcdefgh-8888.neuropod-pods.localhost:8080/lab?token=t"
    played.on("GET", "/pods/lab", pod_json())
    played.on("POST", "/pods/lab/ports/8888/link", {"url": link, "expires_at": None})

    assert line.run("pod", "open", "lab", "8888").out == f"{link}\n"
    assert line.run("pod", "open", "lab").out == f"{link}\n"
    assert line.run("pod", "open", "lab", "--json").json["url"] == link


def test_open_of_a_pod_that_does_not_run_says_so(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods/lab", pod_json(status="stopped", message="Stopped."))
    played.on("POST", "/pods/lab/ports/8888/link", {"url": "http://x/", "expires_at": None})

    assert "lab is stopped" in line.run("pod", "open", "lab", "8888").err


def test_open_of_a_port_that_is_not_exposed_names_those_that_are(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods/lab", pod_json())

    ran = line.run("pod", "open", "lab", "9999")

    assert ran.exit_code == Exit.NOT_FOUND
    assert "8888" in ran.err
    assert "neuropod port add lab 9999" in ran.err


def test_an_edit_sends_what_changes_and_null_where_null_means_something(line: CommandLine, played: PlayedServer):
    played.on("PATCH", "/pods/lab", pod_json())

    line.run("pod", "edit", "lab", "--gpu-type", "rtx-4070", "--restart")
    line.run("pod", "edit", "lab", "--no-volume", "--no-command", "--no-env")

    assert played.bodies("PATCH", "/pods/lab") == [
        {"gpu_type": "rtx-4070", "restart": True},
        {"volume": None, "command": None, "env": {}},
    ]


def test_several_pods_are_deleted_only_when_all_of_them_are_there(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods/lab", pod_json())

    ran = line.run("pod", "rm", "lab", "nothing")

    assert ran.exit_code == Exit.NOT_FOUND
    assert {request.method for request in played.requests} == {"GET"}


def test_ports_are_added_changed_and_removed(line: CommandLine, played: PlayedServer):
    port = pod_json()["ports"][0] | {"port": 6006, "name": "TensorBoard", "access": "members"}
    played.on("POST", "/pods/lab/ports", port, status=201)
    played.on("PATCH", "/pods/lab/ports/6006", port | {"access": "public"})
    played.on("DELETE", "/pods/lab/ports/6006", httpx.Response(204))

    added = line.run("port", "add", "lab", "6006", "--name", "TensorBoard", "--access", "members")
    changed = line.run("port", "set", "lab", "6006", "--access", "public")
    removed = line.run("port", "rm", "lab", "6006")

    assert [added.exit_code, changed.exit_code, removed.exit_code] == [0, 0, 0]
    assert played.bodies("POST", "/pods/lab/ports") == [{"port": 6006, "name": "TensorBoard", "access": "members"}]
    assert played.bodies("PATCH", "/pods/lab/ports/6006") == [{"access": "public"}]
    assert "public" in changed.out


def test_events_are_shown_oldest_first(line: CommandLine, played: PlayedServer):
    def event(number: int) -> dict:
        at = f"2026-01-01T00:00:0{number}Z"
        return {"id": number, "at": at, "kind": f"pod.k{number}", "message": "-", "pod_id": "pod_1", "data": {}}

    played.on("GET", "/pods/lab/events", {"items": [event(2), event(1)], "next_cursor": "more"})

    lines = line.run("pod", "events", "lab", "-n", "2").out.splitlines()

    assert ["pod.k1" in lines[1], "pod.k2" in lines[2]] == [True, True]


def test_templates_say_whether_they_run_here(line: CommandLine, played: PlayedServer):
    template = {
        "id": "tpl_1", "name": "ubuntu", "title": "Ubuntu", "description": "Bare.", "readme": "# Ubuntu\n\nBare.",
        "author": None, "public": True, "image": "ubuntu:24.04", "command": None, "env": {}, "ports": [],
        "gpu_type": "cpu", "container_disk_gb": 10, "volume_gb": None, "jupyter": "off", "runnable": False,
        "why_not": "no runtime here runs images",
    }  # fmt: skip
    played.on("GET", "/templates", {"items": [template], "next_cursor": None})
    played.on("GET", "/templates/ubuntu", template)

    assert "no runtime here runs images" in line.run("template", "ls").out
    shown = line.run("template", "show", "ubuntu").out
    assert "no: no runtime here runs images" in shown
    assert "# Ubuntu" in shown


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_what_a_shell_needs(line: CommandLine, shell):
    assert "_NEUROPOD_COMPLETE" in line.run("completion", shell).out
