"""Start, stop, restart, edit, delete: what each does to the wish, in every state; ports, which come and go beside it."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from neuropod.accounts.access import SYSTEM
from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.engine import Database
from neuropod.db.events import EventRow
from neuropod.kit.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from neuropod.kit.money import Micros
from neuropod.kit.secrets import Secret
from neuropod.pods.launch import EditRequest, PortRequest, VolumeRequest
from neuropod.pods.lifecycle import Close, Open, Rest, Stop, decide
from neuropod.pods.views import PodView
from neuropod.runtimes.contract import Capability, Capacity, Phase
from neuropod.words import Reason, Status, Want
from support.alone import close_incarnation, record_pass
from support.pod_world import RUNTIME, StandIn, World, actor_of, make_world, seen
from support.rows import NOW
from support.workloads import workload_of


async def ended(world: World, reason: Reason, name: str = "lab") -> PodView:
    pod = await world.run(name)
    claimed = await world.claim_one(pod)
    now = world.clock.now()
    async with world.database.write() as session:
        closed = await close_incarnation(session, claimed, Close(1, reason, "", now, 1), None, now=now)
        assert closed is not None
        await record_pass(session, closed, None, now=now, due_at=None)
    return await world.show(pod.id)


async def next_step(world: World, pod: PodView, told: Any = None) -> Any:
    """What the loop would do now."""
    claimed = await world.claim_one(pod)
    return decide(claimed.facts, told, world.clock.now())


async def kinds(world: World, pod: PodView) -> list[str]:
    async with world.database.read() as session:
        query = select(EventRow.kind).where(EventRow.pod_id == pod.id).order_by(EventRow.id)
        return list(await session.scalars(query))


# Start


async def test_start_on_a_running_pod_changes_nothing(world: World):
    pod = await world.run()

    after = await world.act("start_pod", pod)

    assert (after.pod.run_revision, after.pod.generation) == (pod.pod.run_revision, pod.pod.generation)
    assert "pod.started" not in await kinds(world, pod)


async def test_start_on_a_pod_that_was_just_launched_or_waits_changes_nothing(world: World):
    world.capacities = {RUNTIME: Capacity(1, 1, 1)}
    pod = await world.launch()
    await world.act("start_pod", pod)
    await world.try_open(await world.claim_one(pod))

    after = await world.act("start_pod", pod)

    assert (after.shown.status, after.pod.run_revision) == (Status.WAITING, 1)


@pytest.mark.parametrize("reason", [Reason.EXITED, Reason.CRASHED, Reason.DISK_FULL])
async def test_start_after_an_end_opens_the_next_run_at_once(world: World, reason: Reason):
    pod = await ended(world, reason)

    after = await world.act("start_pod", pod)

    assert (after.pod.want, after.pod.run_revision) == (Want.RUNNING, 2)
    assert await next_step(world, pod) == Open(2, crashes=0)
    assert (await kinds(world, pod))[-1] == "pod.started"


async def test_start_while_it_is_being_stopped_makes_a_new_run_after_the_old_one(world: World):
    pod = await world.run()
    await world.act("stop_pod", pod)

    after = await world.act("start_pod", pod)

    assert (after.pod.want, after.pod.run_revision) == (Want.RUNNING, 2)
    assert await next_step(world, pod, seen(pod.id, Phase.READY)) == Stop(1, Reason.REVISION, 30)


async def test_start_accepts_the_price_of_now_and_a_restart_keeps_the_accepted_one(world: World):
    pod = await world.run()
    async with world.database.write() as session:
        (await session.get_one(GpuTypeRow, "cpu")).price_micros_per_hour = Micros(400_000)

    restarted = await world.act("restart_pod", pod)
    await world.act("stop_pod", pod)
    started = await world.act("start_pod", pod)

    assert restarted.pod.price_micros_per_hour == 300_000 + 100_000  # with 10 GB of disk
    assert started.pod.price_micros_per_hour == 400_000 + 100_000


async def test_another_disk_is_priced_anew_and_the_type_keeps_its_accepted_price(world: World):
    pod = await world.launch(gpu_type="rtx-4090", container_disk_gb=10)
    async with world.database.write() as session:
        (await session.get_one(GpuTypeRow, "rtx-4090")).price_micros_per_hour = Micros(9_000_000)

    async with world.database.write() as session:
        await world.pods.stop_pod(session, pod.id, actor=actor_of(world.alice))
        edited = await world.pods.edit_pod(
            session, pod.id, EditRequest(container_disk_gb=30), actor=actor_of(world.alice)
        )

    assert (pod.pod.price_micros_per_hour, edited.pod.disk_micros_per_hour) == (2_600_000, 300_000)
    assert edited.pod.price_micros_per_hour == 2_500_000 + 300_000


async def test_a_type_that_is_not_on_offer_any_more_cannot_be_started(world: World):
    pod = await ended(world, Reason.EXITED)
    async with world.database.write() as session:
        (await session.get_one(GpuTypeRow, "cpu")).enabled = False

    with pytest.raises(ConflictError) as caught:
        await world.act("start_pod", pod)

    assert caught.value.code == "gpu_type_unavailable"


async def test_a_suspended_owner_starts_nothing_and_may_stop(world: World):
    pod, other = await world.run(), await ended(world, Reason.EXITED, "other")
    async with world.database.write() as session:
        (await session.get_one(type(world.alice), world.alice.id)).suspended_at = NOW

    for verb in ("start_pod", "restart_pod"):
        with pytest.raises(ForbiddenError) as caught:
            await world.act(verb, other)
        assert caught.value.code == "suspended"
    stopped = await world.act("stop_pod", pod, actor=SYSTEM, reason=Reason.SUSPENDED)

    assert (stopped.shown.status, stopped.shown.reason) == (Status.STOPPING, Reason.SUSPENDED)


async def test_where_isolation_is_gone_clients_start_nothing(database: Database):
    runtime = StandIn()
    world = await make_world(database, runtimes={RUNTIME: runtime})
    pod = await ended(world, Reason.EXITED)
    runtime.capabilities = frozenset({Capability.IMAGES})

    with pytest.raises(ForbiddenError) as caught:
        await world.act("start_pod", pod)

    assert caught.value.code == "no_isolation"


async def test_twenty_starts_at_once_make_one_run(world: World):
    pod = await ended(world, Reason.EXITED)

    await asyncio.gather(*(world.act("start_pod", pod) for _ in range(20)))

    assert (await world.show(pod.id)).pod.run_revision == 2


# Stop, restart, delete


async def test_stop_is_a_wish_that_shows_at_once(world: World):
    pod = await world.run()

    after = await world.act("stop_pod", pod)
    again = await world.act("stop_pod", pod)

    assert (after.pod.want, after.shown.status, after.shown.reason) == (
        Want.STOPPED,
        Status.STOPPING,
        Reason.REQUESTED,
    )
    assert again.pod.generation == after.pod.generation
    assert (await kinds(world, pod)).count("pod.stopped") == 1
    assert await next_step(world, pod, seen(pod.id, Phase.READY)) == Stop(1, Reason.REQUESTED, 30)


async def test_a_pod_that_waits_can_be_stopped(world: World):
    world.capacities = {RUNTIME: Capacity(1, 1, 1)}
    pod = await world.launch()
    await world.try_open(await world.claim_one(pod))

    after = await world.act("stop_pod", pod)

    assert after.shown.status is Status.STOPPED
    assert await next_step(world, pod) == Rest()


async def test_restart_makes_a_new_run(world: World):
    pod = await world.run()

    after = await world.act("restart_pod", pod)

    assert (after.shown.status, after.shown.reason) == (Status.STOPPING, Reason.REVISION)
    assert await next_step(world, pod, seen(pod.id, Phase.READY)) == Stop(1, Reason.REVISION, 30)


async def test_restart_of_a_stopped_pod_starts_it(world: World):
    pod = await ended(world, Reason.REQUESTED)
    await world.act("stop_pod", pod)

    after = await world.act("restart_pod", pod)

    assert (after.pod.want, after.pod.run_revision) == (Want.RUNNING, 2)


async def test_a_deleted_pod_is_shown_until_nothing_is_left_and_takes_no_more_wishes(world: World):
    pod = await world.run()

    deleted = await world.act("delete_pod", pod)
    again = await world.act("delete_pod", pod)

    assert deleted.shown.status is again.shown.status is Status.DELETING
    assert again.pod.generation == deleted.pod.generation
    for verb in ("start_pod", "stop_pod", "restart_pod"):
        with pytest.raises(ConflictError) as caught:
            await world.act(verb, pod)
        assert caught.value.code == "pod_deleting"
    with pytest.raises(ConflictError) as caught:
        await world.launch("lab")
    assert caught.value.code == "name_taken"


# Edit


async def test_a_running_pod_is_not_changed_without_restart(world: World):
    pod = await world.run()
    request = EditRequest(gpu_type="rtx-4090")

    with pytest.raises(ConflictError) as caught:
        await world.act("edit_pod", pod, request)

    assert caught.value.code == "restart_required"
    assert (await world.show(pod.id)).pod.gpu_type == "cpu"


async def test_with_restart_it_is_changed_and_run_anew_at_the_new_price(world: World):
    pod = await world.run()

    after = await world.act(
        "edit_pod",
        pod,
        EditRequest(
            gpu_type="rtx-4090",
            gpu_count=2,
            container_disk_gb=20,
            image="other:2",
            command=("sleep", "9"),
            env={"A": Secret("b")},
            volume=VolumeRequest("data", 5),
            restart=True,
        ),
    )

    row = after.pod
    assert (row.gpu_type, row.gpu_count, row.gpus, row.memory_gb) == ("rtx-4090", 2, 2, 96)
    assert (row.price_micros_per_hour, row.container_disk_gb, row.image) == (5_200_000, 20, "other:2")
    assert (row.command, row.run_revision, row.want) == (["sleep", "9"], 2, Want.RUNNING)
    assert after.volume is not None
    assert (after.volume.name, after.volume.size_gb) == ("data", 5)
    assert after.incarnation is not None
    assert after.incarnation.price_micros_per_hour == 400_000
    workload = await workload_of(world.database, world.pods, pod.id)
    async with world.database.read() as session:
        told = (await session.scalars(select(EventRow).where(EventRow.kind == "pod.changed"))).one()
    assert workload.env["A"].reveal() == "b"
    assert set(told.data["fields"]) == {
        "image", "command", "gpu_type", "gpu_count", "container_disk_gb", "volume", "env",
    }  # fmt: skip


async def test_a_stopped_pod_is_changed_and_stays_stopped(world: World):
    pod = await ended(world, Reason.REQUESTED)
    stopped = await world.act("stop_pod", pod)
    await world.clock.advance(60)

    after = await world.act("edit_pod", pod, EditRequest(container_disk_gb=20))

    assert (after.pod.want, after.pod.container_disk_gb) == (Want.STOPPED, 20)
    assert (after.shown.status, after.shown.since) == (Status.STOPPED, stopped.shown.since)
    assert await next_step(world, pod) == Rest()


async def test_an_edit_that_changes_nothing_needs_no_restart(world: World):
    pod = await world.run(env={"A": Secret("b")})

    after = await world.act(
        "edit_pod",
        pod,
        EditRequest(image="plain", gpu_type="cpu", gpu_count=1, env={"A": Secret("b")}, volume=None),
    )

    assert after.pod.run_revision == 1


async def test_a_volume_is_detached_by_null_and_stays(world: World):
    pod = await world.run(volume=VolumeRequest())

    after = await world.act("edit_pod", pod, EditRequest(volume=None, restart=True))
    again = await world.act("edit_pod", pod, EditRequest(volume=VolumeRequest(), restart=True))

    assert after.volume is None
    assert again.volume is not None
    assert again.pod.volume_id == pod.pod.volume_id


async def test_an_edit_keeps_the_rules_of_a_launch(world: World):
    pod = await world.run(volume=VolumeRequest(size_gb=3))

    with pytest.raises(InvalidInputError) as caught:
        await world.act(
            "edit_pod",
            pod,
            EditRequest(
                image="Bad Image",
                command=(),
                gpu_type="nonsense",
                gpu_count=99,
                container_disk_gb=0,
                volume=VolumeRequest(size_gb=4),
                env={"JUPYTER_TOKEN": Secret("x")},
                restart=True,
            ),
        )

    assert {field.field for field in caught.value.fields} == {
        "image", "command", "gpu_type", "gpu_count", "container_disk_gb", "volume.size_gb", "env.JUPYTER_TOKEN",
    }  # fmt: skip
    assert (await world.show(pod.id)).pod.run_revision == 1


async def test_a_recipe_pod_cannot_take_an_image_where_none_runs(database: Database):
    recipes = StandIn(capabilities=frozenset({Capability.RECIPES, Capability.TENANT_ISOLATION}))
    world = await make_world(database, runtimes={RUNTIME: recipes})
    pod = await world.launch(image=None, template="jupyterlab")

    with pytest.raises(InvalidInputError) as caught:
        await world.act("edit_pod", pod, EditRequest(image="ubuntu", restart=True))

    assert caught.value.code == "no_runtime"


# Ports


async def test_ports_come_and_go_while_the_pod_runs_on(world: World):
    pod = await world.run()

    added = await world.act("add_port", pod, PortRequest(5000))
    changed = await world.act("change_port", pod, 5000, name="Shop", access="public")
    removed = await world.act("remove_port", pod, 5000)

    assert [(port.port, port.name, port.access) for port in added.ports] == [(5000, "Service 1", "private")]
    assert [(port.port, port.name, port.access) for port in changed.ports] == [(5000, "Shop", "public")]
    assert removed.ports == ()
    assert removed.pod.run_revision == 1
    assert (await kinds(world, pod))[-3:] == ["pod.port_added", "pod.port_changed", "pod.port_removed"]


async def test_ports_keep_their_rules(database: Database):
    world = await make_world(database, limits={"ports_per_pod": 1})
    pod = await world.launch(ports=(PortRequest(80),))

    with pytest.raises(ConflictError):
        await world.act("add_port", pod, PortRequest(80))
    with pytest.raises(ConflictError) as caught:
        await world.act("add_port", pod, PortRequest(81))
    assert caught.value.code == "too_many_ports"
    for request in (PortRequest(0), PortRequest(65536), PortRequest(82, name="\x1b[31m")):
        with pytest.raises(InvalidInputError):
            await world.act("add_port", pod, request)
    with pytest.raises(InvalidInputError):
        await world.act("change_port", pod, 80, name="")
    for verb in ("change_port", "remove_port"):
        with pytest.raises(NotFoundError):
            await world.act(verb, pod, 81)
