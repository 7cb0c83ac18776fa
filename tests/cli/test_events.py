"""`events -f`: followed over cuts and a new key, none twice, missing ones said."""

import json
from collections.abc import Callable

import httpx

from neuropod.kit.terminal.exits import Exit
from support.commands import CommandLine, PlayedServer, problem

EVENTS = "/events"


class _Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def __iter__(self):
        yield from self._chunks
        raise httpx.ReadError("cut")


def _cut(*chunks: bytes) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(200, stream=_Cut(*chunks))


def _frame(name: str | None, number: int, data: dict) -> bytes:
    head = f"id: 0.{number}\n" + (f"event: {name}\n" if name else "")
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _event(number: int, message: str = "Pod lab shall run.") -> bytes:
    return _frame(
        None,
        number,
        {
            "id": number, "position": f"0.{number}", "at": "2026-11-25T03:00:00Z", "kind": "pod.started",
            "message": message, "pod_id": "pod_1", "data": {}, "owner_id": "usr_1", "pod": None,
        },
    )  # fmt: skip


BEGIN = _frame("begin", 7, {"position": "0.7"})
OVER = problem(403, "forbidden", "this is for administrators")  # ends a test: what follows is refused


def test_events_are_taken_up_after_the_last_one_over_a_cut_and_a_restart(line: CommandLine, played: PlayedServer):
    played.on(
        "GET", EVENTS, _cut(BEGIN), _cut(_event(8), _event(9)),
        httpx.Response(200, content=_event(10)), OVER,
    )  # fmt: skip

    ran = line.run("events", "-f", "--json")

    assert [json.loads(text)["position"] for text in ran.out.splitlines()] == ["0.8", "0.9", "0.10"]
    asked = [request.headers.get("last-event-id") for request in played.requests if request.url.path.endswith(EVENTS)]
    assert asked == [None, "0.7", "0.9", "0.10"]


def test_a_line_tells_what_happened_without_what_would_control_the_terminal(line: CommandLine, played: PlayedServer):
    played.on("GET", EVENTS, _cut(BEGIN, _event(8, "\x1b[31mred\x1b[0m")), OVER)

    ran = line.run("events", "-f")

    assert "pod.started  pod_1  red" in ran.out
    assert "\x1b" not in ran.out


def test_missing_events_are_said(line: CommandLine, played: PlayedServer):
    reset = _frame("reset", 12, {"position": "0.12", "reason": "too_old"})
    played.on("GET", EVENTS, _cut(reset), OVER)

    ran = line.run("events", "-f", "--after", "0.3")

    assert "not kept" in ran.err


def test_a_server_that_was_never_there_is_said_at_once(line: CommandLine, played: PlayedServer):
    played.on("GET", EVENTS, httpx.ConnectError("refused"))

    assert line.run("events", "-f").exit_code == Exit.UNREACHABLE
