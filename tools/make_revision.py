"""Write a new migration from the difference between the records and the newest schema: `make revision MESSAGE="…"`."""

import sys
import tempfile
from importlib import import_module
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from neuropod.db.migrate import alembic_config
from neuropod.db.record import Record

NOUNS = (
    "db.audit", "db.events", "db.idempotency", "db.installation", "db.runtimes", "db.servers",
    "accounts.records", "accounts.registries.records", "accounts.secrets.records", "catalogue.records",
    "templates.records", "volumes.records", "ledger.records", "pods.records",
    "pods.limits.records", "pods.usage.records", "gateway.records",
)  # fmt: skip


def main() -> None:
    """Compare and write."""
    for noun in NOUNS:
        import_module(f"neuropod.{noun}")
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'new.sqlite3'}")
        with engine.connect() as connection:
            config = alembic_config(connection)
            config.attributes["metadata"] = Record.metadata
            command.upgrade(config, "head")
            command.revision(config, message=sys.argv[1], autogenerate=True)


if __name__ == "__main__":
    main()
