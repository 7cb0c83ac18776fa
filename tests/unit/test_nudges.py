"""Nudges of a runtime: all that follow are told, once where it was to be later; a busy one loses what is too much."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

from neuropod.ids import PodId
from neuropod.runtimes.nudges import Nudges

ONE, OTHER = PodId("pod_1"), PodId("pod_2")


async def _following(nudges: Nudges) -> tuple[AsyncIterator[PodId], Awaitable[PodId]]:
    """Return a follower that follows, and the first that it is told."""
    follower = nudges.follow()
    first = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    return follower, first


async def test_all_that_follow_are_told():
    nudges = Nudges()
    _, one = await _following(nudges)
    _, other = await _following(nudges)
    nudges.send(ONE)

    assert (await one, await other) == (ONE, ONE)


async def test_what_was_to_be_told_later_is_told_once_and_by_what_is_told_before():
    nudges = Nudges()
    follower, first = await _following(nudges)
    nudges.send_later(ONE, 0)
    nudges.send_later(ONE, 0)
    nudges.send(ONE)
    nudges.send_later(OTHER, 0)

    assert [await first, await anext(follower)] == [ONE, OTHER]


async def test_nothing_is_told_later_after_the_close():
    nudges = Nudges()
    _, first = await _following(nudges)
    nudges.send_later(ONE, 0)
    nudges.close()
    nudges.send_later(OTHER, 0)

    assert await first == OTHER


async def test_a_follower_that_is_busy_loses_what_is_too_much_and_hears_on():
    nudges = Nudges()
    follower, first = await _following(nudges)
    for _ in range(20_000):
        nudges.send(ONE)
    told = [await first] + [await anext(follower) for _ in range(9_999)]
    nudges.send(OTHER)

    assert (set(told), await anext(follower)) == ({ONE}, OTHER)
