"""`pod logs`: followed over cuts without a loss, clean on a terminal, as written with --raw."""

import json

import httpx

from neuropod.client.profile import Profile
from neuropod.kit.terminal.exits import Exit
from support.commands import CommandLine, PlayedServer, pod_json, problem

LOGS = "/pods/lab/logs"


def _event(name: str, event_id: str, data: dict) -> bytes:
    return f"id: {event_id}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _line(position: int, text: str, run: int = 1) -> bytes:
    return _event("line", f"{run}.{position}", {"incarnation": run, "position": position, "text": text})


END = b'event: end\ndata: {"incarnation": 1}\n\n'


class _Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def __iter__(self):
        yield from self._chunks
        raise httpx.ReadError("cut")


def _streams(played: PlayedServer, *bodies) -> None:
    played.on(
        "GET",
        LOGS,
        *[
            (
                lambda _, body=body: (
                    httpx.Response(200, stream=body)
                    if isinstance(body, httpx.SyncByteStream)
                    else body
                    if isinstance(body, httpx.Response)
                    else httpx.Response(200, content=body)
                )
            )
            for body in bodies
        ],
    )


def test_a_log_is_printed_without_what_would_control_the_terminal(line: CommandLine, played: PlayedServer):
    _streams(played, b"\x1b[32mgreen\x1b[0m\n\x1b]0;title\x07plain\nlast without an end")

    ran = line.run("pod", "logs", "lab")

    assert (ran.exit_code, ran.out) == (0, "green\nplain\nlast without an end\n")


def test_raw_is_as_written_and_never_for_a_terminal(line: CommandLine, played: PlayedServer):
    _streams(played, "\x1b[32mgrün\x1b[0m\n".encode())

    assert line.run("pod", "logs", "lab", "--raw").out == "\x1b[32mgrün\x1b[0m\n"
    refused = line.run("pod", "logs", "lab", "--raw", terminal=True)
    assert (refused.exit_code, refused.out) == (Exit.USAGE, "")


def test_a_follower_takes_a_cut_stream_up_after_the_last_line(line: CommandLine, played: PlayedServer):
    _streams(
        played,
        _Cut(_line(0, "one"), _line(4, "two")),
        problem(503, "unavailable", "starting"),
        _line(8, "three") + END,
    )

    ran = line.run("pod", "logs", "-f", "lab", "--tail", "5")

    assert (ran.exit_code, ran.out) == (0, "one\ntwo\nthree\n")
    assert "Run 1 of lab has ended" in ran.err
    assert [request.headers.get("Last-Event-ID") for request in played.requests] == [None, "1.4", "1.4"]
    assert [request.url.params.get("tail") for request in played.requests] == ["5", None, None]


def test_a_stream_that_ends_without_its_end_is_taken_up_too(line: CommandLine, played: PlayedServer):
    _streams(played, _line(0, "one"), _line(4, "two") + END)

    assert line.run("pod", "logs", "-f", "lab").out == "one\ntwo\n"


def test_a_follower_gives_up_when_the_server_stays_away(line: CommandLine, played: PlayedServer):
    _streams(played, _Cut(_line(0, "one")), problem(503, "unavailable", "gone"))

    ran = line.run("pod", "logs", "-f", "lab")

    assert (ran.exit_code, ran.out) == (Exit.UNREACHABLE, "one\n")
    assert 50 < sum(line.slept) < 120


def test_a_follower_takes_up_the_new_key_of_a_server_that_restarted(line: CommandLine, played: PlayedServer):
    del line.environ["NEUROPOD_URL"], line.environ["NEUROPOD_API_KEY"]
    profiles = line.call(None, None).profiles
    profiles.save_machine(_profile("npk_old"))
    line.on_sleep = lambda _: profiles.save_machine(_profile("npk_new"))
    _streams(played, _Cut(_line(0, "one")), problem(401, "unauthenticated", "unknown key"), _line(4, "two") + END)

    ran = line.run("pod", "logs", "-f", "lab")

    assert (ran.exit_code, ran.out) == (0, "one\ntwo\n")
    assert [request.headers["Authorization"] for request in played.requests][::2] == [
        "Bearer npk_old",
        "Bearer npk_new",
    ]


def _profile(key: str):
    return Profile("http://127.0.0.1:8080", key)


def test_fifty_thousand_lines_all_come(line: CommandLine, played: PlayedServer):
    body = b"".join(_line(position, f"line {position}") for position in range(50_000)) + END
    _streams(played, body)

    lines = line.run("pod", "logs", "-f", "lab").out.splitlines()

    assert lines == [f"line {position}" for position in range(50_000)]


def test_json_is_an_object_a_line(line: CommandLine, played: PlayedServer):
    _streams(played, _line(0, "a\x1b[2J") + END)

    ran = line.run("pod", "logs", "-f", "lab", "--json")

    assert "\x1b" not in ran.out
    assert json.loads(ran.out) == {"incarnation": 1, "position": 0, "text": "a\x1b[2J"}


def test_previous_asks_for_the_run_before(line: CommandLine, played: PlayedServer):
    run = pod_json()["incarnation"]
    played.on("GET", "/pods/lab", pod_json(incarnation=run | {"number": 3}))
    _streams(played, b"old\n")

    assert line.run("pod", "logs", "lab", "--previous").out == "old\n"
    assert played.requests[-1].url.params["incarnation"] == "2"


def test_previous_of_a_first_run_is_not_there(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods/lab", pod_json())

    assert line.run("pod", "logs", "lab", "--previous").exit_code == Exit.NOT_FOUND


def test_an_empty_log_says_what_to_do(line: CommandLine, played: PlayedServer):
    _streams(played, b"")

    ran = line.run("pod", "logs", "lab")

    assert ran.out == ""
    assert "neuropod pod logs -f lab" in ran.err


def test_ctrl_c_says_that_the_pod_goes_on(line: CommandLine, played: PlayedServer):
    def interrupt(_):
        raise KeyboardInterrupt

    line.on_sleep = interrupt
    _streams(played, _Cut(_line(0, "one")))

    ran = line.run("pod", "logs", "-f", "lab")

    assert ran.exit_code == Exit.INTERRUPTED
    assert "lab goes on" in ran.err
