"""Start, stop, restart, edit, delete: what each does to the wish, in every state, and who may."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from neuropod.accounts.access import SYSTEM, Actor
from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.engine import Database
from neuropod.db.events import EventRow
from neuropod.kit.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from neuropod.kit.money import Micros
from neuropod.kit.secrets import Secret
from neuropod.pods.launch import EditRequest, PortRequest, VolumeRequest
from neuropod.pods.lifecycle import Close, Open, Rest, Stop, decide
from neuropod.pods.runs.store import close_incarnation, record_pass
from neuropod.pods.views import PodFilters, PodView
from neuropod.runtimes.contract import Capability, Capacity, Device, Phase
from neuropod.words import JupyterMode, Reason, Scope, Status, Want
from support.pod_world import RUNTIME, StandIn, World, actor_of, make_world, seen
from support.rows import NOW


@pytest.fixture
async def world(database: Database) -> World:
    return await make_world(database)


async def act(world: World, verb: str, pod: PodView, *args: Any, actor: Actor | None = None, **values: Any) -> PodView:
    async with world.database.write() as session:
        return await getattr(world.pods, verb)(session, pod.id, *args, actor=actor or actor_of(world.alice), **values)


async def running(world: World, name: str = "lab", **values: Any) -> PodView:
    pod = await world.launch(name, **values)
    opened = await world.open(pod)
    async with world.database.write() as session:
        await record_pass(session, opened, seen(pod.id, Phase.READY), now=world.clock.now(), due_at=None)
    return await world.show(pod.id)


async def ended(world: World, reason: Reason, name: str = "lab") -> PodView:
    pod = await running(world, name)
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
    pod = await running(world)

    after = await act(world, "start_pod", pod)

    assert (after.pod.run_revision, after.pod.generation) == (pod.pod.run_revision, pod.pod.generation)
    assert "pod.started" not in await kinds(world, pod)


async def test_start_on_a_pod_that_was_just_launched_or_waits_changes_nothing(world: World):
    world.capacities = {RUNTIME: Capacity(1, 1, 1)}
    pod = await world.launch()
    await act(world, "start_pod", pod)
    await world.try_open(await world.claim_one(pod))

    after = await act(world, "start_pod", pod)

    assert (after.shown.status, after.pod.run_revision) == (Status.WAITING, 1)


@pytest.mark.parametrize("reason", [Reason.EXITED, Reason.CRASHED, Reason.DISK_FULL])
async def test_start_after_an_end_opens_the_next_run_at_once(world: World, reason: Reason):
    pod = await ended(world, reason)

    after = await act(world, "start_pod", pod)

    assert (after.pod.want, after.pod.run_revision) == (Want.RUNNING, 2)
    assert await next_step(world, pod) == Open(2, crashes=0)
    assert (await kinds(world, pod))[-1] == "pod.started"


async def test_start_while_it_is_being_stopped_makes_a_new_run_after_the_old_one(world: World):
    pod = await running(world)
    await act(world, "stop_pod", pod)

    after = await act(world, "start_pod", pod)

    assert (after.pod.want, after.pod.run_revision) == (Want.RUNNING, 2)
    assert await next_step(world, pod, seen(pod.id, Phase.READY)) == Stop(1, Reason.REVISION, 30)


async def test_start_accepts_the_price_of_now_and_a_restart_keeps_the_accepted_one(world: World):
    pod = await running(world)
    async with world.database.write() as session:
        (await session.get_one(GpuTypeRow, "cpu")).price_micros_per_hour = Micros(400_000)

    restarted = await act(world, "restart_pod", pod)
    await act(world, "stop_pod", pod)
    started = await act(world, "start_pod", pod)

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
        await act(world, "start_pod", pod)

    assert caught.value.code == "gpu_type_unavailable"


async def test_a_suspended_owner_starts_nothing_and_may_stop(world: World):
    pod, other = await running(world), await ended(world, Reason.EXITED, "other")
    async with world.database.write() as session:
        (await session.get_one(type(world.alice), world.alice.id)).suspended_at = NOW

    for verb in ("start_pod", "restart_pod"):
        with pytest.raises(ForbiddenError) as caught:
            await act(world, verb, other)
        assert caught.value.code == "suspended"
    stopped = await act(world, "stop_pod", pod, actor=SYSTEM, reason=Reason.SUSPENDED)

    assert (stopped.shown.status, stopped.shown.reason) == (Status.STOPPING, Reason.SUSPENDED)


async def test_where_isolation_is_gone_clients_start_nothing(database: Database):
    runtime = StandIn()
    world = await make_world(database, runtimes={RUNTIME: runtime})
    pod = await ended(world, Reason.EXITED)
    runtime.capabilities = frozenset({Capability.IMAGES})

    with pytest.raises(ForbiddenError) as caught:
        await act(world, "start_pod", pod)

    assert caught.value.code == "no_isolation"


async def test_twenty_starts_at_once_make_one_run(world: World):
    pod = await ended(world, Reason.EXITED)

    await asyncio.gather(*(act(world, "start_pod", pod) for _ in range(20)))

    assert (await world.show(pod.id)).pod.run_revision == 2


# Stop, restart, delete


async def test_stop_is_a_wish_that_shows_at_once(world: World):
    pod = await running(world)

    after = await act(world, "stop_pod", pod)
    again = await act(world, "stop_pod", pod)

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

    after = await act(world, "stop_pod", pod)

    assert after.shown.status is Status.STOPPED
    assert await next_step(world, pod) == Rest()


async def test_restart_makes_a_new_run(world: World):
    pod = await running(world)

    after = await act(world, "restart_pod", pod)

    assert (after.shown.status, after.shown.reason) == (Status.STOPPING, Reason.REVISION)
    assert await next_step(world, pod, seen(pod.id, Phase.READY)) == Stop(1, Reason.REVISION, 30)


async def test_restart_of_a_stopped_pod_starts_it(world: World):
    pod = await ended(world, Reason.REQUESTED)
    await act(world, "stop_pod", pod)

    after = await act(world, "restart_pod", pod)

    assert (after.pod.want, after.pod.run_revision) == (Want.RUNNING, 2)


async def test_a_deleted_pod_is_shown_until_nothing_is_left_and_takes_no_more_wishes(world: World):
    pod = await running(world)

    deleted = await act(world, "delete_pod", pod)
    again = await act(world, "delete_pod", pod)

    assert deleted.shown.status is again.shown.status is Status.DELETING
    assert again.pod.generation == deleted.pod.generation
    for verb in ("start_pod", "stop_pod", "restart_pod"):
        with pytest.raises(ConflictError) as caught:
            await act(world, verb, pod)
        assert caught.value.code == "pod_deleting"
    with pytest.raises(ConflictError) as caught:
        await world.launch("lab")
    assert caught.value.code == "name_taken"


# Edit


async def test_a_running_pod_is_not_changed_without_restart(world: World):
    pod = await running(world)
    request = EditRequest(gpu_type="rtx-4090")

    with pytest.raises(ConflictError) as caught:
        await act(world, "edit_pod", pod, request)

    assert caught.value.code == "restart_required"
    assert (await world.show(pod.id)).pod.gpu_type == "cpu"


async def test_with_restart_it_is_changed_and_run_anew_at_the_new_price(world: World):
    pod = await running(world)

    after = await act(
        world,
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
    async with world.database.read() as session:
        workload = await world.pods.workload(session, pod.id, 1)
        told = (await session.scalars(select(EventRow).where(EventRow.kind == "pod.changed"))).one()
    assert workload.env["A"].reveal() == "b"
    assert set(told.data["fields"]) == {
        "image", "command", "gpu_type", "gpu_count", "container_disk_gb", "volume", "env",
    }  # fmt: skip


async def test_a_stopped_pod_is_changed_and_stays_stopped(world: World):
    pod = await ended(world, Reason.REQUESTED)
    stopped = await act(world, "stop_pod", pod)
    await world.clock.advance(60)

    after = await act(world, "edit_pod", pod, EditRequest(container_disk_gb=20))

    assert (after.pod.want, after.pod.container_disk_gb) == (Want.STOPPED, 20)
    assert (after.shown.status, after.shown.since) == (Status.STOPPED, stopped.shown.since)
    assert await next_step(world, pod) == Rest()


async def test_an_edit_that_changes_nothing_needs_no_restart(world: World):
    pod = await running(world, env={"A": Secret("b")})

    after = await act(
        world,
        "edit_pod",
        pod,
        EditRequest(image="plain", gpu_type="cpu", gpu_count=1, env={"A": Secret("b")}, volume=None),
    )

    assert after.pod.run_revision == 1


async def test_a_volume_is_detached_by_null_and_stays(world: World):
    pod = await running(world, volume=VolumeRequest())

    after = await act(world, "edit_pod", pod, EditRequest(volume=None, restart=True))
    again = await act(world, "edit_pod", pod, EditRequest(volume=VolumeRequest(), restart=True))

    assert after.volume is None
    assert again.volume is not None
    assert again.pod.volume_id == pod.pod.volume_id


async def test_an_edit_keeps_the_rules_of_a_launch(world: World):
    pod = await running(world, volume=VolumeRequest(size_gb=3))

    with pytest.raises(InvalidInputError) as caught:
        await act(
            world,
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
        await act(world, "edit_pod", pod, EditRequest(image="ubuntu", restart=True))

    assert caught.value.code == "no_runtime"


# Ports


async def test_ports_come_and_go_while_the_pod_runs_on(world: World):
    pod = await running(world)

    added = await act(world, "add_port", pod, PortRequest(5000))
    changed = await act(world, "change_port", pod, 5000, name="Shop", access="public")
    removed = await act(world, "remove_port", pod, 5000)

    assert [(port.port, port.name, port.access) for port in added.ports] == [(5000, "Service 1", "private")]
    assert [(port.port, port.name, port.access) for port in changed.ports] == [(5000, "Shop", "public")]
    assert removed.ports == ()
    assert removed.pod.run_revision == 1
    assert (await kinds(world, pod))[-3:] == ["pod.port_added", "pod.port_changed", "pod.port_removed"]


async def test_ports_keep_their_rules(database: Database):
    world = await make_world(database, limits={"ports_per_pod": 1})
    pod = await world.launch(ports=(PortRequest(80),))

    with pytest.raises(ConflictError):
        await act(world, "add_port", pod, PortRequest(80))
    with pytest.raises(ConflictError) as caught:
        await act(world, "add_port", pod, PortRequest(81))
    assert caught.value.code == "too_many_ports"
    for request in (PortRequest(0), PortRequest(65536), PortRequest(82, name="\x1b[31m")):
        with pytest.raises(InvalidInputError):
            await act(world, "add_port", pod, request)
    with pytest.raises(InvalidInputError):
        await act(world, "change_port", pod, 80, name="")
    for verb in ("change_port", "remove_port"):
        with pytest.raises(NotFoundError):
            await act(world, verb, pod, 81)


# Jupyter


async def _link(world: World, pod: PodView, port: int = 8888, actor: Actor | None = None) -> str:
    async with world.database.read() as session:
        link = await world.pods.port_link(session, pod.id, port, actor=actor or actor_of(world.alice))
    assert link.host == f"{pod.pod.name}-{pod.owner.hash}-{port}.neuropod-pods.localhost"
    return link.path


async def test_the_platforms_token_is_kept_over_stop_and_start_and_is_what_the_pod_gets(world: World):
    pod = await world.launch(image=None, template="jupyterlab")
    path = await _link(world, pod)

    await act(world, "stop_pod", pod)
    await act(world, "start_pod", pod)

    assert await _link(world, pod) == path
    async with world.database.read() as session:
        workload = await world.pods.workload(session, pod.id, 1)
    assert path == f"/lab?token={workload.env['JUPYTER_TOKEN'].reveal()}"


async def test_the_token_is_its_owners_alone(world: World):
    pod = await world.launch(image=None, template="jupyterlab")

    assert await _link(world, pod, actor=actor_of(world.admin)) == "/"
    with pytest.raises(NotFoundError):
        await _link(world, pod, actor=actor_of(world.bob))
    with pytest.raises(ForbiddenError):
        await _link(world, pod, actor=actor_of(world.alice, scopes=frozenset({Scope.READ, Scope.PORTS})))
    with pytest.raises(NotFoundError):
        await _link(world, pod, port=1)


async def test_a_rotated_token_is_another_and_needs_a_new_run(world: World):
    pod = await running(world, image=None, template="jupyterlab")
    before = await _link(world, pod)

    with pytest.raises(ConflictError) as caught:
        await act(world, "rotate_jupyter_token", pod)
    rotated = await act(world, "rotate_jupyter_token", pod, restart=True)

    assert caught.value.code == "restart_required"
    assert rotated.pod.run_revision == 2
    assert await _link(world, pod) != before


async def test_a_token_read_from_a_log_belongs_to_its_run(world: World):
    pod = await running(world, jupyter=JupyterMode.FROM_LOG)
    with pytest.raises(ConflictError) as caught:
        await _link(world, pod)
    assert caught.value.code == "no_token_yet"

    async with world.database.write() as session:
        await world.pods.keep_log_token(session, pod.id, 1, Secret("f" * 48))
        await world.pods.keep_log_token(session, pod.id, 1, Secret("later"))

    assert await _link(world, pod) == f"/lab?token={'f' * 48}"
    claimed = await world.claim_one(pod)
    async with world.database.write() as session:
        close = Close(1, Reason.CRASHED, "", world.clock.now(), 1)
        closed = await close_incarnation(session, claimed, close, None, now=world.clock.now())
    assert closed is not None
    with pytest.raises(ConflictError):
        await _link(world, pod)
    await world.clock.advance(5)
    await world.try_open(closed)
    with pytest.raises(ConflictError):
        await _link(world, pod)


async def test_a_secret_copied_to_another_pods_row_does_not_open(world: World):
    """SECURITY 35."""
    lab = await world.launch(image=None, template="jupyterlab", env={"A": Secret("b")})
    other = await world.launch("other", image=None, template="jupyterlab")
    async with world.database.write() as session:
        thief = await session.get_one(type(other.pod), other.id)
        thief.jupyter_token_sealed, thief.env_sealed = lab.pod.jupyter_token_sealed, lab.pod.env_sealed

    with pytest.raises(Exception, match="was not written there"):
        await _link(world, other)
    async with world.database.read() as session:
        with pytest.raises(Exception, match="was not written there"):
            await world.pods.workload(session, other.id, 1)


# Who sees and who may


MATRIX = {
    "start_pod": (),
    "stop_pod": (),
    "restart_pod": (),
    "delete_pod": (),
    "edit_pod": (EditRequest(container_disk_gb=2, restart=True),),
    "add_port": (PortRequest(90),),
    "change_port": (8888,),
    "remove_port": (8888,),
    "port_link": (8888,),
    "rotate_jupyter_token": (),
}


@pytest.mark.parametrize("verb", MATRIX)
async def test_others_find_nothing_and_keys_do_what_their_scope_says(world: World, verb: str):
    """SECURITY 27 and 30."""
    pod = await world.launch(image=None, template="jupyterlab")
    reader = frozenset({Scope.READ, Scope.ADMIN, Scope.PORTS})

    with pytest.raises(NotFoundError):
        await act(world, verb, pod, *MATRIX[verb], actor=actor_of(world.bob))
    with pytest.raises(ForbiddenError) as caught:
        await act(world, verb, pod, *MATRIX[verb], actor=actor_of(world.alice, scopes=reader, via="key"))
    assert caught.value.code == "scope_missing"
    demoted = actor_of(world.admin, scopes=frozenset({Scope.READ, Scope.WRITE}), via="key")
    with pytest.raises(NotFoundError):
        await act(world, verb, pod, *MATRIX[verb], actor=demoted)
    assert (await world.show(pod.id)).pod.generation == 1

    await act(world, verb, pod, *MATRIX[verb])


async def test_looking_needs_read_and_shows_ones_own(world: World):
    mine = await world.launch("mine")
    theirs = await world.launch("theirs", owner=world.bob)
    alice, admin = actor_of(world.alice), actor_of(world.admin)
    writer = actor_of(world.alice, scopes=frozenset({Scope.WRITE}), via="key")

    async def listed(actor: Actor, **filters: Any) -> set[str]:
        async with world.database.read() as session:
            page = await world.pods.list_pods(session, actor=actor, filters=PodFilters(**filters))
        return {view.pod.name for view in page.items}

    assert await listed(alice) == {"mine"}
    assert await listed(alice, name="theirs") == set()
    assert await listed(admin) == set()
    assert await listed(admin, everybody=True) == {"mine", "theirs"}
    assert await listed(admin, owner_id=world.bob.id) == {"theirs"}
    for filters, error in (({"everybody": True}, ForbiddenError), ({"owner_id": world.bob.id}, NotFoundError)):
        with pytest.raises(error):
            await listed(alice, **filters)
    assert (await world.show("mine", alice)).id == mine.id
    for pod, actor in ((theirs.id, alice), ("theirs", alice), ("theirs", admin)):
        with pytest.raises(NotFoundError):
            await world.show(pod, actor)
    with pytest.raises(ForbiddenError):
        await listed(writer)
    with pytest.raises(ForbiddenError):
        await world.show(mine.id, writer)


async def test_logs_are_found_for_a_run_that_was(world: World):
    pod = await world.launch()
    alice = actor_of(world.alice)

    async with world.database.read() as session:
        assert await world.pods.log_source(session, pod.id, actor=alice) is None
    await world.open(pod)
    async with world.database.read() as session:
        found = await world.pods.log_source(session, pod.id, actor=alice)
        assert found is not None
        assert (found[0].id, found[1].pod, found[1].incarnation) == (RUNTIME, pod.id, 1)
        with pytest.raises(NotFoundError):
            await world.pods.log_source(session, pod.id, actor=alice, incarnation=2)
        with pytest.raises(NotFoundError):
            await world.pods.log_source(session, pod.id, actor=actor_of(world.bob))


async def test_devices_given_to_a_run_are_in_its_workload(world: World):
    from_types = Capacity(99, 10**12, 10**13, devices=(device("a"), device("b"), device("c")))
    world.capacities = {RUNTIME: from_types}
    first = await world.launch("first", gpu_type="rtx-4090", gpu_count=2)
    second = await world.launch("second", gpu_type="rtx-4090", gpu_count=2)

    await world.open(first)
    await world.try_open(await world.claim_one(second))

    async with world.database.read() as session:
        workload = await world.pods.workload(session, first.id, 1)
    assert workload.resources.devices == ("a", "b")
    shown = (await world.show(second.id)).shown
    assert (shown.status, shown.reason) == (Status.WAITING, Reason.NO_GPU)


def device(name: str) -> Any:
    return Device(name, "NVIDIA GeForce RTX 4090")
