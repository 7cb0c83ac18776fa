"""SECURITY 31: a flood of sign-ins takes little memory, tries are throttled, and nobody can lock somebody else out."""

import asyncio
import subprocess
import sys

import httpx

from support.api import PASSWORD, ApiWorld

FLOOD = """
import asyncio, resource
from neuropod.accounts.passwords import Passwords
from neuropod.kit.errors import ThrottledError

async def main():
    passwords = Passwords()
    encoded = await passwords.hash("a password")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tries = [passwords.verify(encoded if number % 2 else None, "wrong") for number in range(200)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) // 1024, sum(isinstance(outcome, ThrottledError) for outcome in outcomes))

asyncio.run(main())
"""


def test_two_hundred_sign_ins_at_once_take_the_memory_of_two():
    run = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, timeout=100, check=True)

    more_megabytes, sent_away = (int(number) for number in run.stdout.split())
    assert more_megabytes < 2 * 64 + 32  # a hash takes 64 MB; one was taken before
    assert sent_away == 178


async def _try(
    world: ApiWorld, address: str, email: str = "owner@example.org", password: str = "wrong"
) -> httpx.Response:
    transport = httpx.ASGITransport(world.app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url=world.console) as client:
        return await client.post("/api/v1/session", json={"email": email, "password": password})


async def test_tries_at_an_account_are_throttled_and_the_answer_says_for_how_long(world: ApiWorld):
    statuses = [(await _try(world, "203.0.113.1")).status_code for _ in range(7)]
    refused = await _try(world, "203.0.113.1", password=PASSWORD)  # the right one too
    await world.clock.advance(int(refused.headers["retry-after"]) + 1)
    later = await _try(world, "203.0.113.1", password=PASSWORD)

    assert statuses == [401] * 5 + [429] * 2
    assert (refused.status_code, refused.json()["code"]) == (429, "throttled")
    assert later.status_code == 201


async def test_an_attacker_does_not_lock_the_owner_out(world: ApiWorld):
    await _try(world, "192.0.2.50", password=PASSWORD)  # where the owner is at home
    for number in range(60):
        await _try(world, f"203.0.113.{number}")

    strange = await _try(world, "198.51.100.99", password=PASSWORD)
    at_home = await _try(world, "192.0.2.50", password=PASSWORD)

    assert strange.status_code == 429
    assert at_home.status_code == 201


async def test_one_address_that_tries_a_list_of_people_is_throttled(world: ApiWorld):
    statuses = [(await _try(world, "203.0.113.1", f"p{number}@example.org")).status_code for number in range(35)]

    assert statuses[:30] == [401] * 30
    assert set(statuses[30:]) == {429}


async def test_an_unknown_person_is_answered_like_a_known_one(world: ApiWorld):
    known, unknown = await _try(world, "203.0.113.1"), await _try(world, "203.0.113.2", "nobody@example.org")

    assert known.status_code == unknown.status_code == 401
    assert known.text == unknown.text


async def test_tries_at_once_count_before_their_passwords_are_looked_at(sqlite_world: ApiWorld):
    answers = await asyncio.gather(*(_try(sqlite_world, "203.0.113.1") for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 15
