"""The resync loop finds what nudges lost, and sweeps what belongs to nobody, carefully."""

from dataclasses import replace

import pytest

from neuropod.db.idempotency import earlier_subject, remember
from neuropod.db.installation import InstallationRow, confirm_epoch
from neuropod.ids import InstallationId, PodId
from neuropod.reconcile.resync import too_many
from neuropod.runtimes.contract import RuntimeUnavailableError, Workload, WorkloadId
from neuropod.words import Status
from reconcile.plant import INSTALLATION, Plant, Server
from support.workloads import workload_of


async def _workload(plant: Plant, server: Server) -> Workload:
    pod = await plant.launch(server, "pattern")
    await server.turn()
    return await workload_of(plant.database, server.pods, pod.id)


def _stray(pattern: Workload, name: str, installation: InstallationId = INSTALLATION) -> Workload:
    return replace(pattern, id=WorkloadId(installation, PodId(name), 1))


async def test_a_change_whose_nudge_was_lost_is_found(plant: Plant, server: Server):
    pod = await plant.launch(server)
    await server.turn()
    (standing,) = plant.world.standing.values()
    standing.kill(plant.clock.now(), reason=standing.seen(plant.clock.now()).reason)

    await server.resync.turn()
    await server.turn()
    await plant.clock.advance(10)
    await server.turn()

    assert plant.running() == [f"{pod.id}.2"]


async def test_a_workload_without_a_row_goes_after_its_grace(plant: Plant, server: Server):
    pattern = await _workload(plant, server)
    plant.world.place(_stray(pattern, "pod_stray"))

    await server.resync.turn()
    at_once = len(plant.running())
    await plant.clock.advance(plant.settings.reconcile.sweep_grace_seconds)
    await server.resync.turn()

    assert at_once == 2
    assert plant.running() == [str(pattern.id)]


async def test_what_belongs_to_another_installation_is_never_touched(plant: Plant, server: Server):
    pattern = await _workload(plant, server)
    plant.world.place(_stray(pattern, "pod_theirs", InstallationId("npd_other")))

    for _ in range(3):
        await server.resync.turn()
        await plant.clock.advance(600)

    assert "pod_theirs.1" in plant.running()


async def test_a_sweep_that_would_remove_too_much_halts_with_an_alarm(plant: Plant, server: Server):
    pattern = await _workload(plant, server)
    for number in range(4):
        plant.world.place(_stray(pattern, f"pod_stray{number}"))

    await server.resync.turn()
    await plant.clock.advance(600)
    turn = await server.resync.turn()

    assert not turn.ok
    assert "halted" in turn.message
    assert len(plant.running()) == 5


async def test_after_a_restore_nothing_is_swept_until_an_administrator_confirms(plant: Plant, server: Server):
    pattern = await _workload(plant, server)
    plant.world.place(_stray(pattern, "pod_stray"))
    restored = Server(plant, allowed=False)

    await restored.resync.turn()
    await plant.clock.advance(600)
    turn = await restored.resync.turn()

    assert turn.ok
    assert "confirm-epoch" in turn.message
    assert len(plant.running()) == 2
    await restored.aclose()


async def test_once_the_epoch_is_confirmed_it_is_swept_by_the_server_that_runs(plant: Plant, server: Server):
    pattern = await _workload(plant, server)
    plant.world.place(_stray(pattern, "pod_stray"))
    plant.world.place(replace(pattern, id=replace(pattern.id, incarnation=2)))  # of a pod that is there, and newer
    async with plant.database.write() as session:
        row = InstallationRow(id=INSTALLATION, epoch=1, key_fingerprint="", created_at=plant.clock.now())
        session.add(row)
    restored = Server(plant, allowed=False)
    await restored.resync.turn()
    before = plant.running()

    async with plant.database.write() as session:
        await confirm_epoch(session)
    await restored.resync.turn()
    await plant.clock.advance(600)
    turn = await restored.resync.turn()

    assert len(before) == 3
    assert plant.running() == [str(pattern.id)]
    assert turn.message == ""
    await restored.aclose()


async def test_a_pod_is_running_again_when_its_runtime_is_back(plant: Plant, server: Server):
    await plant.launch(server)
    await server.turn()

    async def away(verb: str) -> None:
        raise RuntimeUnavailableError("unplugged")

    plant.world.before = away
    turn = await server.resync.turn()
    unreachable = await plant.status(server)
    plant.world.before = None
    await server.resync.turn()

    assert "gives no answer" in turn.message
    assert unreachable is Status.UNREACHABLE
    assert await plant.status(server) is Status.RUNNING


async def test_what_was_asked_for_while_a_runtime_was_away_begins_as_soon_as_it_is_back(plant: Plant, server: Server):
    async def away(verb: str) -> None:
        raise RuntimeUnavailableError("unplugged")

    await server.resync.turn()
    plant.world.before = away
    await plant.launch(server)
    for _ in range(8):  # with growing waits, the last of them about a minute
        await server.turn()
        await server.resync.turn()
        await plant.clock.advance(60)
    await server.turn()
    plant.world.before = None

    await server.turn()
    meanwhile = await plant.status(server)
    await server.resync.turn()
    await server.turn()

    assert meanwhile is not Status.RUNNING
    assert await plant.status(server) is Status.RUNNING


@pytest.mark.parametrize(
    ("removals", "workloads", "halts"), [(0, 0, False), (3, 3, False), (4, 20, False), (4, 19, True), (50, 100, True)]
)
def test_how_many_removals_look_like_a_mistake(removals: int, workloads: int, halts: bool):
    assert too_many(removals, workloads) is halts


async def test_requests_of_yesterday_are_forgotten_and_an_idle_server_hardly_writes(plant: Plant, server: Server):
    key = {"actor": "usr_1", "route": "POST /pods", "header": "again", "body": b"{}"}
    async with plant.database.write() as session:
        remember(session, **key, subject="pod_1", now=plant.clock.now())

    await server.resync.turn()
    async with plant.database.write() as session:
        within_a_day = await earlier_subject(session, **key)
    before = plant.database.write_transactions
    for _ in range(10):
        await plant.clock.advance(60)
        await server.resync.turn()
    written = plant.database.write_transactions - before
    await plant.clock.advance(24 * 3600)
    await server.resync.turn()

    assert within_a_day == "pod_1"
    assert written == 0
    async with plant.database.write() as session:
        assert await earlier_subject(session, **key) is None
