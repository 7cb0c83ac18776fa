"""GPUs are given whole, to one pod each, in order of request, whoever works; one that vanishes is told to who holds it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import select

from neuropod.db.engine import Database
from neuropod.db.events import EventRow
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.views import PodView
from neuropod.reconcile.devices import DevicesLoop
from neuropod.runtimes.contract import Device, Phase, RuntimeUnavailableError, Workload
from neuropod.words import Reason, Status
from reconcile.plant import Plant, Server

MODEL = "NVIDIA GeForce RTX 4090"


def gpus(number: int) -> tuple[Device, ...]:
    return tuple(Device(f"GPU-{index}", MODEL) for index in range(number))


def set_gpus(plant: Plant, *devices: Device) -> None:
    plant.world.capacity = replace(plant.world.capacity, devices=devices)


async def launch(plant: Plant, server: Server, name: str, count: int = 1) -> PodView:
    await plant.clock.advance(1)  # each asks at a time of its own
    request = LaunchRequest(name=name, image="plain", volume=None, gpu_type="rtx-4090", gpu_count=count)
    return await plant.ask(server.pods.launch_pod, request)


def has(plant: Plant) -> dict[str, list[str]]:
    """Return the GPUs of each workload that has not ended, by pod name."""
    now = plant.clock.now()
    return {
        one.workload.pod_name: sorted(one.workload.resources.devices)
        for one in plant.world.standing.values()
        if one.seen(now).phase is not Phase.EXITED
    }


@pytest.fixture
def watched(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> list[Workload]:
    """Every workload that comes into the world; fails when it brings a GPU that another one has."""
    placed: list[Workload] = []
    place = plant.world.place

    def checked(workload: Workload) -> None:
        taken = {device for devices in has(plant).values() for device in devices}
        assert not taken & set(workload.resources.devices), f"{workload.pod_name} got a GPU twice"
        placed.append(workload)
        place(workload)

    monkeypatch.setattr(plant.world, "place", checked)
    return placed


@pytest.fixture
async def both(plant: Plant, server: Server) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers of one database, as on PostgreSQL; on SQLite their transactions come one after another."""
    other = Server(plant)
    yield server, other
    await other.aclose()


async def test_two_servers_never_give_a_gpu_away_twice(
    plant: Plant, both: tuple[Server, Server], watched: list[Workload]
):
    set_gpus(plant, *gpus(3))
    counts = [1, 2, 1, 3, 1, 1]
    for number, count in enumerate(counts):
        await launch(plant, both[0], f"pod{number}", count)
    order: list[str] = []
    await both[0].turn()  # so that all stand in the queue: who came at the same moment may be served in any order

    for _ in range(20):
        await asyncio.gather(*(server.turn() for server in both))
        held = [device for devices in has(plant).values() for device in devices]
        assert len(held) == len(set(held)) <= 3
        order += sorted(name for name in has(plant) if name not in order)
        if len(order) == len(counts):
            break
        oldest = next(name for name in order if name in has(plant))
        await plant.ask(both[0].pods.stop_pod, oldest)

    assert order == [f"pod{number}" for number in range(len(counts))]
    given = {one.pod_name: len(one.resources.devices) for one in watched}
    assert given == {f"pod{number}": count for number, count in enumerate(counts)}


async def test_who_wants_two_is_not_overtaken_by_who_wants_one(plant: Plant, server: Server, watched: list[Workload]):
    set_gpus(plant, *gpus(2))
    await launch(plant, server, "first")
    await launch(plant, server, "both", 2)
    await launch(plant, server, "late")
    await server.turn()
    places = [(await plant.show(server, name)).shown.place for name in ("both", "late")]

    await plant.ask(server.pods.stop_pod, "first")
    await server.turn()

    assert places == [1, 2]
    assert has(plant) == {"both": ["GPU-0", "GPU-1"]}
    assert (await plant.show(server, "late")).shown.place == 1
    assert len(watched) == 2


async def test_a_gpu_is_given_back_when_its_workload_is_gone_and_not_before(plant: Plant, server: Server):
    set_gpus(plant, *gpus(1))
    await launch(plant, server, "first")
    await launch(plant, server, "next")
    await server.turn()
    (standing,) = plant.world.standing.values()
    standing.script = replace(standing.script, stop_seconds=20)

    await plant.ask(server.pods.stop_pod, "first")
    await server.turn()
    while_it_stops = await plant.status(server, "next")
    await plant.clock.advance(25)
    await server.turn()

    assert while_it_stops is Status.WAITING
    assert has(plant) == {"next": ["GPU-0"]}


async def _kinds(database: Database) -> list[tuple[str, str]]:
    async with database.read() as session:
        query = select(EventRow.kind, EventRow.message).where(EventRow.kind.like("pod.gpu%")).order_by(EventRow.id)
        return [(kind, message) for kind, message in await session.execute(query)]


def _devices_loop(server: Server) -> DevicesLoop:
    return DevicesLoop(server.loop._world)


async def test_a_gpu_that_vanishes_is_told_once_to_the_pod_that_holds_it(plant: Plant, server: Server):
    loop = _devices_loop(server)
    set_gpus(plant, *gpus(2))
    await launch(plant, server, "lab", 2)
    await server.turn()
    await loop.turn()
    assert (await plant.show(server)).shown.reason is Reason.READY

    set_gpus(plant, replace(gpus(2)[0], trouble="it reported a critical error (Xid 79)"))  # the other one is gone
    for _ in range(2):
        await loop.turn()
    shown = (await plant.show(server)).shown
    set_gpus(plant, *gpus(2))
    await loop.turn()

    assert (shown.status, shown.reason) == (Status.RUNNING, Reason.GPU_LOST)
    assert "GPU-0 is lost to it: it reported a critical error (Xid 79)" in shown.message
    assert "GPU-1 is lost to it: it is not on its machine any more" in shown.message
    assert [kind for kind, _ in await _kinds(plant.database)] == ["pod.gpu_lost", "pod.gpu_back"]
    assert (await plant.show(server)).shown.reason is Reason.READY


async def test_a_broken_gpu_is_given_to_nobody_and_one_that_comes_wakes_who_waits(plant: Plant, server: Server):
    loop = _devices_loop(server)
    set_gpus(plant, replace(gpus(1)[0], trouble="it is lost"))
    await loop.turn()
    await launch(plant, server, "lab")
    await server.turn()
    before = (await plant.show(server)).shown

    set_gpus(plant, *gpus(1))
    await loop.turn()
    await server.turn()

    assert (before.status, before.reason) == (Status.WAITING, Reason.NO_GPU)
    assert has(plant) == {"lab": ["GPU-0"]}


async def test_a_runtime_that_gives_no_answer_is_no_loss_of_gpus(plant: Plant, server: Server):
    loop = _devices_loop(server)
    set_gpus(plant, *gpus(1))
    await launch(plant, server, "lab")
    await server.turn()

    async def silent(verb: str) -> None:
        raise RuntimeUnavailableError(verb)

    plant.world.before = silent
    await loop.turn()

    assert await _kinds(plant.database) == []


async def test_a_pod_whose_gpu_goes_between_the_giving_and_the_start_gets_another(plant: Plant, server: Server):
    set_gpus(plant, *gpus(2))
    pod = await launch(plant, server, "lab")
    plant.world.scripts["lab"] = replace(plant.world.default_script, reject="GPU GPU-0 cannot be used: it is lost.",
                                         reject_reason=Reason.GPU_LOST)  # fmt: skip
    await server.turn()
    first = await plant.show(server)

    del plant.world.scripts["lab"]
    set_gpus(plant, gpus(2)[1])
    await plant.clock.advance(10)
    await server.turn()

    assert (first.shown.status, first.shown.reason) == (Status.STARTING, Reason.GPU_LOST)
    assert has(plant) == {"lab": ["GPU-1"]}
    assert plant.running() == [f"{pod.id}.2"]
