"""A plant on both databases."""

from collections.abc import AsyncIterator

import pytest

from neuropod.db.engine import Database
from reconcile.plant import Plant, Server


@pytest.fixture
async def plant(database: Database) -> AsyncIterator[Plant]:
    plant = Plant(database)
    await plant.set_up()
    yield plant
    await plant.world.aclose()


@pytest.fixture
async def server(plant: Plant) -> AsyncIterator[Server]:
    server = Server(plant)
    yield server
    await server.aclose()
