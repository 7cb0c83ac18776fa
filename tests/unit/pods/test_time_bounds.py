"""Which limits of time may be asked for, and what holds where nothing is."""

import pytest
from pydantic import ValidationError

from neuropod.pods.launch import UNSET
from neuropod.pods.limits.bounds import AskedLimits, TimeLimits, limits_at_launch, limits_of
from neuropod.settings import LimitSettings

OPEN = LimitSettings()
BOUND = LimitSettings(default_stop_after_seconds=3600, max_stop_after_seconds=7200, max_idle_stop_after_seconds=1800)


@pytest.mark.parametrize(
    ("settings", "asked", "unbounded", "limits"),
    [
        (OPEN, AskedLimits(), False, TimeLimits()),
        (OPEN, AskedLimits(60, 31_622_400), False, TimeLimits(60, 31_622_400)),
        (OPEN, AskedLimits(None, None), False, TimeLimits()),
        (BOUND, AskedLimits(), False, TimeLimits(3600, 1800)),
        (BOUND, AskedLimits(7200, 60), False, TimeLimits(7200, 60)),
        (BOUND, AskedLimits(), True, TimeLimits(3600, None)),
        (BOUND, AskedLimits(None, 100_000), True, TimeLimits(None, 100_000)),
    ],
)
def test_what_holds_for_a_new_pod(settings: LimitSettings, asked: AskedLimits, unbounded: bool, limits: TimeLimits):
    at_launch = limits_at_launch(settings, TimeLimits(), unbounded=unbounded)

    assert limits_of(asked, at_launch, settings, unbounded=unbounded) == (limits, ())


@pytest.mark.parametrize(
    ("settings", "asked", "wrong"),
    [
        (OPEN, AskedLimits(59, 0), [("stop_after_seconds", "range"), ("idle_stop_after_seconds", "range")]),
        (OPEN, AskedLimits(31_622_401), [("stop_after_seconds", "range")]),
        (BOUND, AskedLimits(7201, 1801), [("stop_after_seconds", "range"), ("idle_stop_after_seconds", "range")]),
        (BOUND, AskedLimits(None, None), [("stop_after_seconds", "missing"), ("idle_stop_after_seconds", "missing")]),
    ],
)
def test_what_is_wrong_names_the_field_and_the_rule(settings: LimitSettings, asked: AskedLimits, wrong: list):
    _, errors = limits_of(asked, TimeLimits(), settings, unbounded=False)

    assert [(error.field, error.code) for error in errors] == wrong


@pytest.mark.parametrize(
    ("settings", "template", "unbounded", "limits"),
    [
        (OPEN, TimeLimits(600, 60), False, TimeLimits(600, 60)),
        (BOUND, TimeLimits(600, None), False, TimeLimits(600, 1800)),
        (BOUND, TimeLimits(100_000, 100_000), False, TimeLimits(7200, 1800)),
        (BOUND, TimeLimits(100_000, 100_000), True, TimeLimits(100_000, 100_000)),
    ],
)
def test_a_template_says_what_holds_before_the_settings_do_and_within_their_bounds(
    settings: LimitSettings, template: TimeLimits, unbounded: bool, limits: TimeLimits
):
    assert limits_at_launch(settings, template, unbounded=unbounded) == limits


def test_an_edit_that_leaves_a_limit_keeps_it_though_less_may_be_asked_for_now():
    kept, errors = limits_of(AskedLimits(UNSET, 600), TimeLimits(100_000, None), BOUND, unbounded=False)

    assert (kept, errors) == (TimeLimits(100_000, 600), ())


def test_a_default_above_the_most_is_refused_at_the_start():
    with pytest.raises(ValidationError, match="default_stop_after_seconds is above max_stop_after_seconds"):
        LimitSettings(default_stop_after_seconds=7200, max_stop_after_seconds=3600)
