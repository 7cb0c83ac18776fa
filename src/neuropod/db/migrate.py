"""Brings a database to this version's schema with Alembic. Called by server and operate at start, and by tests.

A newer schema than this program knows is refused. On SQLite the caller copies the file first (operate.backup does);
on PostgreSQL changes expand first and contract a release later, since two versions overlap.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from neuropod.db import sqlite
from neuropod.db.engine import Database

SCRIPTS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x6E65_7573


class NewerSchemaError(Exception):
    """The database was written by a newer Neuropod."""


def alembic_config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration, working on an open connection where one is given."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def needs_upgrade(connection: Connection) -> bool:
    """Tell whether `upgrade` would change anything. Raises NewerSchemaError."""
    scripts = ScriptDirectory.from_config(alembic_config())
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        return True
    try:
        scripts.get_revision(current)
    except CommandError:
        raise NewerSchemaError(
            f"the database has schema {current}, which this version does not know: it was written by a newer Neuropod. "
            "Start that version, or restore a backup made with this one"
        ) from None
    return current != scripts.get_current_head()


def is_known(revision: str) -> bool:
    """Tell whether this version knows a schema: another one was made by a newer Neuropod."""
    try:
        return ScriptDirectory.from_config(alembic_config()).get_revision(revision) is not None
    except CommandError:
        return False


async def upgrade(database: Database) -> None:
    """Bring the schema up to date; does nothing when it is. Several servers may call it at once."""

    def run(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        if needs_upgrade(connection):
            command.upgrade(alembic_config(connection), "head")

    async with database.engine.begin() as connection:
        if database.is_sqlite:
            await connection.run_sync(sqlite.begin_writing)
        await connection.run_sync(run)
