"""Launching while a runtime of the settings is away that the server has not reached since its start."""

from dataclasses import dataclass
from typing import Any, cast

import pytest
from sqlalchemy import update

from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.engine import Database
from neuropod.ids import RuntimeId
from neuropod.kit.errors import InvalidInputError
from neuropod.pods.launch import VolumeRequest
from neuropod.runtimes.contract import Capacity, RuntimeUnavailableError
from neuropod.runtimes.opened import PlannedRuntime, Runtimes
from support.pod_world import StandIn, World, make_world

NEAR, FAR = RuntimeId("near:one"), RuntimeId("far:one")
SMALL = Capacity(4, 10**12, 10**12)


@dataclass
class Opening(StandIn):
    """One that can be opened, or is away."""

    away: bool = False

    async def open(self) -> None:
        if self.away:
            raise RuntimeUnavailableError("no answer")

    async def aclose(self) -> None:
        """Hold nothing."""


@pytest.fixture
async def world(database: Database) -> World:
    """Near is open and small, far is away."""
    near, far = Opening(NEAR), Opening(FAR, away=True)
    runtimes = Runtimes([PlannedRuntime(name, lambda made=made: cast("Any", made))
                         for name, made in (("near", near), ("far", far))])  # fmt: skip
    await runtimes.open_missing()
    world = await make_world(database, runtimes=runtimes)
    world.capacities = {NEAR: SMALL}
    await _change_cpu(world, cpu_cores=8)
    return world


async def _change_cpu(world: World, **columns: object) -> None:
    async with world.database.write() as session:
        await session.execute(update(GpuTypeRow).where(GpuTypeRow.name == "cpu").values(**columns))


async def test_what_only_the_one_that_is_away_may_have_is_refused_and_quoted_so(world: World):
    with pytest.raises(InvalidInputError) as launched:
        await world.launch()
    with pytest.raises(InvalidInputError) as quoted:
        await world.quote()

    assert launched.value.code == quoted.value.code == "no_runtime"
    assert "far gives no answer now; try again later" in launched.value.message


async def test_what_fits_goes_where_it_fits_and_waits_there(world: World):
    await _change_cpu(world, cpu_cores=4)

    pods = [await world.launch(name) for name in ("first", "second")]

    assert {pod.runtime_id for pod in pods} == {NEAR}


async def test_a_type_that_is_not_offered_there_waits_where_it_is(world: World):
    await _change_cpu(world, runtimes=["near"])

    assert (await world.launch()).runtime_id == NEAR


async def test_a_pod_whose_volume_is_here_waits_here(world: World):
    await _change_cpu(world, cpu_cores=4)
    await world.launch("first", volume=VolumeRequest("data"))
    await _change_cpu(world, cpu_cores=8)

    assert (await world.launch("second", volume=VolumeRequest("data"))).runtime_id == NEAR


async def test_where_nobody_knows_what_there_is_it_is_launched(world: World):
    world.capacities = {}

    assert (await world.launch()).runtime_id == NEAR
