"""When a pod counts as idle, what keeps it, and when its limits stop it: a table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from neuropod.pods.limits.bounds import TimeLimits
from neuropod.pods.limits.idleness import (
    Found,
    Idleness,
    IdleView,
    Outlook,
    Thresholds,
    coming_stops,
    looked,
    outlook_of,
    warning,
    with_warning,
)
from neuropod.pods.status import Shown
from neuropod.words import Activity, Reason, Status

T = datetime(2026, 1, 1, 12, tzinfo=UTC)
THRESHOLDS = Thresholds(look_seconds=60, cpu_percent=10, gpu_percent=5, warning_seconds=600)


def at(minutes: float) -> datetime:
    return T + timedelta(minutes=minutes)


def found(minutes: float, **values: Any) -> Found:
    return Found(**({"at": at(minutes), "cpu_cores": 0.01} | values))


IDLE = Idleness(at(10), at(3))
BUSY = Idleness(at(10), at(10), (Activity.CPU,))


@pytest.mark.parametrize(
    ("before", "look", "after"),
    [
        # Nothing happens: it stays idle since it was; the first look of a run begins to count.
        (IDLE, found(11), Idleness(at(11), at(3))),
        (None, found(11), Idleness(at(11), at(11))),
        (BUSY, found(11), Idleness(at(11), at(10))),
        # Each of the four keeps it, and together they are all told.
        (IDLE, found(11, used=True), Idleness(at(11), at(11), (Activity.CONNECTIONS,))),
        (IDLE, found(11, kernels_at=at(10.5)), Idleness(at(11), at(11), (Activity.KERNELS,))),
        (IDLE, found(11, cpu_cores=0.11), Idleness(at(11), at(11), (Activity.CPU,))),
        (IDLE, found(11, gpu_percent=6), Idleness(at(11), at(11), (Activity.GPU,))),
        (
            IDLE,
            found(11, used=True, kernels_at=at(11), cpu_cores=3, gpu_percent=100),
            Idleness(at(11), at(11), (Activity.CONNECTIONS, Activity.KERNELS, Activity.CPU, Activity.GPU)),
        ),
        # At the thresholds it is idle; a GPU that cannot be read, or an old kernel, keeps nothing.
        (IDLE, found(11, cpu_cores=0.1), Idleness(at(11), at(3))),
        (IDLE, found(11, gpu_percent=5), Idleness(at(11), at(3))),
        (IDLE, found(11, gpu_percent=None), Idleness(at(11), at(3))),
        (IDLE, found(11, kernels_at=at(9)), Idleness(at(11), at(3))),
        # A look that came a little late is no gap; an hour in which nobody looked does not count.
        (IDLE, found(12.4), Idleness(at(12.4), at(3))),
        (IDLE, found(70), Idleness(at(70), at(63))),
        (BUSY, found(70), Idleness(at(70), at(70))),
        (IDLE, found(70, used=True), Idleness(at(70), at(70), (Activity.CONNECTIONS,))),
    ],
)
def test_what_a_look_makes_of_what_was_known(before: Idleness | None, look: Found, after: Idleness):
    assert looked(before, look, THRESHOLDS) == after


@pytest.mark.parametrize(
    ("limits", "started_at", "idleness", "outlook"),
    [
        (TimeLimits(), T, IDLE, Outlook()),
        (TimeLimits(3600, None), T, None, Outlook(at(60))),
        (TimeLimits(3600, None), None, None, Outlook()),
        (TimeLimits(None, 1800), T, None, Outlook(None, IdleView())),
        (TimeLimits(None, 1800), T, IDLE, Outlook(None, IdleView(at(3), at(33)))),
        (TimeLimits(None, 1800), T, BUSY, Outlook(None, IdleView(kept_by=(Activity.CPU,)))),
        (TimeLimits(3600, 1800), T, IDLE, Outlook(at(60), IdleView(at(3), at(33)))),
    ],
)
def test_when_the_limits_stop_a_run(
    limits: TimeLimits, started_at: datetime | None, idleness: Idleness | None, outlook: Outlook
):
    assert outlook_of(limits, started_at, idleness) == outlook


def test_the_stop_that_comes_first_is_first_and_each_is_warned_of_in_time():
    limits = TimeLimits(3600, 1800)

    stops = coming_stops(limits, outlook_of(limits, T, IDLE), THRESHOLDS)

    assert [(stop.reason, stop.at, stop.warned_from) for stop in stops] == [
        (Reason.IDLE, at(33), at(23)),
        (Reason.DEADLINE, at(60), at(50)),
    ]


def test_a_short_limit_is_warned_of_at_its_half():
    limits = TimeLimits(120, None)

    (stop,) = coming_stops(limits, outlook_of(limits, T, None), THRESHOLDS)

    assert (stop.at, stop.warned_from) == (at(2), at(1))


@pytest.mark.parametrize(
    ("now", "status", "warns"),
    [(49, Status.RUNNING, False), (50, Status.RUNNING, True), (50, Status.STOPPING, False)],
)
def test_the_status_warns_while_the_stop_is_near(now: int, status: Status, warns: bool):
    limits = TimeLimits(3600, None)
    shown = Shown(status, Reason.READY, "Running.")

    stops = coming_stops(limits, outlook_of(limits, T, None), THRESHOLDS)

    expected = f"Running. {warning(stops[0], at(now))}" if warns else "Running."
    assert with_warning(shown, stops, at(now)).message == expected
    assert "13:00 UTC" in warning(stops[0], at(now))
    assert "in a moment" in warning(stops[0], at(60))
