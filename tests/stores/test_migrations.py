"""The migrations make what the records say, on both databases."""

from importlib import import_module

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from neuropod.db.engine import Database
from neuropod.db.migrate import NewerSchemaError, alembic_config, upgrade
from neuropod.db.record import Record

for _noun in ("accounts", "catalogue", "templates", "volumes", "ledger", "pods", "pods.limits", "pods.usage"):
    import_module(f"neuropod.{_noun}.records")
for _shared in ("audit", "events", "idempotency", "installation"):
    import_module(f"neuropod.db.{_shared}")


def test_the_migrations_have_one_head():
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) == 1


async def test_a_migrated_database_is_what_the_records_say(database: Database):
    def difference(connection: Connection) -> list[object]:
        return compare_metadata(MigrationContext.configure(connection), Record.metadata)

    async with database.engine.connect() as connection:
        assert await connection.run_sync(difference) == []


async def test_bringing_a_current_database_up_to_date_changes_nothing(database: Database):
    await upgrade(database)
    await upgrade(database)


async def test_a_newer_schema_is_refused_and_left_alone(database: Database):
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = 'from_the_future'"))

    with pytest.raises(NewerSchemaError, match="newer Neuropod"):
        await upgrade(database)

    async with database.read() as session:
        assert await session.scalar(text("SELECT version_num FROM alembic_version")) == "from_the_future"
