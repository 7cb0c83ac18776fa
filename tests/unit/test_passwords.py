"""Passwords: two hashes at once, a dummy that costs as much, rules for new ones."""

import asyncio
import threading

import pytest
from argon2 import PasswordHasher

from neuropod.accounts.passwords import AT_ONCE, QUEUE, Passwords, password_errors
from neuropod.kit.errors import ThrottledError

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Slow(PasswordHasher):
    """Counts who is inside at once, and waits to be let go."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.inside = 0
        self.most = 0
        self.seen: list[str] = []
        self.lock = threading.Lock()
        self.go = threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.seen.append(str(hash))
        self.go.wait(10)
        with self.lock:
            self.inside -= 1
        return super().verify(hash, password)


async def test_a_password_is_known_again_and_no_other():
    passwords = Passwords(CHEAP)

    encoded = await passwords.hash("correct horse")

    assert encoded.startswith("$argon2id$")
    assert await passwords.verify(encoded, "correct horse")
    assert not await passwords.verify(encoded, "Correct horse")
    assert not await passwords.verify("damaged", "correct horse")
    assert not await passwords.verify(encoded, "x" * 100_000)
    passwords.close()


async def test_never_more_than_two_hash_at_once_and_a_crowd_is_sent_away():
    slow = Slow()
    passwords = Passwords(slow)

    tries = [asyncio.create_task(passwords.verify(None, "x")) for _ in range(AT_ONCE + QUEUE + 5)]
    await asyncio.sleep(0)
    slow.go.set()
    outcomes = await asyncio.gather(*tries, return_exceptions=True)

    assert slow.most <= AT_ONCE
    assert [type(outcome) for outcome in outcomes].count(ThrottledError) == 5
    assert await passwords.verify(None, "x") is False
    passwords.close()


async def test_nobody_costs_as_much_as_somebody():
    slow = Slow()
    slow.go.set()
    passwords = Passwords(slow)

    assert not await passwords.verify(None, "x")

    real = await passwords.hash("x")
    assert slow.seen[0].rsplit("$", 2)[0] == real.rsplit("$", 2)[0]  # the same kind, version and cost
    assert not slow.check_needs_rehash(slow.seen[0])
    passwords.close()


async def test_the_cost_in_use_is_what_the_standard_recommends_at_least():
    """OWASP's floor for argon2id is 19 MiB and 2 passes."""
    passwords = Passwords()

    assert passwords._hasher.memory_cost >= 19 * 1024
    assert passwords._hasher.time_cost >= 2
    assert passwords.needs_rehash(CHEAP.hash("x"))
    passwords.close()


@pytest.mark.parametrize(
    ("password", "codes"),
    [
        ("a long enough sentence", []),
        ("too short", ["too_short"]),
        ("x" * 501, ["too_long"]),
        ("aaaaaaaaaaaa", ["guessable"]),
        ("Somebody@example.org", ["guessable"]),
    ],
)
def test_what_may_become_a_password(password: str, codes: list[str]):
    errors = password_errors(password, email="somebody@example.org", least=10)

    assert [error.code for error in errors] == codes
