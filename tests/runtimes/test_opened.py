"""Runtimes that are there, that come later, and that cannot be had."""

import asyncio

import pytest

from neuropod.ids import InstallationId, RuntimeId
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.runtimes.fake.world import FakeWorld
from neuropod.runtimes.opened import PlannedRuntime, Runtimes
from support.clocks import ManualClock


class Place:
    """A runtime that opens only while it is not away, and counts those that were let go."""

    def __init__(self, name: str, called: str | None = None) -> None:
        self.name = name
        self.away = ""
        self.built = 0
        self.let_go = 0
        self.hangs = False
        self.turns = 0  # of the loop, before it opens
        self.breaks = False
        self.called = called or name
        self._world = FakeWorld(ManualClock())

    def planned(self) -> PlannedRuntime:
        return PlannedRuntime(self.called, self._build)

    def _build(self) -> FakeRuntime:
        place = self
        self.built += 1

        class Opening(FakeRuntime):
            async def open(self) -> None:
                if place.hangs:
                    await asyncio.Event().wait()
                for _ in range(place.turns):
                    await asyncio.sleep(0)
                if place.breaks:
                    raise ZeroDivisionError("a defect")
                if place.away:
                    raise RuntimeUnavailableError(place.away)

            async def aclose(self) -> None:
                place.let_go += 1

        return Opening(InstallationId("npd_test"), self._world, self.name)


def here(name: str) -> RuntimeId:
    return RuntimeId(f"fake:{name}")


async def test_what_is_away_opens_later_and_everybody_has_it():
    near, far = Place("near"), Place("far")
    near.away = "no answer"
    runtimes = Runtimes([near.planned(), far.planned()])

    assert await runtimes.open_missing() == [here("far")]
    assert (list(runtimes), runtimes.unopened) == ([here("far")], {"near": "no answer"})

    near.away = ""
    assert await runtimes.open_missing() == [here("near")]
    assert list(runtimes) == [here("near"), here("far")]  # in the order of the settings
    assert runtimes.unopened == {}
    assert (near.built, near.let_go, far.built, far.let_go) == (2, 1, 1, 0)
    assert runtimes.names == {here("near"): "near", here("far"): "far"}

    await runtimes.aclose()
    assert (near.let_go, far.let_go, len(runtimes)) == (2, 1, 0)


async def test_who_goes_through_them_while_one_opens_goes_on_with_what_there_was():
    near, far = Place("near"), Place("far")
    far.away = "no answer"
    runtimes = Runtimes([near.planned(), far.planned()])
    await runtimes.open_missing()

    far.away = ""
    met = []
    for runtime_id in runtimes.keys():  # noqa: SIM118 - the view itself
        await runtimes.open_missing()
        met.append(runtime_id)

    assert met == [here("near")]
    assert len(runtimes) == 2


async def test_one_cluster_under_two_names_is_served_under_the_first():
    one, two = Place("same", called="lab"), Place("same", called="lab-again")
    one.turns = 5  # whichever opens first
    runtimes = Runtimes([one.planned(), two.planned()])

    await runtimes.open_missing()

    assert runtimes.names == {here("same"): "lab"}
    assert runtimes.unopened == {"lab-again": "it is the same one as 'lab'"}
    assert two.let_go == 1


async def test_one_that_gives_no_answer_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("neuropod.runtimes.opened._OPEN_SECONDS", 0.05)
    near, far = Place("near"), Place("far")
    far.hangs = True
    runtimes = Runtimes([near.planned(), far.planned()])

    await runtimes.open_missing()

    assert list(runtimes) == [here("near")]
    assert runtimes.unopened == {"far": "no answer within 0 s"}
    assert far.let_go == 1


async def test_a_defect_in_one_takes_no_other_down():
    near, far = Place("near"), Place("far")
    far.breaks = True
    runtimes = Runtimes([near.planned(), far.planned()])

    await runtimes.open_missing()

    assert (list(runtimes), runtimes.unopened) == ([here("near")], {"far": "ZeroDivisionError: a defect"})
    assert far.let_go == 1


async def test_who_goes_away_while_they_open_leaves_none_open():
    """Neither the one that was opening nor those that were open already and in nobody's hands yet."""
    near, far = Place("near"), Place("far")
    far.hangs = True
    runtimes = Runtimes([near.planned(), far.planned()])
    opening = asyncio.create_task(runtimes.open_missing())
    while not (near.built and far.built):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)

    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (list(runtimes), near.let_go, far.let_go) == ([], 1, 1)

    far.hangs = False
    assert await runtimes.open_missing() == [here("near"), here("far")]


async def test_a_name_is_known_while_its_runtime_is_away():
    near = Place("near")
    near.away = "no answer"
    runtimes = Runtimes([near.planned()])
    runtimes.learn_names({here("near"): "near", here("gone"): "old"})
    await runtimes.open_missing()

    assert [runtimes.name_of(here(name)) for name in ("near", "gone", "unheard")] == ["near", "old", None]
    assert runtimes.names == {}
