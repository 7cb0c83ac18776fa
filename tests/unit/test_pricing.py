"""Prices: exact, and the same however a time is cut."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropod.catalogue.pricing import cost, price_of, window_cost
from neuropod.kit.money import Micros, micros

START = datetime(2026, 1, 1, tzinfo=UTC)

prices = st.integers(0, 1_000_000_000).map(Micros)
durations = st.timedeltas(timedelta(0), timedelta(days=400))


@pytest.mark.parametrize(
    ("price", "duration", "expected"),
    [
        ("0.30", timedelta(hours=1), 300_000),
        ("0.30", timedelta(seconds=1), 83),  # 83.33
        ("0.50", timedelta(seconds=1), 139),  # 138.88…
        ("2.50", timedelta(minutes=90), 3_750_000),
        ("0.30", timedelta(0), 0),
        ("0.30", timedelta(seconds=-5), 0),
        ("0.0036", timedelta(microseconds=499_999), 0),
        ("0.0036", timedelta(microseconds=500_000), 1),  # half up
    ],
)
def test_a_time_costs_its_part_of_the_hour_rounded_half_up(price, duration, expected):
    assert cost(micros(price), duration) == expected


@given(prices, durations)
def test_a_cost_is_never_more_than_half_a_micro_off(price, duration):
    exact = Fraction(price) * (duration // timedelta(microseconds=1)) / 3_600_000_000

    assert abs(cost(price, duration) - exact) <= Fraction(1, 2)


@given(prices, durations, durations)
def test_a_longer_time_never_costs_less(price, one, other):
    assert cost(price, min(one, other)) <= cost(price, max(one, other))


@given(prices, durations, st.lists(durations, max_size=20))
def test_windows_sum_to_the_whole_however_the_time_is_cut(price, whole, cuts):
    times = sorted({START, START + whole, *(START + min(cut, whole) for cut in cuts)})

    charged = [window_cost(price, START, a, b) for a, b in pairwise(times)]

    assert sum(charged) == cost(price, whole)
    assert all(amount >= 0 for amount in charged)


@given(prices, durations, durations, durations)
def test_a_window_costs_the_difference_of_the_two_totals(price, before, length, head):
    begin = START + before

    charged = window_cost(price, START - head, begin, begin + length)

    assert charged == cost(price, head + before + length) - cost(price, head + before)


def test_time_before_the_start_is_not_charged():
    hour = timedelta(hours=1)

    assert window_cost(micros("1"), START, START - hour, START + hour) == 1_000_000
    assert window_cost(micros("1"), START, START - 2 * hour, START - hour) == 0


@given(prices, st.integers(1, 16))
def test_two_units_cost_twice_one(price, count):
    assert price_of(price, count) == sum([price] * count)
