"""By what a launch chooses among runtimes: one that hangs holds none up, and of one alone nothing is asked."""

import asyncio
import time
from typing import Any, cast

import pytest

from neuropod.api.offers import to_choose_from
from neuropod.ids import RuntimeId
from neuropod.runtimes.contract import Capacity, RuntimeUnavailableError
from neuropod.runtimes.opened import Runtimes

HAS = Capacity(1, 1, 1)


class Telling:
    """As much of a runtime as is asked."""

    def __init__(self, answers: Capacity | Exception | None) -> None:
        self.answers = answers  # None: never
        self.asked = 0

    async def capacity(self) -> Capacity:
        self.asked += 1
        if self.answers is None:
            await asyncio.Event().wait()
        if isinstance(self.answers, Exception):
            raise self.answers
        return cast("Capacity", self.answers)


def runtimes(*made: Telling) -> Runtimes:
    return Runtimes.of({RuntimeId(f"r:{number}"): cast("Any", one) for number, one in enumerate(made)})


async def test_those_that_answer_in_time_are_chosen_among(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("neuropod.api.offers._CHOICE_SECONDS", 0.05)
    began = time.monotonic()

    found = await to_choose_from(runtimes(Telling(None), Telling(HAS), Telling(RuntimeUnavailableError("away"))))

    assert found == {RuntimeId("r:1"): HAS}
    assert time.monotonic() - began < 5


async def test_of_one_alone_nothing_is_asked():
    alone = Telling(HAS)

    assert await to_choose_from(runtimes(alone)) == {}
    assert alone.asked == 0
