"""Limits of time and usage at a terminal: spans into seconds, what stops a pod in `show`, `top` as a table."""

import json

import pytest

from neuropod.kit.terminal.exits import Exit
from support.commands import CommandLine, PlayedServer, pod_json

SIZE = {"cpu_cores": 2, "memory_bytes": 4 * 10**9, "container_disk_bytes": 10**10, "volume_bytes": None}
NOW = {
    "at": "2026-01-01T00:00:00Z",
    "cpu_cores": 1.234,
    "memory_bytes": 1_500_000_000,
    "container_disk_bytes": 2 * 10**9,
    "volume_bytes": None,
    "gpu_percent": 37,
    "gpu_memory_bytes": 5,
}


def usage_json(pod_id: str = "pod_1", **now: object) -> dict[str, object]:
    return {"pod_id": pod_id, "size": SIZE, "now": NOW | now, "step_seconds": 60, "points": []}


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("8h", 28_800), ("90m", 5_400), ("1d12h", 129_600), ("1h30m5s", 5_405), ("60s", 60), ("never", None)],
)
def test_spans_of_time_are_sent_as_seconds(typed: str, seconds: int | None, line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", pod_json(), status=201)
    played.on("PATCH", "/pods/lab", pod_json())

    line.run("pod", "create", "lab", "-t", "jupyterlab", "--stop-after", typed)
    line.run("pod", "edit", "lab", "--idle-stop-after", typed)

    assert played.bodies("POST", "/pods") == [{"name": "lab", "template": "jupyterlab", "stop_after_seconds": seconds}]
    assert played.bodies("PATCH", "/pods/lab") == [{"idle_stop_after_seconds": seconds}]


@pytest.mark.parametrize("typed", ["8", "soon", "", "-1h", "1h 30m", "1.5h", "30m1h"])
def test_what_is_no_span_is_a_wrong_call(typed: str, line: CommandLine):
    ran = line.run("pod", "edit", "lab", "--stop-after", typed)

    assert ran.exit_code == Exit.USAGE
    assert "8h, 1d12h, 90m, or never" in ran.err


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, []),
        (
            {"stop_after_seconds": 129_600, "stops_at": "2026-01-02T12:00:00Z"},
            ["2026-01-02", "1 d 12 h after a run began"],
        ),
        ({"stop_after_seconds": 60}, ["1 min after a run began"]),
        (
            {"idle_stop_after_seconds": 1800, "idle": {"since": None, "stops_at": None, "kept_by": ["cpu", "kernels"]}},
            ["no (cpu, kernels); stopped after 30 min of it"],
        ),
        (
            {
                "idle_stop_after_seconds": 1800,
                "idle": {"since": "2025-12-31T23:48:00Z", "stops_at": "2026-01-01T00:18:00Z", "kept_by": []},
            },
            ["for 12 min, stops at", "stopped after 30 min of it"],
        ),
        (
            {"idle_stop_after_seconds": 1800, "idle": {"since": None, "stops_at": None, "kept_by": []}},
            ["stopped after 30 min of it"],
        ),
    ],
)
def test_show_says_when_it_stops_and_why_it_does_not(changes, shown, line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods/lab", pod_json(**changes))

    ran = line.run("pod", "show", "lab")

    assert ran.exit_code == 0
    assert [text for text in shown if text not in ran.out] == []
    assert ("Stops" in ran.out) == ("stop_after_seconds" in changes)
    assert ("Idle" in ran.out) == ("idle" in changes)


def test_top_shows_what_runs_the_busiest_first(line: CommandLine, played: PlayedServer):
    busy = pod_json(
        id="pod_2", name="busy", idle={"since": None, "stops_at": None, "kept_by": ["cpu"]}, idle_stop_after_seconds=60
    )
    off = pod_json(id="pod_3", name="off", status="stopped", incarnation=None)
    played.on("GET", "/pods", {"items": [pod_json(), busy, off], "next_cursor": None})
    played.on("GET", "/pods/pod_1/usage", usage_json(cpu_cores=None, gpu_percent=None, memory_bytes=None))
    played.on("GET", "/pods/pod_2/usage", usage_json("pod_2"))

    ran = line.run("pod", "top")

    head, first, second = ran.out.splitlines()
    assert head.split() == ["NAME", "STATUS", "CPU", "MEMORY", "DISK", "VOLUME", "GPU", "IDLE"]
    assert first.split() == [
        "busy", "running", "1.23/2", "1.5/4", "GB", "2.0/10", "GB", "-", "37", "%", "no:", "cpu"
    ]  # fmt: skip
    assert second.split()[:4] == ["lab", "running", "-", "-"]
    assert [request.url.params["hours"] for request in played.requests if "usage" in request.url.path] == ["0", "0"]


def test_top_of_nothing_and_of_a_pod_that_does_not_run(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods", {"items": [], "next_cursor": None})
    played.on("GET", "/pods/lab", pod_json(status="stopped", incarnation=None))
    played.on("GET", "/pods/pod_1/usage", usage_json() | {"now": None})

    assert "No pod runs." in line.run("pod", "top").err
    assert line.run("pod", "top", "lab").out.splitlines()[1].split() == ["lab", "stopped", *["-"] * 6]


def test_top_as_json(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods/lab", pod_json())
    played.on("GET", "/pods/pod_1/usage", usage_json())

    ran = line.run("pod", "top", "lab", "--json")

    assert json.loads(ran.out) == [usage_json()]


def test_watching_draws_again_and_ends_with_ctrl_c(line: CommandLine, played: PlayedServer):
    played.on("GET", "/pods/lab", pod_json())
    played.on("GET", "/pods/pod_1/usage", usage_json(cpu_cores=0.25), usage_json(cpu_cores=1.75))

    def third(seconds: float) -> None:
        if len(line.slept) == 2:
            raise KeyboardInterrupt

    line.on_sleep = third
    ran = line.run("pod", "top", "lab", "--watch", "--interval", "3", terminal=True)

    assert ran.exit_code == 0
    assert line.slept == [3, 3]
    assert ran.out.count("\x1b[H\x1b[2J") == 2
    assert ran.out.index("0.25/2") < ran.out.index("1.75/2")
