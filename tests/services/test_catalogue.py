"""The catalogue starts with what is shipped and then belongs to the administrator."""

import asyncio

import pytest
from sqlalchemy import update

from neuropod.catalogue.records import GpuTypeRow
from neuropod.catalogue.service import gpu_type_on_offer, list_gpu_types, load_starters
from neuropod.db.engine import Database
from neuropod.kit.money import micros


async def _load(database: Database) -> None:
    async with database.write() as session:
        await load_starters(session)


async def test_the_first_start_brings_the_shipped_types_in_their_order(database):
    await _load(database)

    async with database.read() as session:
        types = await list_gpu_types(session)
    assert [row.name for row in types] == ["cpu", "rtx-4050", "rtx-4070", "rtx-4090"]
    cpu = types[0]
    assert (cpu.price_micros_per_hour, cpu.cpu_cores, cpu.memory_gb, cpu.gpus) == (micros("0.30"), 2, 4, 0)


async def test_servers_that_start_at_once_do_not_disturb_each_other(database):
    await asyncio.gather(*(_load(database) for _ in range(4)))

    async with database.read() as session:
        assert len(await list_gpu_types(session, disabled=True)) == 4


async def test_what_an_administrator_changed_stays(database):
    await _load(database)
    async with database.write() as session:
        await session.execute(
            update(GpuTypeRow)
            .where(GpuTypeRow.name == "rtx-4090")
            .values(enabled=False, price_micros_per_hour=micros("3"))
        )

    await _load(database)

    async with database.read() as session:
        for_clients = await list_gpu_types(session)
        for_administrators = await list_gpu_types(session, disabled=True)
    assert [row.name for row in for_clients] == ["cpu", "rtx-4050", "rtx-4070"]
    assert for_administrators[-1].price_micros_per_hour == micros("3")


@pytest.mark.parametrize(("name", "found"), [("cpu", True), ("rtx-4090", False), ("nothing", False)])
async def test_only_what_is_on_offer_can_be_taken(database, name, found):
    await _load(database)
    async with database.write() as session:
        await session.execute(update(GpuTypeRow).where(GpuTypeRow.name == "rtx-4090").values(enabled=False))

    async with database.read() as session:
        row = await gpu_type_on_offer(session, name)

    assert (row is not None) is found
