"""How long a sign-in waits, as a table."""

from datetime import UTC, datetime, timedelta

import pytest

from neuropod.accounts.throttle import Tries, counted_address, wait_seconds

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONE = Tries(0, None)


def _tries(count: int, seconds_ago: float = 0) -> Tries:
    return Tries(count, NOW - timedelta(seconds=seconds_ago))


@pytest.mark.parametrize(
    ("both", "of_address", "of_account", "familiar", "seconds"),
    [
        (NONE, NONE, NONE, False, 0),
        (_tries(4), _tries(4), _tries(4), False, 0),
        (_tries(5), _tries(5), _tries(5), False, 30),
        (_tries(5, 29.5), _tries(5), _tries(5), False, 1),
        (_tries(5, 30), _tries(5), _tries(5), False, 0),
        (_tries(6), _tries(6), _tries(6), False, 60),
        (_tries(8), _tries(8), _tries(8), False, 240),
        (_tries(100), NONE, NONE, True, 900),  # never longer than the window
        (NONE, _tries(29), NONE, False, 0),
        (NONE, _tries(30), NONE, False, 60),  # somebody tries a list of people
        (NONE, NONE, _tries(49), False, 0),
        (NONE, NONE, _tries(50), False, 30),  # many machines try one person
        (NONE, NONE, _tries(5000), True, 0),  # who cannot be locked out where they have signed in before
    ],
)
def test_the_wait(both: Tries, of_address: Tries, of_account: Tries, familiar: bool, seconds: int):
    waited = wait_seconds(both=both, of_address=of_address, of_account=of_account, familiar_address=familiar, now=NOW)

    assert waited == seconds


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("nowhere", "nowhere"),
    ],
)
def test_what_counts_as_one_address(address: str, counted: str):
    assert counted_address(address) == counted
