"""Which pods have something to tell that is no event: a place in a queue, a preparation that says how far it is."""

from neuropod.db.engine import Database
from neuropod.pods.lifecycle import Wait
from neuropod.pods.passing.store import passing_pods
from neuropod.runtimes.contract import Capacity, Phase, Progress
from neuropod.words import Reason
from support.alone import record_pass
from support.pod_world import make_world, seen


async def test_a_progress_passes_and_a_start_that_tells_none_has_nothing_that_could(database: Database):
    world = await make_world(database)
    pulls, starts, runs = [await world.launch(name) for name in ("pulls", "starts", "runs")]
    of_pull = {"reason": Reason.PULLING, "progress": Progress("pulling", 1, 2, "layers")}
    told = {
        pulls.id: seen(pulls.id, Phase.PENDING, **of_pull),
        starts.id: seen(starts.id, Phase.PENDING, Reason.STARTING),
        runs.id: seen(runs.id, Phase.READY),
    }
    for pod in (pulls, starts, runs):
        opened = await world.open(pod)
        async with database.write() as session:
            await record_pass(session, opened, told[pod.id], now=world.clock.now(), due_at=None)

    async with database.read() as session:
        assert await passing_pods(session) == [pulls.id]


async def test_a_place_in_a_queue_passes(database: Database):
    world = await make_world(database)
    world.capacities = dict.fromkeys(world.capacities, Capacity(0, 0, 0))
    waits = await world.launch("waits")
    assert isinstance(await world.try_open(await world.claim_one(waits)), Wait)

    async with database.read() as session:
        assert await passing_pods(session) == [waits.id]
