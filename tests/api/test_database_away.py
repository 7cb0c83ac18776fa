"""A PostgreSQL that does not answer is a 503 that passes, and no defect."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from neuropod.db.engine import Database
from support.api import ApiWorld, api_world


@pytest.fixture
async def postgresql_world(postgres_url: str) -> AsyncIterator[ApiWorld]:
    database = Database(postgres_url)
    async with api_world(database) as made:
        yield made
    await database.aclose()


async def test_what_cannot_be_reached_is_told_and_works_again(
    postgresql_world: ApiWorld, monkeypatch: pytest.MonkeyPatch
):
    world = postgresql_world
    owner = await world.browser("owner")
    url = world.database.engine.url
    await world.database.engine.dispose()
    monkeypatch.setattr(world.database.engine.dialect, "connect", _refuse)

    answers = [await owner.get("/api/v1/pods"), await owner.post("/api/v1/pods", json={"name": "lab"})]
    monkeypatch.undo()
    later = await owner.get("/api/v1/pods")

    assert [(one.status_code, one.json()["code"]) for one in answers] == [(503, "unavailable")] * 2
    assert (later.status_code, world.database.engine.url) == (200, url)


async def test_a_connection_that_is_cut_by_its_end_is_told_and_works_again(postgresql_world: ApiWorld):
    world = postgresql_world
    owner = await world.browser("owner")
    async with world.database.read() as session:
        own = await session.scalar(text("SELECT pg_backend_pid()"))
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"  # and waits until it is gone
                " WHERE datname = current_database() AND pid <> :own"
            ),
            {"own": own},
        )

    answers = [(await owner.get("/api/v1/pods")).status_code for _ in range(3)]

    assert set(answers) <= {200, 503}
    assert answers[-1] == 200


def _refuse(*_: object, **__: object) -> None:
    raise ConnectionRefusedError(111, "Connection refused")
