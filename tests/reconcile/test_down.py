"""`neuropod down` ends what runs and leaves the wishes, so that the next server starts the same pods again."""

import asyncio

from sqlalchemy import select

from neuropod.ids import InstallationId
from neuropod.pods.records import IncarnationRow, PodRow
from neuropod.reconcile.down import end_workloads
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.runtimes.fake.world import Script
from neuropod.words import Reason, Status, Want
from reconcile.plant import Plant, Server


async def down(plant: Plant, server: Server, *, grace_seconds: int = 30) -> int:
    """Close the server's loops and end everything, with the clock running."""
    await server.aclose()
    ending = asyncio.create_task(
        end_workloads(server.loop._world.runtimes.values(), plant.clock, grace_seconds=grace_seconds)
    )
    while not ending.done():
        await asyncio.sleep(0)
        await plant.clock.advance(1)
    return await ending


async def test_pods_that_ran_run_again_after_the_next_start_and_no_crash_is_counted(plant: Plant, server: Server):
    first = await plant.launch(server, "first")
    await plant.launch(server, "stopped")
    await plant.ask(server.pods.stop_pod, "stopped")
    await server.turn()

    ended = await down(plant, server)
    left = plant.running()
    async with plant.database.read() as session:
        wishes = {pod.name: pod.want for pod in await session.scalars(select(PodRow))}
    later = Server(plant)
    await later.resync.turn()
    await later.turn()

    assert ended == 1
    assert left == []
    assert wishes == {"first": Want.RUNNING, "stopped": Want.STOPPED}
    assert plant.running() == [f"{first.id}.2"]
    async with plant.database.read() as session:
        rows = list(
            await session.scalars(
                select(IncarnationRow).where(IncarnationRow.pod_id == first.id).order_by(IncarnationRow.number)
            )
        )
    assert rows[0].reason == Reason.SERVER_DOWN
    assert [row.crashes for row in rows] == [0, 0]
    assert await plant.status(later, "stopped") is Status.STOPPED
    await later.aclose()


async def test_what_ignores_the_stop_is_killed_after_its_grace(plant: Plant, server: Server):
    plant.world.default_script = Script(stop_seconds=None)
    await plant.launch(server)
    await server.turn()
    began = plant.clock.monotonic()

    ended = await down(plant, server, grace_seconds=10)

    assert ended == 1
    assert plant.running() == []
    assert plant.clock.monotonic() - began >= 10


async def test_what_carries_another_installation_runs_on(plant: Plant, server: Server):
    pod = await plant.launch(server)
    await server.turn()
    other = FakeRuntime(InstallationId("npd_other"), plant.world)

    ended = await end_workloads([other], plant.clock, grace_seconds=10)

    assert ended == 0
    assert plant.running() == [f"{pod.id}.1"]


async def test_nothing_to_end_takes_no_time(plant: Plant, server: Server):
    async with asyncio.timeout(5):
        assert await end_workloads([server.runtime], plant.clock, grace_seconds=3600) == 0
