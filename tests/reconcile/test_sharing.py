"""What many passes ask at the same time is answered together; nobody waits for an answer that never comes."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from neuropod.db.engine import Database
from neuropod.ids import RuntimeId
from neuropod.reconcile import sharing
from neuropod.reconcile.sharing import Shared, SharedCapacities
from neuropod.runtimes.contract import Capacity, Runtime, RuntimeUnavailableError
from reconcile.plant import Plant, Server
from support.statements import statements


class Answers:
    """Answers with the double, and notes what was asked together; waits while the gate is shut."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, asks: Sequence[int]) -> list[int]:
        self.batches.append(list(asks))
        await self.gate.wait()
        if 0 in asks:
            raise ValueError("nothing is asked for")
        return [2 * ask for ask in asks]


async def until(answers: Answers, batches: int) -> None:
    async with asyncio.timeout(5):
        while len(answers.batches) < batches:
            await asyncio.sleep(0)


async def test_who_asks_while_others_are_answered_shares_the_next_answer():
    answers = Answers()
    shared = Shared(answers)
    answers.gate.clear()
    first = asyncio.create_task(shared.ask(1))
    await until(answers, 1)

    others = [asyncio.create_task(shared.ask(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    answers.gate.set()

    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert answers.batches == [[1], [2, 3, 4]]


@pytest.mark.parametrize(("at_work", "together"), [(2, [[1], [2]]), (10, [[1, 2]])])
async def test_while_many_are_at_work_one_waits_a_moment_for_the_others(
    at_work: int, together: list[list[int]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sharing, "_DELAY_SECONDS", 0.5)  # longer than this process may stand still
    answers = Answers()
    shared = Shared(answers, lambda: at_work)

    first = asyncio.create_task(shared.ask(1))
    for _ in range(5):
        await asyncio.sleep(0)

    assert await asyncio.gather(first, shared.ask(2)) == [2, 4]
    assert answers.batches == together


async def test_when_all_who_are_at_work_have_asked_nobody_waits():
    answers = Answers()
    shared = Shared(answers, lambda: 5)

    asking = [asyncio.create_task(shared.ask(number)) for number in range(1, 6)]
    for _ in range(3):
        await asyncio.sleep(0)

    assert answers.batches == [[1, 2, 3, 4, 5]]
    assert await asyncio.gather(*asking) == [2, 4, 6, 8, 10]


async def test_one_that_fails_spoils_nothing_for_the_others():
    shared = Shared(Answers())

    answered = await asyncio.gather(*(shared.ask(number) for number in (1, 0, 2)), return_exceptions=True)

    assert (answered[0], answered[2]) == (2, 4)
    assert isinstance(answered[1], ValueError)


async def test_who_waits_for_an_answer_that_is_cut_off_ends_too_and_the_next_is_answered():
    answers = Answers()
    shared = Shared(answers)
    answers.gate.clear()
    under_way = asyncio.create_task(shared.ask(1))
    await until(answers, 1)
    in_line = asyncio.create_task(shared.ask(2))
    await asyncio.sleep(0)

    await shared.aclose()

    for task in (under_way, in_line):
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await task
    answers.gate.set()
    assert await shared.ask(3) == 6


async def test_many_pods_are_launched_with_hardly_more_statements_than_one(
    database: Database, plant: Plant, server: Server
):
    await server.turn()
    used = []
    for names in (["alone"], [f"many{number}" for number in range(12)]):
        for name in names:
            await plant.launch(server, name)
        with statements(database) as seen:
            await server.turn()
        used.append(len(seen))

    assert len(plant.running()) == 13
    assert used[1] <= used[0] + 10


class Counted:
    """A runtime that is asked for its capacity only, and answers once the gate is open."""

    id = RuntimeId("fake:one")

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()

    async def capacity(self) -> Capacity:
        self.asked += 1
        await self.gate.wait()
        if self.asked == 2:
            raise RuntimeUnavailableError("it is away")
        return Capacity(self.asked, 0, 0)


async def test_a_capacity_is_asked_for_once_by_all_who_ask_meanwhile():
    shared, runtime = SharedCapacities(), Counted()
    asking = [asyncio.create_task(shared.of(cast("Runtime", runtime))) for _ in range(5)]
    await asyncio.sleep(0)
    runtime.gate.set()

    assert [one.cpu_cores for one in await asyncio.gather(*asking)] == [1] * 5
    failed = await asyncio.gather(*(shared.of(cast("Runtime", runtime)) for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in failed] == [RuntimeUnavailableError] * 2
    assert (await shared.of(cast("Runtime", runtime))).cpu_cores == 3


async def test_after_one_who_asked_in_vain_a_capacity_is_asked_for_anew():
    shared, runtime = SharedCapacities(), Counted()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await shared.of(cast("Runtime", runtime))
    asking = asyncio.create_task(shared.of(cast("Runtime", runtime)))
    async with asyncio.timeout(5):
        while runtime.asked < 2:
            await asyncio.sleep(0)
    await shared.aclose()

    with pytest.raises(asyncio.CancelledError):
        await asking
