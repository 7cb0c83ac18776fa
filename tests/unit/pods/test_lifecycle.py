"""The table of DESIGN §3, row by row, and what must hold for every combination of facts."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropod.ids import IncarnationId
from neuropod.pods import lifecycle
from neuropod.pods.lifecycle import (
    Close,
    Ensure,
    Forget,
    IncarnationFacts,
    Kill,
    Open,
    PodFacts,
    Remove,
    Rest,
    Room,
    Stop,
    Wait,
    decide,
)
from neuropod.runtimes.contract import Phase, Progress, Seen
from neuropod.words import Reason, Want
from support.pod_facts import NOW, POLICY, ago, ended_run, in_, pod, run, seen_run, sight

NO_ROOM = Room(free=False, reason=Reason.NO_GPU, place=2)


# Nothing open


def test_a_new_pod_is_opened_where_there_is_room():
    assert decide(pod(), None, NOW) == Open(1, crashes=0)


def test_without_room_it_waits_in_its_queue_and_the_first_looks_oftener():
    second = decide(pod(room=NO_ROOM), None, NOW)
    first = decide(pod(room=replace(NO_ROOM, place=1)), None, NOW)

    assert second == Wait(Reason.NO_GPU, 2, in_(lifecycle.QUEUED_LOOK_SECONDS))
    assert first == Wait(Reason.NO_GPU, 1, in_(lifecycle.WAITING_LOOK_SECONDS))


def test_an_end_under_an_older_revision_opens_the_next_at_once_without_its_crashes():
    facts = pod(ended_run(Reason.CRASHED, crashes=5), run_revision=2)

    assert decide(facts, None, NOW) == Open(4, crashes=0)


def test_what_ended_well_is_not_started_again():
    assert decide(pod(ended_run(Reason.EXITED, exit_code=0)), None, NOW) == Rest()


@pytest.mark.parametrize("reason", sorted(lifecycle.FINAL))
def test_what_a_restart_would_only_repeat_is_not_restarted(reason: Reason):
    assert decide(pod(ended_run(reason)), None, in_(10**6)) == Rest()


@pytest.mark.parametrize("reason", sorted(lifecycle.CRASHES))
@pytest.mark.parametrize(("crashes", "wait"), [(0, 5), (1, 10), (2, 20), (3, 40), (4, 80)])
def test_a_crash_restarts_after_a_wait_that_doubles(reason: Reason, crashes: int, wait: int):
    ended = ended_run(reason, crashes=crashes, ended_at=NOW)

    assert decide(pod(ended), None, NOW) == Rest(until=in_(wait))
    assert decide(pod(ended), None, in_(wait)) == Open(4, crashes=crashes + 1)


def test_the_wait_after_a_crash_has_a_cap():
    facts = pod(ended_run(Reason.CRASHED, crashes=19, ended_at=NOW), policy=replace(POLICY, crash_restarts=50))

    assert decide(facts, None, NOW) == Rest(until=in_(300))


def test_one_crash_too_many_ends_it():
    assert decide(pod(ended_run(Reason.CRASHED, crashes=5)), None, in_(10**6)) == Rest()


def test_a_quiet_hour_forgets_earlier_crashes():
    ended = ended_run(Reason.CRASHED, crashes=5, started_at=ago(3600), ended_at=NOW)

    assert decide(pod(ended), None, in_(5)) == Open(4, crashes=1)


@pytest.mark.parametrize("reason", [Reason.SERVER_DOWN, Reason.REVISION])
def test_what_we_ended_ourselves_starts_again_at_once_and_counts_no_crash(reason: Reason):
    assert decide(pod(ended_run(reason, crashes=2, ended_at=NOW)), None, NOW) == Open(4, crashes=2)


def test_what_was_lost_starts_again_and_counts_no_crash():
    ended = ended_run(Reason.LOST, crashes=2, ended_at=NOW)

    assert decide(pod(ended), None, NOW) == Rest(until=in_(5))
    assert decide(pod(ended), None, in_(5)) == Open(4, crashes=2)


def test_a_stopped_pod_rests_and_a_deleted_one_is_forgotten():
    ended = ended_run(Reason.REQUESTED)

    assert decide(pod(ended, want=Want.STOPPED), None, NOW) == Rest()
    assert decide(pod(None, want=Want.STOPPED), None, NOW) == Rest()
    assert decide(pod(ended, want=Want.GONE), None, NOW) == Forget()
    assert decide(pod(None, want=Want.GONE), None, NOW) == Forget()


# Something left, or somebody else's


@pytest.mark.parametrize("want", Want)
def test_what_is_left_of_an_ended_run_is_taken_away(want: Want):
    facts = pod(ended_run(Reason.EXITED), want=want)

    assert decide(facts, sight(Phase.EXITED, Reason.EXITED), NOW) == Remove(3)
    assert decide(facts, sight(Phase.READY), NOW) == Kill(3, Reason.LOST)


@pytest.mark.parametrize("current", [run(), ended_run(Reason.LOST), seen_run()])
def test_an_older_run_in_the_place_is_taken_away_before_anything_else(current: IncarnationFacts):
    assert decide(pod(current), sight(Phase.EXITED, Reason.EXITED, incarnation=2), NOW) == Remove(2)
    assert decide(pod(current), sight(Phase.READY, incarnation=2), NOW) == Kill(2, Reason.LOST)


@pytest.mark.parametrize("current", [None, run(), ended_run(Reason.LOST)])
def test_a_newer_run_than_the_rows_know_is_left_alone(current: IncarnationFacts | None):
    step = decide(pod(current), sight(Phase.READY, incarnation=4), NOW)

    assert step == Rest(until=in_(lifecycle.WAITING_LOOK_SECONDS), reason=Reason.PLACE_OCCUPIED)


# Open, nothing there


def test_an_open_run_that_nobody_has_seen_is_asked_for():
    assert decide(pod(run()), None, NOW) == Ensure(3)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"want": Want.STOPPED}, Reason.REQUESTED),
        ({"want": Want.GONE}, Reason.REQUESTED),
        ({"want": Want.STOPPED, "want_reason": Reason.BALANCE}, Reason.BALANCE),
        ({"run_revision": 2}, Reason.REVISION),
    ],
)
def test_an_open_run_that_nobody_has_seen_nor_wants_is_closed(values: dict[str, Any], reason: Reason):
    assert decide(pod(run(), **values), None, NOW) == Close(3, reason, "", ended_at=NOW)


def test_a_run_that_is_there_no_more_is_lost_since_it_was_last_seen():
    assert decide(pod(seen_run()), None, NOW) == Close(3, Reason.LOST, "", ended_at=ago(10))


def test_a_run_that_vanished_while_being_stopped_ended_for_that_reason():
    current = seen_run(stop_sent_at=ago(5), stop_reason=Reason.START_TIMEOUT)

    assert decide(pod(current), None, NOW) == Close(3, Reason.START_TIMEOUT, "", ended_at=ago(10))


# Open and there


def test_a_ready_run_rests():
    assert decide(pod(seen_run()), sight(Phase.READY), NOW) == Rest()


def test_a_pending_run_is_looked_at_again_soon():
    facts = pod(seen_run(pending_seconds=100))

    assert decide(facts, sight(Phase.PENDING, Reason.NOT_READY), NOW) == Rest(until=in_(30))


def test_a_pending_run_past_its_deadline_is_stopped():
    facts = pod(seen_run(pending_seconds=590))

    step = decide(facts, sight(Phase.PENDING, Reason.NOT_READY), NOW)

    assert step == Stop(3, Reason.START_TIMEOUT, grace_seconds=30)


def test_it_is_looked_at_when_its_deadline_ends():
    facts = pod(seen_run(pending_seconds=580))

    assert decide(facts, sight(Phase.PENDING, Reason.NOT_READY), NOW) == Rest(until=in_(10))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"want": Want.STOPPED}, Reason.REQUESTED),
        ({"want": Want.GONE}, Reason.REQUESTED),
        ({"want": Want.STOPPED, "want_reason": Reason.IDLE}, Reason.IDLE),
        ({"run_revision": 2}, Reason.REVISION),
    ],
)
@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.READY])
def test_what_is_not_wanted_as_it_is_is_stopped(values: dict[str, Any], reason: Reason, phase: Phase):
    assert decide(pod(seen_run(), **values), sight(phase), NOW) == Stop(3, reason, grace_seconds=30)


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.READY, Phase.STOPPING])
def test_within_the_grace_it_rests_and_past_it_is_killed(phase: Phase):
    stopping = seen_run(stop_sent_at=ago(20), stop_reason=Reason.REQUESTED)
    facts = pod(stopping, want=Want.STOPPED)

    assert decide(facts, sight(phase), NOW) == Rest(until=in_(10))
    assert decide(facts, sight(phase), in_(10)) == Kill(3, Reason.REQUESTED)


def test_a_stop_that_was_not_recorded_is_sent_again():
    facts = pod(seen_run(), want=Want.STOPPED)

    assert decide(facts, sight(Phase.STOPPING, Reason.REQUESTED), NOW) == Stop(3, Reason.REQUESTED, grace_seconds=30)


def test_an_end_is_closed_with_what_the_runtime_told():
    told = sight(Phase.EXITED, Reason.OUT_OF_MEMORY, exit_code=137, finished_at=ago(3), message="4 GB")

    assert decide(pod(seen_run()), told, NOW) == Close(3, Reason.OUT_OF_MEMORY, "4 GB", ago(3), exit_code=137)


@pytest.mark.parametrize(("exit_code", "reason"), [(0, Reason.EXITED), (1, Reason.CRASHED), (None, Reason.CRASHED)])
def test_where_the_runtime_tells_no_reason_the_exit_code_does(exit_code: int | None, reason: Reason):
    step = decide(pod(seen_run()), sight(Phase.EXITED, Reason.EXITED, exit_code=exit_code), NOW)

    assert isinstance(step, Close)
    assert step.reason is reason


def test_an_end_by_our_signal_is_no_crash():
    stopping = seen_run(stop_sent_at=ago(5), stop_reason=Reason.REQUESTED)

    step = decide(pod(stopping, want=Want.STOPPED), sight(Phase.EXITED, Reason.CRASHED, exit_code=143), NOW)

    assert isinstance(step, Close)
    assert (step.reason, step.exit_code) == (Reason.REQUESTED, 143)


def test_an_end_is_never_before_its_start():
    told = sight(Phase.EXITED, Reason.CRASHED, started_at=ago(5), finished_at=ago(9))

    step = decide(pod(seen_run()), told, NOW)

    assert isinstance(step, Close)
    assert step.ended_at == ago(5)


# The start deadline counts only what was observed, and only what is the pod's own


def test_time_in_which_nobody_looked_does_not_count():
    current = seen_run(last_seen_at=ago(3600), pending_seconds=590)

    step = decide(pod(current), sight(Phase.PENDING, Reason.NOT_READY), NOW)

    assert isinstance(step, Rest)


@pytest.mark.parametrize("reason", [Reason.PREPARING, Reason.SCHEDULING])
def test_preparing_and_waiting_for_a_node_do_not_count(reason: Reason):
    current = seen_run(pending_seconds=599)

    assert decide(pod(current), sight(Phase.PENDING, reason), NOW) == Rest(until=in_(1))


def test_a_pull_counts_only_while_it_stands_still():
    before, after = Progress("pull", 1, 9, "bytes"), Progress("pull", 2, 9, "bytes")
    current = seen_run(pending_seconds=595, progress=before)

    moving = decide(pod(current), sight(Phase.PENDING, Reason.PULLING, progress=after), NOW)
    standing = decide(pod(current), sight(Phase.PENDING, Reason.PULLING, progress=before), NOW)

    assert isinstance(moving, Rest)
    assert standing == Stop(3, Reason.START_TIMEOUT, grace_seconds=30)


def test_a_pod_that_never_becomes_ready_is_stopped_after_its_deadline_of_looks():
    facts = pod(run())
    now = NOW
    for _ in range(100):
        told = sight(Phase.PENDING, Reason.NOT_READY, started_at=NOW)
        step = decide(facts, told, now)
        if isinstance(step, Stop):
            break
        assert isinstance(step, Rest)
        assert facts.incarnation is not None
        assert step.until is not None
        facts = replace(facts, incarnation=lifecycle.observed(facts.incarnation, told, now))
        now = step.until

    assert step == Stop(3, Reason.START_TIMEOUT, grace_seconds=30)
    assert (now - NOW).total_seconds() == pytest.approx(600)


# A rejected workload


def test_a_rejected_workload_is_closed_and_not_tried_again():
    close = lifecycle.rejected(pod(run()), Reason.REJECTED, "no such image", NOW)

    assert close == Close(3, Reason.REJECTED, "no such image", NOW)
    assert close is not None
    assert decide(pod(lifecycle.closed(run(), close)), None, in_(10**6)) == Rest()


def test_a_taken_place_is_no_rejection():
    assert lifecycle.rejected(pod(run()), Reason.PLACE_OCCUPIED, "", NOW) is None


def test_one_whose_gpu_went_before_it_started_is_opened_again_soon():
    close = lifecycle.rejected(pod(run()), Reason.GPU_LOST, "GPU a cannot be used: it is lost.", NOW)
    assert close is not None
    assert close.reason is Reason.GPU_LOST

    ended = lifecycle.closed(run(), close)

    assert decide(pod(ended), None, NOW) == Rest(until=in_(5))
    assert decide(pod(ended), None, in_(5)) == Open(4, crashes=0)


# For every combination

times = st.one_of(st.none(), st.integers(-4000, 4000).map(lambda seconds: NOW + timedelta(seconds=seconds)))
reasons = st.sampled_from(Reason)


@st.composite
def any_facts(draw: st.DrawFn) -> PodFacts:
    current = draw(
        st.none()
        | st.builds(
            IncarnationFacts,
            id=st.just(IncarnationId("inc")),
            number=st.integers(1, 4),
            run_revision=st.integers(1, 3),
            opened_at=st.just(ago(500)),
            reason=reasons,
            crashes=st.integers(0, 7),
            phase=st.none() | st.sampled_from(Phase),
            pending_seconds=st.floats(0, 1000),
            first_seen_at=times,
            last_seen_at=times,
            started_at=times,
            ready_at=times,
            stop_sent_at=times,
            stop_reason=st.none() | reasons,
            ended_at=times,
            removed_at=times,
        )
    )
    return pod(
        current,
        want=draw(st.sampled_from(Want)),
        want_reason=draw(reasons),
        run_revision=draw(st.integers(1, 3)),
        room=draw(st.builds(Room, free=st.booleans(), place=st.integers(1, 5))),
    )


any_sight = st.none() | st.builds(
    sight,
    st.sampled_from(Phase),
    reasons,
    st.integers(1, 5),
    exit_code=st.none() | st.integers(0, 255),
    started_at=times,
    stopping_at=times,
    finished_at=times,
)


@given(any_facts(), any_sight)
def test_every_combination_has_exactly_one_step_and_it_hits_no_other_incarnation(facts: PodFacts, seen: Seen | None):
    step = decide(facts, seen, NOW)

    assert step == decide(facts, seen, NOW)
    current = facts.incarnation
    match step:
        case Open():
            assert facts.want is Want.RUNNING
            assert seen is None
            assert step.incarnation == (current.number if current else 0) + 1
            assert current is None or not current.open
        case Ensure():
            assert current is not None
            assert current.open
            assert step.incarnation == current.number
            assert seen is None
            assert facts.want is Want.RUNNING
        case Stop() | Close():
            assert current is not None
            assert current.open
            assert step.incarnation == current.number
        case Kill() | Remove():
            assert seen is not None
            assert step.incarnation == seen.id.incarnation
            assert current is not None
            assert step.incarnation <= current.number
        case Forget():
            assert facts.want is Want.GONE
            assert seen is None
        case Wait() | Rest():
            pass
    if isinstance(step, Remove):
        assert seen is not None
        assert seen.phase is Phase.EXITED
    if isinstance(step, Rest) and step.until is not None:
        assert step.until > NOW


@given(any_facts(), any_sight)
def test_no_two_runs_of_a_pod_at_a_time(facts: PodFacts, seen: Seen | None):
    """Whatever stands in the pod's place, nothing is opened or asked for before it is away."""
    if seen is not None:
        assert not isinstance(decide(facts, seen, NOW), Open | Ensure | Forget)


@given(any_facts(), any_sight)
def test_what_is_open_and_wanted_is_never_ended_while_it_is_ready(facts: PodFacts, seen: Seen | None):
    current = facts.incarnation
    if current is None or not current.open or seen is None or seen.id.incarnation != current.number:
        return
    wanted = facts.want is Want.RUNNING and current.run_revision >= facts.run_revision
    if wanted and seen.phase is Phase.READY and current.stop_sent_at is None:
        assert decide(facts, seen, NOW) == Rest()
