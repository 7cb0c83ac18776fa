"""What tests of the use-cases of pods share."""

import pytest

from neuropod.db.engine import Database
from support.pod_world import World, make_world


@pytest.fixture
async def world(database: Database) -> World:
    return await make_world(database)
