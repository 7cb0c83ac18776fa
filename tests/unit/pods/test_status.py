"""What a pod is shown as, for each of its situations; every sentence says what is, and what to do where one can."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropod.pods.lifecycle import Room
from neuropod.pods.status import is_settled, status_of
from neuropod.runtimes.contract import Phase, Progress
from neuropod.words import Reason, Status, Want
from support.pod_facts import NOW, ago, ended_run, in_, pod, run, seen_run


def shown(*args: Any, now: datetime = NOW, **values: Any):
    return status_of(pod(*args, **values), now)


def test_a_new_pod_is_about_to_start():
    it = shown()

    assert (it.status, it.reason, it.since) == (Status.STARTING, Reason.STARTING, ago(1000))


def test_a_pod_without_room_says_for_what_it_waits_and_its_place():
    waiting = {"waiting_reason": Reason.NO_GPU, "waiting_since": ago(60), "gpu_type": "rtx-4090"}

    third = shown(**waiting, room=Room(free=False, place=3))
    first = shown(**(waiting | {"waiting_reason": Reason.NO_CAPACITY}))

    assert (third.status, third.reason, third.place, third.since) == (Status.WAITING, Reason.NO_GPU, 3, ago(60))
    assert third.message == "Waits for a free rtx-4090. 2 asked earlier; it starts by itself, and waiting is free."
    assert first.place == 1
    assert first.message == (
        "Waits for free CPU and memory (4 GB). It is next; it starts by itself, and waiting is free."
    )


def test_preparing_shows_how_far_it_is():
    progress = Progress("install", 40, 100, "packages")

    it = shown(seen_run(phase=Phase.PENDING, reason=Reason.PREPARING, progress=progress, started_at=None))

    assert (it.status, it.reason, it.progress) == (Status.STARTING, Reason.PREPARING, progress)


def test_a_process_that_does_not_answer_yet_is_starting():
    it = shown(seen_run(phase=Phase.PENDING, reason=Reason.NOT_READY))

    assert (it.status, it.reason) == (Status.STARTING, Reason.NOT_READY)
    assert "Its log" in it.message


def test_a_pod_whose_gpu_is_lost_runs_and_says_so():
    trouble = "its GPU GPU-a is lost to it: it reported a critical error (Xid 79)"

    it = shown(seen_run(phase=Phase.READY, reason=Reason.READY, ready_at=ago(300), device_trouble=trouble))
    again = shown(ended_run(Reason.GPU_LOST))

    assert (it.status, it.reason) == (Status.RUNNING, Reason.GPU_LOST)
    assert it.message == f"Running, but {trouble}. Restart it to get another GPU."
    assert (again.status, again.reason) == (Status.STARTING, Reason.GPU_LOST)
    assert "on another one that is free" in again.message


def test_a_ready_pod_is_running_since_it_was_ready():
    it = shown(seen_run(phase=Phase.READY, reason=Reason.READY, ready_at=ago(300)))

    assert (it.status, it.reason, it.since) == (Status.RUNNING, Reason.READY, ago(300))


def test_a_runtime_that_does_not_answer_makes_it_unreachable_since_then():
    it = shown(seen_run(phase=Phase.READY, reason=Reason.READY, ready_at=ago(300), unavailable_since=ago(20)))

    assert (it.status, it.reason, it.since) == (Status.UNREACHABLE, Reason.RUNTIME_UNREACHABLE, ago(20))


def test_a_pod_whose_runtime_no_server_serves_is_unreachable_unless_it_is_stopped():
    assert shown(seen_run(phase=Phase.READY), served=False).reason is Reason.NO_SERVER
    assert shown(None, served=False).status is Status.UNREACHABLE
    assert shown(ended_run(Reason.REQUESTED), served=False, want=Want.STOPPED).status is Status.STOPPED


@pytest.mark.parametrize("phase", Phase)
def test_a_stop_shows_at_once(phase: Phase):
    it = shown(seen_run(phase=phase), want=Want.STOPPED, want_at=ago(2))

    assert (it.status, it.reason, it.since) == (Status.STOPPING, Reason.REQUESTED, ago(2))


def test_a_restart_shows_that_it_comes_back():
    it = shown(seen_run(phase=Phase.READY), run_revision=2)

    assert (it.status, it.reason) == (Status.STOPPING, Reason.REVISION)
    assert "started anew" in it.message


def test_a_stopped_pod_says_what_is_lost():
    it = shown(ended_run(Reason.REQUESTED), want=Want.STOPPED)

    assert (it.status, it.reason) == (Status.STOPPED, Reason.REQUESTED)
    assert it.message == "Stopped. Its volume is kept; what it wrote elsewhere is gone."


@pytest.mark.parametrize("reason", [Reason.BALANCE, Reason.SUSPENDED, Reason.DEADLINE, Reason.IDLE])
def test_a_pod_that_a_loop_stopped_says_why(reason: Reason):
    it = shown(ended_run(reason), want=Want.STOPPED, want_reason=reason)

    assert (it.status, it.reason) == (Status.STOPPED, reason)
    assert it.message.startswith("Stopped: ")


def test_a_program_that_ended_well_is_finished():
    it = shown(ended_run(Reason.EXITED, exit_code=0))

    assert (it.status, it.reason, it.since) == (Status.FINISHED, Reason.EXITED, ago(1))


def test_a_crash_tells_when_the_next_try_is():
    it = shown(ended_run(Reason.CRASHED, exit_code=1, crashes=1, ended_at=NOW))

    assert (it.status, it.reason) == (Status.STARTING, Reason.CRASH_LOOP)
    assert it.message.startswith("It crashed (exit code 1) and starts again in 10 s (try 2 of 5).")


def test_when_the_wait_is_over_it_is_about_to_start():
    it = shown(ended_run(Reason.CRASHED, exit_code=1, crashes=1, ended_at=NOW), now=in_(10))

    assert (it.status, it.reason) == (Status.STARTING, Reason.STARTING)


def test_one_crash_too_many_is_a_failure():
    it = shown(ended_run(Reason.CRASHED, exit_code=1, crashes=5))

    assert (it.status, it.reason) == (Status.FAILED, Reason.CRASHED_TOO_OFTEN)
    assert it.message == "It crashed (exit code 1), 6 times in a row. Its log says more; start it to try again."


def test_out_of_memory_says_how_much_there_was_and_what_to_do():
    it = shown(ended_run(Reason.OUT_OF_MEMORY, exit_code=137, crashes=5))

    assert (it.status, it.reason) == (Status.FAILED, Reason.OUT_OF_MEMORY)
    assert it.message == "It ran out of memory (4 GB); start it on a larger type."


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.DISK_FULL, "(now 10 GB)"),
        (Reason.START_TIMEOUT, "within 10 minutes"),
        (Reason.PREPARE_FAILED, "could not be prepared: no such package"),
        (Reason.REJECTED, "cannot run as it is: no such package"),
        (Reason.SECRET_MISSING, "was not started: no such package"),
    ],
)
def test_other_failures_say_what_to_do(reason: Reason, words: str):
    it = shown(ended_run(reason, message="no such package."))

    assert (it.status, it.reason) == (Status.FAILED, reason)
    assert words in it.message
    assert "start it" in it.message.lower()


def test_a_deleted_pod_is_being_deleted_whatever_its_run_does():
    assert shown(seen_run(phase=Phase.READY), want=Want.GONE).status is Status.DELETING
    assert shown(ended_run(Reason.CRASHED), want=Want.GONE).status is Status.DELETING
    assert shown(None, want=Want.GONE, served=False).reason is Reason.NO_SERVER


def test_a_defect_of_ours_is_shown_as_ours_once_it_is_no_accident():
    assert shown(run(), failures=1).reason is Reason.SCHEDULING
    assert shown(run(), failures=3).reason is Reason.INTERNAL


def test_settled_are_those_that_stay_by_themselves():
    assert {status for status in Status if is_settled(status)} == {
        Status.RUNNING,
        Status.STOPPED,
        Status.FINISHED,
        Status.FAILED,
    }


@given(
    st.sampled_from(Want),
    st.sampled_from(Reason),
    st.sampled_from(Reason),
    st.booleans(),
    st.none() | st.sampled_from(Phase),
    st.booleans(),
    st.booleans(),
)
def test_every_situation_has_a_sentence(want, want_reason, reason, ended, phase, waits, served):
    current = ended_run(reason) if ended else seen_run(reason=reason, phase=phase)

    it = shown(
        current,
        want=want,
        want_reason=want_reason,
        waiting_reason=Reason.NO_CAPACITY if waits else None,
        waiting_since=NOW if waits else None,
        served=served,
    )

    assert it.message.endswith(".")
    assert it.message[0].isupper()
    assert it.since is not None
