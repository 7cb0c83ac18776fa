"""Two servers on one PostgreSQL wake each other."""

import asyncio

from neuropod.db.engine import Database, Topic
from neuropod.db.notify import hear
from neuropod.kit.clock import SystemClock


async def test_a_commit_of_one_server_wakes_the_other(postgres_url: str):
    here, there = Database(postgres_url), Database(postgres_url)
    heard: asyncio.Queue[frozenset[Topic]] = asyncio.Queue()
    there.listen(heard.put_nowait)
    listener = asyncio.create_task(hear(there, SystemClock()))
    async with asyncio.timeout(20):
        assert await heard.get() == frozenset(Topic)  # connected: look for yourself

        async with here.write() as session:
            session.nudge(Topic.PODS)

        assert await heard.get() == {Topic.PODS}
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)
    await here.aclose()
    await there.aclose()


async def test_a_transaction_that_failed_wakes_nobody(database: Database):
    told: list[frozenset[Topic]] = []
    database.listen(told.append)

    try:
        async with database.write() as session:
            session.nudge(Topic.PODS)
            raise RuntimeError("half-way")
    except RuntimeError:
        pass

    assert told == []
    assert database.write_transactions == 0
