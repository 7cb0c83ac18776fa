"""The engine: what is left of a transaction that is cut off."""

import asyncio
import sqlite3
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from aiosqlite import core
from sqlalchemy import bindparam, select, text, update

from neuropod.accounts.records import UserRow
from neuropod.db.engine import Database
from support.rows import user_row


class Cut(BaseException):
    """Who asked for a statement is gone before the answer came, as after a cancellation."""


class Scissors:
    """Cuts off the work on SQLite's thread at one of its trips there, which itself is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trips = self.at = 0
        execute = core.Connection._execute

        async def cut(connection: core.Connection, *work: Any, **options: Any) -> Any:
            answer = await execute(connection, *work, **options)
            self.trips += 1
            if self.trips == self.at:
                raise Cut
            return answer

        monkeypatch.setattr(core.Connection, "_execute", cut)

    def cut_at(self, trip: int) -> None:
        self.trips, self.at = 0, trip


async def test_a_database_answers_or_is_said_not_to(database: Database):
    nowhere = Database("postgresql://neuropod@127.0.0.1:1/neuropod")

    assert [await database.answers(5), await nowhere.answers(5)] == [True, False]
    await nowhere.aclose()


async def test_a_statement_that_is_cut_off_keeps_no_lock(sqlite_url: str, monkeypatch: pytest.MonkeyPatch):
    database = Database(sqlite_url)
    async with database.write() as session:
        session.add_all([user_row(), user_row()])
    scissors = Scissors(monkeypatch)

    held = []  # the errors, whose frames hold what was open
    for trip in count(1):
        async with database.read() as session:
            await session.execute(text("SELECT 1"))  # a connection is there: opening one is another story
        scissors.cut_at(trip)
        try:
            async with database.write() as session:
                await session.scalars(update(UserRow).values(name="changed").returning(UserRow.id))
        except Cut as error:
            held.append(error)
        trips = scissors.trips
        scissors.cut_at(0)
        if trips < trip:
            break
        await database.engine.dispose()
        with sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=0) as other:
            other.execute("BEGIN IMMEDIATE")
        other.close()

    assert len(held) >= 2
    await database.aclose()


async def test_a_transaction_begins_in_the_trip_of_its_first_statement(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
):
    database = Database(sqlite_url)
    async with database.read() as session:
        await session.execute(text("SELECT 1"))
    trips = Scissors(monkeypatch)

    async with database.write():
        pass
    with suppress(ZeroDivisionError):
        async with database.write():
            raise ZeroDivisionError
    assert trips.trips == 0

    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=0)
    with suppress(ZeroDivisionError):
        async with database.write() as session:
            await session.execute(update(UserRow).values(name="changed"))
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
            raise ZeroDivisionError
    assert trips.trips == 2  # the statement, the rollback
    other.execute("BEGIN IMMEDIATE")
    other.close()
    await database.aclose()


_LONG = text("SELECT count(*) FROM generate AS a, generate AS b")
_GENERATE = text(
    "CREATE VIEW generate AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) SELECT i FROM n"
)


async def test_what_is_small_takes_no_trip_but_the_commit(sqlite_url: str, monkeypatch: pytest.MonkeyPatch):
    database = Database(sqlite_url)
    async with database.read() as session:
        await session.execute(select(UserRow))
    trips = Scissors(monkeypatch)

    async with database.read() as session:
        for _ in range(40):
            await session.execute(select(UserRow))
    assert trips.trips == 0

    async with database.write() as session:
        session.add(user_row())
        await session.flush()
        (user_id,) = await session.scalars(select(UserRow.id))
        connection = await session.connection()
        await connection.execute(update(UserRow).where(UserRow.id == bindparam("of")), [{"of": user_id, "name": "new"}])
        assert trips.trips == 0
    assert trips.trips == 1

    for longer in (update(UserRow), update(UserRow).where((UserRow.name == "new") | (UserRow.id == user_id))):
        async with database.write() as session:
            before = trips.trips
            await session.execute(longer.values(name="newer").execution_options(synchronize_session=False))
            assert trips.trips == before + 1
    await database.aclose()


async def test_a_long_select_stops_nobody_and_undoes_nothing(sqlite_url: str, monkeypatch: pytest.MonkeyPatch):
    database = Database(sqlite_url)
    async with database.write() as session:
        await session.execute(_GENERATE)
    trips = Scissors(monkeypatch)

    async def turns() -> None:
        nonlocal turned
        while True:
            turned += 1
            await asyncio.sleep(0.001)

    turned = 0
    turning = asyncio.create_task(turns())
    async with database.write() as session:
        session.add(user_row(name="before"))
        await session.flush()
        trips.cut_at(0)
        before = turned
        assert await session.scalar(_LONG) == 2000 * 2000
        assert turned > before + 5
        assert trips.trips == 1
        assert await session.scalar(select(UserRow.name)) == "before"
    async with database.read() as session:
        assert await session.scalar(select(UserRow.name)) == "before"
    turning.cancel()
    await database.aclose()


async def test_another_process_that_writes_is_waited_for_on_the_thread(sqlite_url: str):
    database = Database(sqlite_url)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write() -> None:
        async with database.write() as session:
            session.add(user_row())

    async with database.read() as session:
        assert await session.scalar(select(UserRow.id)) is None  # who only reads does not wait
    writing = asyncio.create_task(write())
    done, _ = await asyncio.wait([writing], timeout=0.3)
    assert not done
    other.execute("COMMIT")
    await writing
    assert other.execute("SELECT count(*) FROM users").fetchone() == (1,)
    other.close()
    await database.aclose()


@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("postgresql://a:p%40ss@db.example.org/neuropod?sslmode=require", {"ssl": "require"}),
        ("postgresql://a@/neuropod?host=/run/postgresql", {"host": "/run/postgresql"}),
    ],
)
def test_a_url_of_postgresql_is_written_as_its_own_programs_take_it(url: str, query: dict[str, str]):
    asked = Database(url).engine.url

    assert (asked.drivername, dict(asked.query)) == ("postgresql+asyncpg", query)
    assert asked.password in {"p@ss", None}
