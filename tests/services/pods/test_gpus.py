"""GPUs among pods that ask at the same moment: each is given once, and who gets none stands in the queue."""

import asyncio

import pytest
from sqlalchemy import select

from neuropod.db.engine import Database
from neuropod.pods.gpus.store import held_devices, waiting_counts
from neuropod.pods.lifecycle import Wait
from neuropod.pods.records import AllocationRow
from neuropod.pods.runs.store import Claimed
from neuropod.runtimes.contract import Capacity, Device
from neuropod.words import Reason, Status
from support.pod_world import RUNTIME, World, make_world
from support.workloads import workload_of

FIVE = tuple(Device(f"GPU-{number}", "NVIDIA GeForce RTX 4090") for number in range(5))


@pytest.fixture
async def world(database: Database) -> World:
    made = await make_world(database)
    made.capacities = {RUNTIME: Capacity(1000, 10**15, 10**15, FIVE)}
    return made


async def test_twelve_workers_at_once_give_five_gpus_to_five_pods(world: World):
    for number in range(12):
        await world.launch(f"pod{number}", gpu_type="rtx-4090")
    claims = await world.claim()

    answers = await asyncio.gather(*(world.try_open(claimed) for claimed in claims))

    async with world.database.read() as session:
        rows = list(await session.scalars(select(AllocationRow).where(AllocationRow.device.is_not(None))))
        held = await held_devices(session, [RUNTIME])
        waiting = await waiting_counts(session, [RUNTIME])
    assert sorted(row.device for row in rows) == [device.name for device in FIVE]
    assert {row.gpu_type for row in rows} == {"rtx-4090"}
    assert len({one.pod_id for one in held}) == 5
    assert sum(isinstance(answer, Claimed) for answer in answers) == 5
    waits = [answer for answer in answers if isinstance(answer, Wait)]
    assert {wait.reason for wait in waits} == {Reason.NO_GPU}
    assert waiting == {(RUNTIME, "rtx-4090"): 7}


async def test_a_broken_gpu_is_given_to_nobody_though_it_is_the_last(world: World):
    broken = Device("GPU-0", FIVE[0].model, trouble="it is lost")
    world.capacities = {RUNTIME: Capacity(1000, 10**15, 10**15, (broken, FIVE[1]))}
    first = await world.launch("first", gpu_type="rtx-4090")
    second = await world.launch("second", gpu_type="rtx-4090")

    opened = await world.open(first)
    waits = await world.try_open(await world.claim_one(second))

    assert opened.facts.incarnation is not None
    assert isinstance(waits, Wait)
    async with world.database.read() as session:
        assert [one.device for one in await held_devices(session, [RUNTIME])] == ["GPU-1"]


async def test_devices_given_to_a_run_are_in_its_workload(world: World):
    world.capacities = {RUNTIME: Capacity(1000, 10**15, 10**15, FIVE[:3])}
    first = await world.launch("first", gpu_type="rtx-4090", gpu_count=2)
    second = await world.launch("second", gpu_type="rtx-4090", gpu_count=2)

    await world.open(first)
    await world.try_open(await world.claim_one(second))

    workload = await workload_of(world.database, world.pods, first.id)
    assert workload.resources.devices == ("GPU-0", "GPU-1")
    shown = (await world.show(second.id)).shown
    assert (shown.status, shown.reason) == (Status.WAITING, Reason.NO_GPU)
