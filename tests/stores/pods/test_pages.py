"""Lists of pods take a fixed number of queries, however many there are."""

import pytest

from neuropod.db.engine import Database
from neuropod.pods.views import PodFilters
from support.pod_world import World, actor_of, make_world
from support.statements import statements


@pytest.fixture
async def world(database: Database) -> World:
    return await make_world(database, limits={"pods_per_user": 100})


async def _queries_for_a_page(world: World) -> int:
    with statements(world.database) as seen:
        async with world.database.read() as session:
            page = await world.pods.list_pods(session, actor=actor_of(world.alice), filters=PodFilters(), limit=50)
    assert page.items
    return len(seen)


async def test_a_page_of_one_costs_as_many_queries_as_one_of_thirty(world: World):
    world.capacities = {key: one.__class__(1, 1, 1) for key, one in world.capacities.items()}
    await world.launch("p0", template="jupyterlab", image=None)
    await world.try_open((await world.claim())[0])
    for_one = await _queries_for_a_page(world)
    for number in range(1, 30):
        await world.launch(f"p{number}", template="jupyterlab", image=None)
    for claimed in await world.claim():
        await world.try_open(claimed)

    for_thirty = await _queries_for_a_page(world)

    assert for_thirty == for_one <= 6


async def test_a_batch_of_claims_costs_as_many_queries_as_one(world: World):
    await world.launch("p0")
    with statements(world.database) as one:
        await world.claim()
    for number in range(1, 30):
        await world.launch(f"p{number}")

    with statements(world.database) as many:
        assert len(await world.claim()) == 29

    assert len(many) == len(one) <= 8


async def test_pages_follow_each_other_without_gap_or_double(world: World):
    names = [f"p{number:02}" for number in range(7)]
    for name in names:
        await world.launch(name)
    listed: list[str] = []
    cursor = None

    while True:
        async with world.database.read() as session:
            page = await world.pods.list_pods(
                session, actor=actor_of(world.alice), filters=PodFilters(), cursor=cursor, limit=3
            )
        listed += [view.pod.name for view in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert listed == names[::-1]


async def test_the_feed_reads_all_pods_or_some(world: World):
    pods = [await world.launch(f"p{number}") for number in range(3)]

    async with world.database.read() as session:
        every = await world.pods.views_for_routes(session)
        some = await world.pods.views_for_routes(session, [pods[1].id])

    assert {view.id for view in every} == {pod.id for pod in pods}
    assert [view.id for view in some] == [pods[1].id]
