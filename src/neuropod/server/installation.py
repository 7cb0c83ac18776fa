"""Opens an installation: data directory, key, database, runtimes; builds the use-cases on them.

`assembled` is what a server stands on, and what a command of the machine works with when no server runs.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import structlog

from neuropod.accounts.access import SYSTEM
from neuropod.accounts.service import Accounts
from neuropod.catalogue.service import load_starters as load_starter_gpu_types
from neuropod.db.engine import Database
from neuropod.db.installation import InstallationRow, installation
from neuropod.db.migrate import needs_upgrade, upgrade
from neuropod.db.runtimes import runtime_names, write_names
from neuropod.ids import InstallationId, RuntimeId, UserId
from neuropod.kit.clock import Clock
from neuropod.kit.keyfile import read_or_make_key
from neuropod.kit.lockfile import exclusive
from neuropod.kit.secrets import SecretBox
from neuropod.observability.health import Board
from neuropod.observability.metrics import Metrics
from neuropod.pods.service import Pods
from neuropod.runtimes.contract import Report, RuntimeUnavailableError
from neuropod.runtimes.opened import Runtimes
from neuropod.runtimes.registry import planned_runtimes
from neuropod.settings import Settings
from neuropod.templates.service import load_starters as load_starter_templates

log = structlog.get_logger(__name__)

DATA_FOLDERS = ("db", "volumes", "pods", "cache")


class WrongKeyFileError(Exception):
    """The database was made with another key; the sentence names both files."""


@dataclass(frozen=True, slots=True)
class Installation:
    """An open installation: what loops, apps and commands are built from."""

    settings: Settings
    clock: Clock
    database: Database
    row: InstallationRow
    box: SecretBox
    runtimes: Runtimes
    reports: Mapping[RuntimeId, Report]
    accounts: Accounts
    pods: Pods
    board: Board
    metrics: Metrics
    first_administrator: UserId


def lock_path(settings: Settings) -> Path:
    """Return the file whose lock keeps a second server off the data directory."""
    return settings.data_dir / "lock"


def socket_path(settings: Settings) -> Path:
    """Return the 0600 Unix socket of a running server, for the machine's commands and for a gateway alone."""
    return settings.data_dir / "server.sock"


@asynccontextmanager
async def assembled(settings: Settings, clock: Clock) -> AsyncIterator[Installation]:
    """Open the installation, exclusively, and close it again.

    Raises LockedError (another server), KeyFileError, WrongKeyFileError, NewerSchemaError.
    """
    async with AsyncExitStack() as stack:
        prepare_folders(settings)
        stack.enter_context(exclusive(lock_path(settings)))
        box = SecretBox(read_or_make_key(settings.effective_key_file))
        database = Database(settings.effective_database_url)
        stack.push_async_callback(database.aclose)
        await _migrate(database)
        async with database.write() as session:
            row = await installation(session, key_fingerprint=box.fingerprint, now=clock.now())
        if row.key_fingerprint != box.fingerprint:
            raise WrongKeyFileError(
                f"the key in {settings.effective_key_file} is not the one that {_database_name(settings)} was made "
                "with; put the right key file back, or name it with NEUROPOD_KEY_FILE"
            )
        runtimes = await opened_runtimes(settings, row.installation_id, clock, stack)
        await _settle_names(database, runtimes, clock)
        accounts = Accounts(settings, clock)
        async with database.write() as session:
            await load_starter_gpu_types(session)
            await load_starter_templates(session, now=clock.now())
            administrator = await accounts.first_administrator(session, actor=SYSTEM)
            await accounts.keys.settle_preset_key(session, administrator)
        yield Installation(
            settings=settings,
            clock=clock,
            database=database,
            row=row,
            box=box,
            runtimes=runtimes,
            reports=await _reports(runtimes),
            accounts=accounts,
            pods=Pods(settings, box, clock, runtimes, row.installation_id),
            board=Board(clock),
            metrics=Metrics(),
            first_administrator=UserId(administrator.id),
        )


def prepare_folders(settings: Settings) -> None:
    """Let the data directory and its folders be there, closed to this machine's other users.

    Pods need no way through it: their disks are mounted by root, or belong to the user who runs the server.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.data_dir.chmod(0o700)
    for name in DATA_FOLDERS:
        (settings.data_dir / name).mkdir(exist_ok=True)
    for name in ("db", "volumes", "pods"):
        (settings.data_dir / name).chmod(0o700)


def _database_name(settings: Settings) -> str:
    return "the PostgreSQL database" if settings.database_url else f"the database in {settings.data_dir / 'db'}"


async def _migrate(database: Database) -> None:
    """Bring the schema up to date; a SQLite file is copied first, so that the way back is one `mv`."""
    if database.is_sqlite:
        await _copy_outdated(database)
    await upgrade(database)


async def _copy_outdated(database: Database) -> None:
    file = Path(database.url.removeprefix("sqlite:///"))
    if not await asyncio.to_thread(file.exists):
        return
    async with database.engine.connect() as connection:
        outdated = await connection.run_sync(needs_upgrade)
    if outdated:
        await asyncio.to_thread(_copy_sqlite, file)


def _copy_sqlite(source: Path) -> None:
    target = source.with_suffix(".before-upgrade.sqlite3")
    draft = target.with_suffix(".part")
    with closing(sqlite3.connect(source)) as database, closing(sqlite3.connect(draft)) as copy:
        database.backup(copy)
    draft.chmod(0o600)
    draft.rename(target)
    log.info("copied the database before the upgrade", copy=str(target))


async def opened_runtimes(
    settings: Settings, installation_id: InstallationId, clock: Clock, stack: AsyncExitStack
) -> Runtimes:
    """Open the runtimes of the settings; what cannot be opened can be tried again. They are closed with the stack."""
    runtimes = Runtimes(planned_runtimes(settings, installation_id, clock))
    stack.push_async_callback(runtimes.aclose)
    await runtimes.open_missing()
    return runtimes


async def _reports(runtimes: Runtimes) -> dict[RuntimeId, Report]:
    """Return what the runtimes that answer say of themselves."""
    reports = {}
    for runtime_id, runtime in runtimes.items():
        try:
            reports[runtime_id] = await runtime.report()
        except RuntimeUnavailableError as error:
            log.warning("a runtime does not tell what it isolates", runtime=runtime_id, error=str(error))
    return reports


async def _settle_names(database: Database, runtimes: Runtimes, clock: Clock) -> None:
    """Learn what runtimes were called that are away now, and write down those that have a new name."""
    async with database.read() as session:
        known = await runtime_names(session)
    runtimes.learn_names(known)
    new = {runtime_id: name for runtime_id, name in runtimes.names.items() if known.get(runtime_id) != name}
    if new:
        async with database.write() as session:
            await write_names(session, new, now=clock.now())
