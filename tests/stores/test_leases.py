"""Leases: two claimers never hold the same row."""

import asyncio
from datetime import UTC, datetime, timedelta

from neuropod.accounts.records import UserRow
from neuropod.db.engine import Database
from neuropod.db.leases import Claims
from neuropod.pods.records import PodRow
from support.rows import pod_row, user_row

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLAIMS = Claims(PodRow)


async def _due_pods(database: Database, count: int) -> None:
    async with database.write() as session:
        user: UserRow = user_row()
        session.add(user)
        await session.flush()
        session.add_all([pod_row(user, name=f"p{number}", due_at=NOW) for number in range(count)])


async def _claim(database: Database, now: datetime = NOW, limit: int = 20) -> list[str]:
    async with database.write() as session:
        rows = await CLAIMS.take(session, now=now, lease_seconds=30, limit=limit)
        return [row.id for row in rows]


async def test_a_due_row_is_claimed_by_one_of_many_claimers(database: Database):
    await _due_pods(database, 100)

    claims = await asyncio.gather(*(_claim(database) for _ in range(20)))

    claimed = [pod for pods in claims for pod in pods]
    assert len(set(claimed)) == len(claimed)
    while more := await _claim(database):
        claimed += more
    assert len(set(claimed)) == len(claimed) == 100


async def test_a_leased_row_is_free_again_when_its_lease_has_ended(database: Database):
    await _due_pods(database, 1)
    (first,) = await _claim(database)

    assert await _claim(database, NOW + timedelta(seconds=29)) == []
    assert await _claim(database, NOW + timedelta(seconds=30)) == [first]


async def test_a_row_that_is_due_later_is_not_claimed(database: Database):
    await _due_pods(database, 1)

    assert await _claim(database, NOW - timedelta(seconds=1)) == []
