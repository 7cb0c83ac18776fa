"""`--wait`: what it shows, when it ends, and how."""

import httpx
import pytest

from neuropod.kit.terminal.exits import Exit
from support.commands import CommandLine, PlayedServer, pod_json, problem

POD = "/pods/pod_1"


def _preparing(done: int | None, total: int | None = None) -> dict:
    progress = None if done is None else {"step": "install", "done": done, "total": total, "unit": "packages"}
    return pod_json(status="starting", reason="preparing", message="Preparing.", progress=progress)


STARTING = pod_json(status="starting", reason="not_ready", message="Its process runs.")
RUNNING = pod_json()
CREATE = ("pod", "create", "lab", "--template", "jupyterlab", "--wait")


def test_progress_is_told_in_plain_lines_where_nobody_watches(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", _preparing(None), status=201)
    played.on("GET", POD, _preparing(1, 96), _preparing(2, 96), STARTING, RUNNING)

    ran = line.run(*CREATE)

    assert ran.exit_code == 0
    assert ran.err.splitlines()[:3] == ["lab: preparing environment", "lab: starting", "lab: ready"]
    assert "http://lab-abcdefgh-8888.neuropod-pods.localhost:8080/" in ran.out
    assert "neuropod pod open lab 8888" in ran.err


def test_a_long_preparation_is_told_of_now_and_then(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", _preparing(0, 40), status=201)
    played.on("GET", POD, *[_preparing(done, 40) for done in range(40)], RUNNING)

    told = [text for text in line.run(*CREATE).err.splitlines() if "preparing" in text]

    assert told[0] == "lab: preparing environment (0 of 40 packages)"
    assert 2 <= len(told) <= 6


def test_on_a_terminal_one_line_is_written_over(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", _preparing(1, 96), status=201)
    played.on("GET", POD, _preparing(2, 96), RUNNING)

    ran = line.run(*CREATE, terminal=True)

    shown = ran.err.split("\r\x1b[K")
    assert [part.partition(" · ")[0] for part in shown[1:4]] == [
        "lab: preparing environment (1 of 96 packages)",
        "lab: preparing environment (2 of 96 packages)",
        "lab: ready",
    ]
    assert "\n" not in "".join(shown[:4])


def test_a_failure_ends_it_with_its_own_code_and_what_to_look_at(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", STARTING, status=201)
    played.on("GET", POD, pod_json(status="failed", reason="crashed", message="It crashed (exit code 1)."))

    ran = line.run(*CREATE)

    assert (ran.exit_code, ran.out) == (Exit.POD_FAILED, "")
    assert "lab is failed: It crashed (exit code 1)." in ran.err
    assert "neuropod pod logs lab" in ran.err


def test_a_crash_that_is_tried_again_is_waited_for(line: CommandLine, played: PlayedServer):
    again = pod_json(status="starting", reason="crash_loop", message="It crashed and starts again in 5 s.")
    played.on("POST", "/pods", STARTING, status=201)
    played.on("GET", POD, again, RUNNING)

    ran = line.run(*CREATE)

    assert ran.exit_code == 0
    assert "starts again in 5 s" in ran.err


def test_waiting_for_room_says_why(line: CommandLine, played: PlayedServer):
    waiting = pod_json(status="waiting", reason="no_gpu", message="Waits for a free rtx-4090. It is next.", place=1)
    played.on("POST", "/pods", waiting, status=201)
    played.on("GET", POD, waiting, RUNNING)

    assert "lab: waiting: Waits for a free rtx-4090. It is next." in line.run(*CREATE).err


def test_the_time_can_be_over(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", STARTING, status=201)
    played.on("GET", POD, STARTING)

    ran = line.run(*CREATE, "--timeout", "30")

    assert ran.exit_code == Exit.POD_FAILED
    assert "did not run within 30 s" in ran.err
    assert 30 <= sum(line.slept) < 35


def test_ctrl_c_ends_the_waiting_alone_and_says_what_goes_on(line: CommandLine, played: PlayedServer):
    def interrupt(_):
        raise KeyboardInterrupt

    line.on_sleep = interrupt
    played.on("POST", "/pods", STARTING, status=201)

    ran = line.run(*CREATE)

    assert ran.exit_code == Exit.INTERRUPTED
    assert "lab goes on by itself" in ran.err
    assert "neuropod pod stop lab" in ran.err
    assert [request.method for request in played.requests] == ["POST"]


def test_a_server_that_restarts_meanwhile_is_waited_for(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", STARTING, status=201)
    played.on("GET", POD, *[httpx.ConnectError("refused")] * 20, RUNNING)

    assert line.run(*CREATE).exit_code == 0


def test_a_server_that_stays_away_is_unreachable(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", STARTING, status=201)
    played.on("GET", POD, httpx.ConnectError("refused"))

    ran = line.run(*CREATE)

    assert ran.exit_code == Exit.UNREACHABLE
    assert sum(line.slept) > 60


def test_a_pod_that_is_stopped_or_deleted_meanwhile_is_not_waited_for(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", STARTING, status=201)
    for answer in (pod_json(status="stopping", want="stopped", message="-"), problem(404, "not_found", "no such pod")):
        played.on("GET", POD, answer)

        assert line.run(*CREATE).exit_code == Exit.POD_FAILED


def test_with_json_the_result_alone_is_on_standard_output(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods", STARTING, status=201)
    played.on("GET", POD, RUNNING)

    assert line.run(*CREATE, "--json").json["status"] == "running"


@pytest.mark.parametrize("status", ["stopped", "failed", "finished"])
def test_stop_waits_until_nothing_runs(line: CommandLine, played: PlayedServer, status):
    stopping = pod_json(status="stopping", want="stopped", message="Being stopped.")
    played.on("POST", "/pods/lab/stop", stopping)
    played.on("GET", POD, stopping, pod_json(status=status, want="stopped", message="Stopped."))

    ran = line.run("pod", "stop", "lab", "--wait")

    assert (ran.exit_code, ran.out) == (0, "lab: Stopped.\n")


def test_rm_waits_until_nothing_is_left(line: CommandLine, played: PlayedServer):
    deleting = pod_json(status="deleting", want="gone", message="Being deleted.")
    played.on("GET", "/pods/lab", pod_json())
    played.on("DELETE", POD, deleting, status=202)
    played.on("GET", POD, deleting, problem(404, "not_found", "no such pod"))

    ran = line.run("pod", "rm", "lab", "--wait")

    assert ran.exit_code == 0
    assert "Its volume workspace stays" in ran.out
    assert "lab: gone" in ran.err
