"""The `database` fixture: every test that takes it runs on SQLite and on PostgreSQL.

`sqlite_url` and `postgres_url` give a fresh, migrated, empty database each, for tests that start servers.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from neuropod.db.engine import Database
from neuropod.db.migrate import upgrade
from support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One cluster for the test session (for each worker of pytest-xdist), with a migrated template database."""
    server = Postgres()
    server.sql("CREATE DATABASE migrated")
    asyncio.run(_migrate(server.url("migrated")))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "neuropod.sqlite3"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


async def _migrate(url: str) -> None:
    database = Database(url)
    await upgrade(database)
    await database.aclose()


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    path = tmp_path / "neuropod.sqlite3"
    path.write_bytes(migrated_sqlite.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    name = f"t{uuid4().hex}"
    postgres.sql(f"CREATE DATABASE {name} TEMPLATE migrated")
    return postgres.url(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.aclose()
