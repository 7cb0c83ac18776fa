"""A server dies, or stands still and acts too late, at any moment of its work; the world equals the wishes afterwards.

Every sequence of wishes after a launch, a death at every moment of the work on it (`fates` says what a moment is).
Here the short sequences whole and a sample of the rest; all of it with the marker `long`.
"""

import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from itertools import count, product
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
from aiosqlite import core
from sqlalchemy import event

from reconcile.crashes import AT_ONCE, PACES, SLOW, VERBS, MortalPlant, Pace, dying_at, waking_after
from reconcile.crowd import Crowd
from reconcile.fates import Fate, MortalDatabase

SHORT = [wishes for length in (1, 2) for wishes in product(VERBS, repeat=length)]
ALL = [wishes for length in (1, 2, 3, 4) for wishes in product(VERBS, repeat=length)]
LONG = [wishes for length in (3, 4) for wishes in product(VERBS, repeat=length)]


class RolledBack(sqlite3.Connection):
    """Rolls back when it is closed, as the end of a process does; a cursor that somebody still holds keeps the lock."""

    def close(self) -> None:
        self.rollback()
        super().close()


@pytest.fixture
async def plant(migrated_sqlite: Path) -> AsyncIterator[MortalPlant]:
    """A plant on SQLite in memory-backed storage: nothing here is about power cuts."""
    memory = Path("/dev/shm")
    folder = Path(mkdtemp(prefix="neuropod-crashes-", dir=memory if memory.is_dir() else None))
    file = folder / "neuropod.sqlite3"
    file.write_bytes(migrated_sqlite.read_bytes())
    database = MortalDatabase(f"sqlite:///{file}")

    @event.listens_for(database.engine.sync_engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    @event.listens_for(database.engine.sync_engine, "do_connect")
    def usable_here(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
        options["check_same_thread"] = False
        options["factory"] = RolledBack

    plant = MortalPlant(database)
    await plant.set_up()
    yield plant
    await plant.world.aclose()
    await database.aclose()
    rmtree(folder)


@pytest.fixture
def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SQLite run in this thread, which takes half the time. Statements are then no moments of their own."""

    async def execute(_: core.Connection, function: Any, *arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    monkeypatch.setattr(core.Connection, "_execute", execute)


def named(wishes: Sequence[str]) -> str:
    return "-".join(wishes)


async def die_at_every_moment(plant: MortalPlant, wishes: Sequence[str], pace: Pace, *, fine: bool = False) -> int:
    """Return how many deaths there were. In haste: with the wishes after the death coming before the next server."""
    for at in count(1):
        if not await dying_at(plant, wishes, pace, Fate(at, fine=fine), hasty=True):
            return at - 1
    raise AssertionError


@pytest.mark.usefixtures("without_threads")
@pytest.mark.parametrize("wishes", SHORT, ids=named)
async def test_a_server_may_die_at_any_moment(plant: MortalPlant, wishes: Sequence[str]):
    deaths = await die_at_every_moment(plant, wishes, AT_ONCE)

    assert deaths >= 15


@pytest.mark.usefixtures("without_threads")
@pytest.mark.parametrize("seed", range(3))
async def test_a_server_may_die_at_some_moment_of_a_long_story(plant: MortalPlant, seed: int):
    dice = random.Random(seed)

    deaths = 0
    for _ in range(40):
        wishes, pace = dice.choice(LONG), dice.choice(PACES)
        deaths += await dying_at(plant, wishes, pace, Fate(dice.randint(1, 80)), hasty=dice.random() < 0.5)

    assert deaths >= 15


@pytest.mark.parametrize("wishes", [("stop",), ("restart",), ("delete",)], ids=named)
async def test_a_server_may_die_in_the_midst_of_a_statement(plant: MortalPlant, wishes: Sequence[str]):
    dice = random.Random(named(wishes))

    deaths = [await dying_at(plant, wishes, SLOW, Fate(dice.randint(1, 30), fine=True), hasty=True) for _ in range(12)]

    assert sum(deaths) >= 6


@pytest.mark.usefixtures("without_threads")
@pytest.mark.parametrize("wishes", SHORT[:12], ids=named)
async def test_a_worker_that_acts_after_its_lease_was_lost_is_harmless(plant: MortalPlant, wishes: Sequence[str]):
    dice = random.Random(named(wishes))

    stood = [await waking_after(plant, wishes, dice.choice(PACES), Fate(at, still=True)) for at in range(1, 41, 4)]

    assert sum(stood) >= 3


@pytest.mark.parametrize("seed", range(3))
async def test_several_servers_die_stand_still_and_wake_on_one_database(database_url: str, seed: int):
    await Crowd(database_url, seed, pods=4, servers=3).live(rounds=8, fates=2)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(100, 160))
async def test_many_servers_die_stand_still_and_wake_on_one_database(database_url: str, seed: int):
    await Crowd(database_url, seed, pods=8, servers=4).live(rounds=25, fates=10)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("without_threads")
@pytest.mark.parametrize("pace", PACES, ids=lambda pace: pace.name)
@pytest.mark.parametrize("wishes", ALL, ids=named)
async def test_a_server_may_die_at_any_moment_of_any_story(plant: MortalPlant, wishes: Sequence[str], pace: Pace):
    assert await die_at_every_moment(plant, wishes, pace) >= 15


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pace", PACES, ids=lambda pace: pace.name)
@pytest.mark.parametrize("wishes", SHORT, ids=named)
async def test_a_server_may_die_in_the_midst_of_any_statement(plant: MortalPlant, wishes: Sequence[str], pace: Pace):
    assert await die_at_every_moment(plant, wishes, pace, fine=True) >= 10


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("without_threads")
@pytest.mark.parametrize("pace", PACES, ids=lambda pace: pace.name)
@pytest.mark.parametrize("wishes", [wishes for wishes in ALL if len(wishes) < 4], ids=named)
async def test_a_stale_worker_is_harmless_at_any_moment(plant: MortalPlant, wishes: Sequence[str], pace: Pace):
    for at in count(1):
        if not await waking_after(plant, wishes, pace, Fate(at, still=True)):
            break

    assert at > 10
