"""Copies of the database, out of a running server and back. Called by `backup` and `restore`.

SQLite by its online backup: one state, while the server writes on. PostgreSQL by its own pg_dump and pg_restore.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from neuropod.kit.terminal.exits import CommandError
from neuropod.settings import Settings

SQLITE, POSTGRESQL = "database.sqlite3", "database.pgdump"

_FACTS = (
    "SELECT version_num FROM alembic_version",
    "SELECT id FROM installation",
    "SELECT epoch FROM installation",
    "SELECT key_fingerprint FROM installation",
)
_RAISE = "UPDATE installation SET epoch = {epoch}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a database says of itself."""

    schema: str
    installation: str
    epoch: int
    key_fingerprint: str


def sqlite_file(settings: Settings) -> Path | None:
    """Return the file of an installation on SQLite."""
    url = settings.effective_database_url
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else None


def copy_out(settings: Settings, target: Path) -> Facts:
    """Write the database as it is at one moment to `target`, and return what it is. Raises CommandError."""
    source = sqlite_file(settings)
    if source is None:
        facts = _facts_of_postgresql(settings)
        _run(settings, "pg_dump", ["--format=custom", "--no-owner", f"--file={target}"])
        return facts
    if not source.is_file():
        raise CommandError(f"there is no database in {source.parent.absolute()}")
    with closing(sqlite3.connect(source, timeout=30)) as database, closing(sqlite3.connect(target)) as copy:
        database.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        return facts_of(copy)


def facts_of(database: sqlite3.Connection) -> Facts:
    """Return what an SQLite database is."""
    try:
        schema, installation, epoch, fingerprint = (database.execute(query).fetchone()[0] for query in _FACTS)
    except (sqlite3.DatabaseError, TypeError) as error:
        raise CommandError(f"this is no database of Neuropod ({error})") from error
    return Facts(schema, installation, int(epoch), fingerprint)


def present_facts(settings: Settings) -> Facts | None:
    """Return what the database is that a restore would replace; None where there is none."""
    file = sqlite_file(settings)
    if file is None:
        try:
            return _facts_of_postgresql(settings)
        except CommandError as error:
            if "does not exist" in str(error):
                return None
            raise
    if not file.exists():
        return None
    with closing(sqlite3.connect(file)) as database:
        return facts_of(database)


def put_back_sqlite(draft: Path, target: Path, *, epoch: int) -> Path | None:
    """Let `draft` be the database, of that epoch; return where the one before it was put."""
    with closing(sqlite3.connect(draft)) as database:
        if database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise CommandError("the database in the backup is damaged")
        database.execute(_RAISE.format(epoch=int(epoch)))
        database.commit()
    draft.chmod(0o600)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    before = target.with_suffix(".before-restore.sqlite3")
    if not target.exists():
        draft.rename(target)
        return None
    with closing(sqlite3.connect(target)) as old:  # what its log still holds goes into the file
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy2(target, before)
    before.chmod(0o600)
    for leftover in ("-wal", "-shm"):
        target.with_name(target.name + leftover).unlink(missing_ok=True)
    draft.rename(target)
    return before


def put_back_postgresql(settings: Settings, dump: Path, *, epoch: int) -> None:
    """Replace the tables by those of the dump, in one transaction, and raise the epoch."""
    _run(settings, "pg_restore", ["--clean", "--if-exists", "--no-owner", "--single-transaction", str(dump)])
    _run(settings, "psql", ["--quiet", "--set=ON_ERROR_STOP=1", f"--command={_RAISE.format(epoch=int(epoch))}"])


def _facts_of_postgresql(settings: Settings) -> Facts:
    answers = [_run(settings, "psql", ["--tuples-only", "--no-align", f"--command={query}"]) for query in _FACTS]
    if not all(answers):
        raise CommandError("the installation's row does not exist in the PostgreSQL database")
    return Facts(answers[0], answers[1], int(answers[2]), answers[3])


def _run(settings: Settings, program: str, words: Sequence[str]) -> str:
    """Run one of PostgreSQL's programs on the installation's database; the password stands in no argument list."""
    found = shutil.which(program)
    if found is None:
        raise CommandError(
            f"a database on PostgreSQL is copied by {program}, which this machine does not have",
            hints=("install PostgreSQL's client programs, of the server's version or newer",),
        )
    parts = urlsplit(settings.effective_database_url)
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    env = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    named = {
        "PGHOST": asked.get("host", parts.hostname),
        "PGPORT": asked.get("port", parts.port),
        "PGUSER": parts.username,
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.lstrip("/"),
        "PGSSLMODE": asked.get("sslmode", asked.get("ssl")),
    }
    env |= {name: str(value) for name, value in named.items() if value}
    if program == "pg_restore":
        words = [f"--dbname={parts.path.lstrip('/')}", *words]
    done = subprocess.run([found, *words], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"{program} failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()
