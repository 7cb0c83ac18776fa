"""Launches on the fake runtime, against as many bare pairs of an insert and an update in the same database.

A launch is what the API does in one transaction, and what the loop does until the pod runs. The bare pair goes through
the same engine, pool and pragmas, one transaction for each statement. Both come as a burst, 32 at a time. The launches
are those of a course that begins: each owner's are decided one after another, since one owner's limits are at stake.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Integer, String, func, insert, select, update
from sqlalchemy.orm import Mapped, mapped_column

from bench.report import Figure, at_least, at_most, spread
from neuropod.accounts.access import ALL_BUT_PORTS, Actor
from neuropod.accounts.service import Accounts
from neuropod.catalogue.service import load_starters
from neuropod.db.engine import Database
from neuropod.db.migrate import upgrade
from neuropod.db.record import Record
from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id
from neuropod.kit.secrets import SecretBox
from neuropod.kit.tasks import FailureHook
from neuropod.observability.health import Board
from neuropod.observability.metrics import Metrics
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.records import IncarnationRow
from neuropod.pods.service import Pods
from neuropod.reconcile.driver import Driver
from neuropod.reconcile.pods import PodsLoop
from neuropod.reconcile.resync import ResyncLoop
from neuropod.reconcile.world import World
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.runtimes.fake.world import FakeWorld
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import LimitSettings, Settings
from neuropod.words import Role
from support.postgres import Postgres
from support.rows import user_row

INSTALLATION = InstallationId("npd_bench")
ROUNDS = 3
AT_ONCE = 32
OWNERS = 50


class BareRow(Record):
    """The floor's table."""

    __tablename__ = "bench_bare"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    number: Mapped[int] = mapped_column(Integer)


@asynccontextmanager
async def prepared(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    await upgrade(database)
    async with database.engine.begin() as connection:
        await connection.run_sync(BareRow.metadata.tables["bench_bare"].create, checkfirst=True)
    yield database
    await database.aclose()


async def burst(one: Callable[[int], Awaitable[None]], count: int) -> None:
    """Do `one` so many times, AT_ONCE at a time."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


async def bare_seconds(database: Database, count: int) -> float:
    """The floor: as many inserts and updates, each in its transaction."""
    began = time.perf_counter()

    async def pair(number: int) -> None:
        row_id = new_id("bar")
        async with database.write() as session:
            await session.execute(insert(BareRow).values(id=row_id, number=number))
        async with database.write() as session:
            await session.execute(update(BareRow).where(BareRow.id == row_id).values(number=number + 1))

    await burst(pair, count)
    return time.perf_counter() - began


class Plant:
    """Loops on a database and a fake world, as server builds them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = SystemClock()
        self.world = FakeWorld(self.clock, cpu_cores=10**6)
        self.settings = Settings(limits=LimitSettings(pods_per_user=100_000))
        runtime = FakeRuntime(INSTALLATION, self.world)
        self.runtimes = Runtimes.of({runtime.id: runtime})
        self.pods = Pods(self.settings, SecretBox(SecretBox.new_key()), self.clock, self.runtimes, INSTALLATION)
        self.failures = FailureHook()
        world = World(
            settings=self.settings.reconcile,
            database=database,
            pods=self.pods,
            accounts=Accounts(self.settings, self.clock),
            runtimes=self.runtimes,
            metrics=Metrics(),
            clock=self.clock,
            sweeping_allowed=True,
        )
        self.driver = Driver(
            [PodsLoop(world, self.failures), ResyncLoop(world)],
            database=database,
            board=Board(self.clock),
            metrics=Metrics(),
            clock=self.clock,
            on_failure=self.failures,
        )

    async def actors(self, count: int) -> list[Actor]:
        owners = [user_row() for _ in range(count)]
        async with self.database.write() as session:
            await load_starters(session)
            session.add_all(owners)
        return [Actor(UserId(owner.id), Role.CLIENT, ALL_BUT_PORTS, "session") for owner in owners]

    async def recorded(self) -> int:
        """How many runs the rows know to be ready; one count, so that the bench does not measure itself."""
        async with self.database.read() as session:
            return (
                await session.scalar(
                    select(func.count()).select_from(IncarnationRow).where(IncarnationRow.ready_at.is_not(None))
                )
                or 0
            )


async def launch_seconds(plant: Plant, actors: Sequence[Actor], count: int, prefix: str) -> float:
    """Launch, the owners in turn, and wait until all run."""
    goal = await plant.recorded() + count
    began = time.perf_counter()

    async def launch(number: int) -> None:
        async with plant.database.write() as session:
            request = LaunchRequest(name=f"{prefix}{number}", image="plain", volume=None)
            await plant.pods.launch_pod(session, request, actor=actors[number % len(actors)])

    await burst(launch, count)
    while await plant.recorded() < goal:
        if plant.failures.first is not None:
            raise plant.failures.first[1]
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


async def measure(url: str, count: int, name: str) -> list[Figure]:
    async with prepared(url) as database:
        plant = Plant(database)
        actors = await plant.actors(OWNERS)
        plant.driver.start()
        await asyncio.sleep(0.5)
        ratios, rates, written = [], [], 0
        for turn in range(ROUNDS):
            floor = await bare_seconds(database, count)
            before = database.write_transactions
            launched = await launch_seconds(plant, actors, count, f"{'abcdefgh'[turn]}")
            written += database.write_transactions - before
            ratios.append(floor / launched)
            rates.append(count / launched)
        lost = ROUNDS * count - await plant.recorded()
        await plant.driver.aclose()
    details = f"ratios {spread(ratios)}; {spread(rates)} launches a second"
    return [
        at_least(
            f"{count} launches on {name}: rate against bare pairs", sorted(ratios)[len(ratios) // 2], 0.5, details
        ),
        at_most(f"{count} launches on {name}: write transactions a launch", written / (ROUNDS * count), 4),
        at_most(f"{count} launches on {name}: lost", lost, 0),
    ]


async def run(emit: Callable[[Figure], Awaitable[None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for figure in await measure(f"sqlite:///{Path(folder) / 'bench.sqlite3'}", 500, "SQLite"):
            await emit(figure)
    postgres = Postgres()
    try:
        postgres.sql("CREATE DATABASE bench")
        for figure in await measure(postgres.url("bench"), 1000, "PostgreSQL"):
            await emit(figure)
    finally:
        postgres.stop()
