"""Launching: what is filled in, what is refused and all at once, what is written, who may."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, update

from neuropod.accounts.access import MACHINE, SYSTEM
from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.audit import AuditRow
from neuropod.db.engine import Database, Topic
from neuropod.db.events import EventRow
from neuropod.ids import RuntimeId, UserId
from neuropod.kit.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NeuropodError,
    NotFoundError,
)
from neuropod.kit.secrets import Secret, SecretBox
from neuropod.pods.launch import EditRequest, LaunchRequest, PortRequest, VolumeRequest
from neuropod.pods.records import PodRow
from neuropod.pods.service import Pods
from neuropod.pods.views import PodView
from neuropod.runtimes.contract import Capability, Capacity
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import Settings
from neuropod.templates.records import TemplateRow
from neuropod.volumes.records import VolumeRow
from neuropod.volumes.service import grow_volume
from neuropod.words import Access, JupyterMode, Reason, Role, Scope, Status, Want
from support.pod_world import INSTALLATION, RUNTIME, StandIn, World, actor_of, make_world
from support.rows import NOW, user_row


@pytest.fixture
async def world(database: Database) -> World:
    return await make_world(database, limits={"pods_per_user": 5, "ports_per_pod": 4})


async def _volumes(world: World) -> list[VolumeRow]:
    async with world.database.read() as session:
        return list(await session.scalars(select(VolumeRow).order_by(VolumeRow.name)))


async def _refused(world: World, **values: Any) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        await world.launch(**values)
    return caught.value


def codes(error: NeuropodError) -> dict[str, str]:
    return {field.field: field.code for field in error.fields}


async def test_a_template_fills_in_what_is_not_said(world: World):
    request = LaunchRequest(name="lab", template="jupyterlab")
    topics: set[Topic] = set()
    world.database.listen(topics.update)

    async with world.database.write() as session:
        pod = await world.pods.launch_pod(session, request, actor=actor_of(world.alice))

    row = pod.pod
    assert (row.want, row.gpu_type, row.gpu_count, row.cpu_cores, row.memory_gb) == (Want.RUNNING, "cpu", 1, 2, 4)
    assert (row.container_disk_gb, row.price_micros_per_hour, row.runtime_id) == (10, 400_000, RUNTIME)
    assert (row.owner_id, row.created_by, row.jupyter) == (world.alice.id, world.alice.id, JupyterMode.PLATFORM)
    assert [(port.port, port.name, port.access) for port in pod.ports] == [(8888, "Jupyter Lab", Access.PRIVATE)]
    assert pod.ports[0].host == f"lab-{world.alice.hash}-8888.neuropod-pods.localhost"
    assert pod.volume is not None
    assert (pod.volume.name, pod.volume.size_gb, pod.volume.runtime_id) == ("workspace", 10, RUNTIME)
    assert (pod.shown.status, pod.shown.reason) == (Status.STARTING, Reason.STARTING)
    assert {Topic.PODS, Topic.ROUTES, Topic.EVENTS} <= topics


async def test_an_act_and_an_event_are_written_with_it_and_hold_no_secret(world: World):
    pod = await world.launch(env={"PASSWORD": Secret("hunter2")}, jupyter=JupyterMode.PLATFORM)

    async with world.database.read() as session:
        act = (await session.scalars(select(AuditRow))).one()
        told = (await session.scalars(select(EventRow))).one()
        row = (await session.scalars(select(PodRow))).one()
        link = await world.pods.port_link(session, pod.id, 8888, actor=actor_of(world.alice))
    assert (act.verb, act.subject, act.actor_id, act.owner_id) == (
        "launch_pod",
        f"pod/{pod.id}",
        world.alice.id,
        world.alice.id,
    )
    assert (told.kind, told.pod_id, told.owner_id) == ("pod.launched", pod.id, world.alice.id)
    token = link.path.partition("token=")[2]
    for value in ("hunter2", token):
        stored = repr([act.data, told.data, told.message, row.template, row.env_sealed, row.jupyter_token_sealed])
        assert value not in stored


async def test_all_wrong_fields_are_told_at_once(world: World):
    error = await _refused(
        world,
        name="Lab",
        image=None,
        template="nonsense",
        gpu_type="rtx-9999",
        gpu_count=0,
        container_disk_gb=101,
        volume=VolumeRequest(size_gb=151),
        ports=(PortRequest(0), PortRequest(80), PortRequest(80)),
        env={"NVIDIA_VISIBLE_DEVICES": Secret("all"), "1A": Secret("")},
        command=(),
    )

    assert codes(error) == {
        "name": "pattern",
        "template": "unknown",
        "gpu_type": "unknown",
        "gpu_count": "range",
        "container_disk_gb": "range",
        "volume.size_gb": "range",
        "ports.0.port": "range",
        "ports.2.port": "twice",
        "env.NVIDIA_VISIBLE_DEVICES": "reserved",
        "env.1A": "pattern",
        "command": "empty",
    }
    assert await _volumes(world) == []
    assert await world.claim() == []


@pytest.mark.parametrize("values", [{"image": None}, {"template": "jupyterlab"}])
async def test_either_a_template_or_an_image(world: World, values: dict[str, Any]):
    error = await _refused(world, **values)

    assert codes(error) == {"template": "one_of", "image": "one_of"}


async def test_a_type_that_is_not_on_offer_or_counts_wrongly_is_refused(world: World):
    async with world.database.write() as session:
        (await session.get_one(GpuTypeRow, "rtx-4050")).enabled = False

    assert codes(await _refused(world, gpu_type="rtx-4050")) == {"gpu_type": "unknown"}
    assert codes(await _refused(world, gpu_count=2)) == {"gpu_count": "range"}


async def test_a_type_counts_with_its_size_and_price(world: World):
    pod = (await world.launch(gpu_type="rtx-4090", gpu_count=2)).pod

    assert (pod.gpus, pod.cpu_cores, pod.memory_gb, pod.price_micros_per_hour) == (2, 16, 96, 5_100_000)


async def test_a_taken_name_is_a_conflict_for_the_same_owner_alone(world: World):
    await world.launch("lab")

    with pytest.raises(ConflictError) as caught:
        await world.launch("lab")

    assert caught.value.code == "name_taken"
    assert (await world.launch("lab", owner=world.bob)).pod.name == "lab"


# Runtimes


async def test_an_image_without_a_runtime_for_images_says_so(database: Database):
    recipes_only = StandIn(capabilities=frozenset({Capability.RECIPES, Capability.TENANT_ISOLATION}))
    world = await make_world(database, runtimes={RUNTIME: recipes_only})

    plain = await _refused(world)
    from_template = await _refused(world, image=None, template="ubuntu")
    nothing = await make_none(database)
    none_at_all = await _refused(nothing, image=None, template="jupyterlab")

    assert (plain.code, codes(plain)) == ("no_runtime", {"image": "no_runtime"})
    assert (from_template.code, codes(from_template)) == ("no_runtime", {"template": "no_runtime"})
    assert none_at_all.code == "no_runtime"
    assert (await world.launch(image=None, template="jupyterlab")).runtime_id == RUNTIME


async def make_none(database: Database) -> World:
    return await make_world(database, runtimes={})


async def test_each_pod_goes_to_the_first_runtime_that_can_run_it(database: Database):
    here, cluster = RuntimeId("a:one"), RuntimeId("b:one")
    world = await make_world(
        database,
        runtimes={
            here: StandIn(here, frozenset({Capability.RECIPES, Capability.TENANT_ISOLATION})),
            cluster: StandIn(cluster, frozenset({Capability.IMAGES, Capability.TENANT_ISOLATION})),
        },
    )

    assert (await world.launch("lab", image=None, template="jupyterlab")).runtime_id == here
    assert (await world.launch("plain", image="ubuntu:24.04")).runtime_id == cluster


async def test_a_pod_follows_its_volume(database: Database):
    here, cluster = RuntimeId("a:one"), RuntimeId("b:one")
    both = frozenset({Capability.RECIPES, Capability.IMAGES, Capability.TENANT_ISOLATION})
    recipes = frozenset({Capability.RECIPES, Capability.TENANT_ISOLATION})
    world = await make_world(database, runtimes={here: StandIn(here, recipes), cluster: StandIn(cluster, both)})
    await world.launch("first", image="ubuntu", volume=VolumeRequest("data"))

    second = await world.launch("second", image=None, template="jupyterlab", volume=VolumeRequest("data"))

    assert second.runtime_id == cluster
    await world.launch("third", image=None, template="jupyterlab", volume=VolumeRequest("local"))
    error = await _refused(world, name="fourth", image="ubuntu", volume=VolumeRequest("local"))
    assert codes(error) == {"volume.name": "elsewhere"}


NEAR, LAB = RuntimeId("near:one"), RuntimeId("lab:one")
_PODS = frozenset({Capability.RECIPES, Capability.IMAGES, Capability.TENANT_ISOLATION})


async def _two_runtimes(database: Database) -> World:
    cluster = _PODS | {Capability.GPU_RESOURCES}
    return await make_world(database, runtimes={NEAR: StandIn(NEAR, _PODS), LAB: StandIn(LAB, cluster)})


async def _ask(world: World, verb: Any, *args: object) -> PodView:
    async with world.database.write() as session:
        view: PodView = await verb(session, *args, actor=actor_of(world.alice))
        return view


async def _change_type(world: World, name: str, **columns: object) -> None:
    async with world.database.write() as session:
        await session.execute(update(GpuTypeRow).where(GpuTypeRow.name == name).values(**columns))


async def test_a_pod_goes_where_its_type_is_offered(database: Database):
    world = await _two_runtimes(database)
    await _change_type(world, "cpu", runtimes=["lab"])
    await _change_type(world, "rtx-4070", model_pattern="")  # nothing finds it on a machine
    await _change_type(world, "rtx-4050", runtimes=["near"])

    launched = {name: (await world.launch(f"on-{name}", gpu_type=name)).runtime_id
                for name in ("cpu", "rtx-4070", "rtx-4050", "rtx-4090")}  # fmt: skip

    assert launched == {"cpu": LAB, "rtx-4070": LAB, "rtx-4050": NEAR, "rtx-4090": NEAR}


async def test_of_several_runtimes_a_pod_goes_to_the_one_with_room_and_waits_where_it_could_run(database: Database):
    world = await _two_runtimes(database)
    await _change_type(world, "cpu", cpu_cores=2, memory_gb=1)
    disk = 10**12
    world.capacities = {NEAR: Capacity(2, 10**12, disk), LAB: Capacity(4, 10**12, disk)}

    went = []
    for number in range(4):
        pod = await world.launch(f"pod-{number}")
        await world.try_open(await world.claim_one(pod))
        went.append(pod.runtime_id)
    large = await world.launch("large", gpu_count=1, owner=world.bob)
    world.capacities = {LAB: Capacity(4, 10**12, disk)}  # the other gives no answer
    quoted = await world.quote("quoted", owner=world.bob)

    assert went == [NEAR, LAB, LAB, NEAR]  # full, it waits at the first that could ever run it
    assert large.runtime_id == NEAR
    assert (quoted.draft.runtime_id, quoted.fit.now, quoted.fit.ever) == (LAB, False, True)


async def test_a_type_that_is_offered_nowhere_here_says_so(database: Database):
    world = await _two_runtimes(database)
    await _change_type(world, "cpu", runtimes=["far"])
    await _change_type(world, "rtx-4070", model_pattern="", gpu_resource="")

    far, nowhere = await _refused(world, gpu_type="cpu"), await _refused(world, gpu_type="rtx-4070")

    assert (far.code, codes(far)) == ("no_runtime", {"gpu_type": "no_runtime"})
    assert far.message == "GPU type 'cpu' is offered on far alone, where this pod cannot run"
    assert nowhere.message == "no runtime that could run this pod has GPUs of type 'rtx-4070'"


async def test_a_volume_of_another_runtime_than_the_types_cannot_be_attached(database: Database):
    world = await _two_runtimes(database)
    await world.launch("first", volume=VolumeRequest("data"))
    await _change_type(world, "rtx-4050", runtimes=["lab"])

    error = await _refused(world, name="second", gpu_type="rtx-4050", volume=VolumeRequest("data"))

    assert codes(error) == {"volume.name": "elsewhere"}
    assert error.message.startswith("this volume lives on near, and this pod would run on lab;")
    other = await world.launch("second", gpu_type="rtx-4050", volume=VolumeRequest("other"))
    assert other.runtime_id == LAB


async def test_an_edit_does_not_take_a_pod_elsewhere(database: Database):
    world = await _two_runtimes(database)
    await world.launch("lab", volume=VolumeRequest("data"))
    await _change_type(world, "rtx-4050", runtimes=["lab"])
    await world.launch("far", gpu_type="rtx-4050", volume=VolumeRequest("other"))

    request = EditRequest(gpu_type="rtx-4050", volume=VolumeRequest("other"), restart=True)
    with pytest.raises(InvalidInputError) as caught:
        await _ask(world, world.pods.edit_pod, "lab", request)

    assert codes(caught.value) == {"gpu_type": "no_runtime", "volume.name": "elsewhere"}


async def test_a_pod_whose_type_is_not_offered_there_any_more_does_not_start(database: Database):
    world = await _two_runtimes(database)
    await world.launch("lab")
    await _ask(world, world.pods.stop_pod, "lab")
    await _change_type(world, "cpu", runtimes=["lab"])

    with pytest.raises(ConflictError) as caught:
        await _ask(world, world.pods.start_pod, "lab")

    assert caught.value.code == "gpu_type_unavailable"


async def _lab(database: Database, *, isolates: bool = True, **settings: Any) -> World:
    abilities = {Capability.IMAGES} | ({Capability.TENANT_ISOLATION} if isolates else set())
    cluster = {"name": "lab", "kubeconfig": "/etc/lab.yaml"} | settings
    runtimes = {LAB: StandIn(LAB, frozenset(abilities))}
    return await make_world(database, runtimes=runtimes, kubernetes=[cluster], local={"accept_no_isolation": True})


async def test_clients_run_the_images_that_a_cluster_allows_and_administrators_any(database: Database):
    world = await _lab(database, images=["docker.io/library/*", "ghcr.io/lab/*"])

    error = await _refused(world, image="quay.io/mine/miner")

    assert codes(error) == {"image": "not_allowed"}
    assert (await world.launch("ok", image="ghcr.io/lab/x:1")).runtime_id == LAB
    assert (await world.launch("any", image="quay.io/mine/miner", owner=world.admin)).runtime_id == LAB
    request = EditRequest(image="quay.io/mine/miner", restart=True)
    with pytest.raises(InvalidInputError) as caught:
        await _ask(world, world.pods.edit_pod, "ok", request)
    assert codes(caught.value) == {"image": "not_allowed"}


async def test_a_pod_whose_image_is_not_on_the_list_any_more_does_not_start_for_a_client(database: Database):
    runtimes = {LAB: StandIn(LAB, _PODS)}

    def under(world: World, *images: str) -> None:
        """Go on with a server whose cluster allows these images."""
        settings = Settings(kubernetes=[{"name": "lab", "kubeconfig": "/etc/lab.yaml", "images": images}])
        box = SecretBox(SecretBox.new_key())
        world.pods = Pods(settings, box, world.clock, Runtimes.of(runtimes, {LAB: "lab"}), INSTALLATION)

    world = await make_world(database, runtimes=runtimes)
    under(world, "quay.io/*")
    await world.launch("mine", image="quay.io/mine/miner")
    await world.launch("shared", image=None, template="ubuntu")
    await _ask(world, world.pods.stop_pod, "mine")
    await _ask(world, world.pods.stop_pod, "shared")
    under(world, "ghcr.io/lab/*")

    for verb in (world.pods.start_pod, world.pods.restart_pod):
        with pytest.raises(ConflictError) as caught:
            await _ask(world, verb, "mine")
        assert caught.value.code == "image_not_allowed"
    await _ask(world, world.pods.edit_pod, "mine", EditRequest(image="ghcr.io/lab/x:1"))

    assert (await _ask(world, world.pods.start_pod, "mine")).pod.want == Want.RUNNING
    assert (await _ask(world, world.pods.start_pod, "shared")).pod.want == Want.RUNNING


async def test_what_an_administrators_template_names_everybody_may_run(database: Database):
    world = await _lab(database, images=["ghcr.io/lab/*"])

    pod = await world.launch("lab", image=None, template="ubuntu")

    assert pod.runtime_id == LAB
    with pytest.raises(InvalidInputError) as caught:
        await _ask(world, world.pods.edit_pod, "lab", EditRequest(image="ubuntu:rolling", restart=True))
    assert codes(caught.value) == {"image": "not_allowed"}


async def test_what_this_machine_accepts_holds_for_no_cluster(database: Database):
    world = await _lab(database, isolates=False)

    with pytest.raises(ForbiddenError, match="cluster lab does not keep pods apart") as caught:
        await world.launch()

    assert caught.value.code == "no_isolation"
    assert (await world.launch("lab", owner=world.admin)).runtime_id == LAB


async def test_without_isolation_only_administrators_launch_unless_a_setting_accepts_it(database: Database):
    open_runtime = {RUNTIME: StandIn(capabilities=frozenset({Capability.IMAGES}))}
    strict = await make_world(database, runtimes=open_runtime)

    with pytest.raises(ForbiddenError) as caught:
        await strict.launch()

    assert caught.value.code == "no_isolation"
    assert (await strict.launch(owner=strict.admin)).pod.name == "lab"
    lenient = await make_world(database, runtimes=open_runtime, local={"accept_no_isolation": True})
    assert (await lenient.launch()).pod.name == "lab"


# Volumes


async def test_a_volume_is_made_at_first_use_and_shared_by_later_pods(world: World):
    first = await world.launch("a", volume=VolumeRequest(size_gb=3))
    second = await world.launch("b", volume=VolumeRequest())
    third = await world.launch("c", volume=VolumeRequest(size_gb=3))

    (volume,) = await _volumes(world)
    assert (volume.name, volume.size_gb, volume.owner_id) == ("workspace", 3, world.alice.id)
    assert {pod.pod.volume_id for pod in (first, second, third)} == {volume.id}


async def test_another_size_later_says_how_a_volume_grows(world: World):
    await world.launch("a", volume=VolumeRequest(size_gb=3))

    error = await _refused(world, name="b", volume=VolumeRequest(size_gb=4))

    assert codes(error) == {"volume.size_gb": "size_differs"}
    assert "has 3 GB already" in error.message
    assert "growing the volume itself" in error.message


@pytest.mark.parametrize(("size", "good"), [(0, False), (1, True), (150, True), (151, False)])
async def test_a_volume_has_1_to_150_gb(world: World, size: int, good: bool):
    if good:
        assert (await world.launch(volume=VolumeRequest(size_gb=size))).volume is not None
    else:
        assert codes(await _refused(world, volume=VolumeRequest(size_gb=size))) == {"volume.size_gb": "range"}


async def test_two_people_have_a_workspace_each(world: World):
    await world.launch("a", volume=VolumeRequest())
    await world.launch("a", owner=world.bob, volume=VolumeRequest())

    assert {volume.owner_id for volume in await _volumes(world)} == {world.alice.id, world.bob.id}


async def test_launches_at_once_make_one_volume(world: World):
    await asyncio.gather(*(world.launch(f"p{n}", volume=VolumeRequest(size_gb=2)) for n in range(5)))

    assert len(await _volumes(world)) == 1


async def test_a_volume_grows_and_never_shrinks(world: World):
    await world.launch("a", volume=VolumeRequest(size_gb=3))
    (volume,) = await _volumes(world)

    async def grow(size_gb: int, actor: Any) -> VolumeRow:
        async with world.database.write() as session:
            return await grow_volume(session, volume.id, size_gb=size_gb, at_once=True, actor=actor, now=NOW)

    await grow(5, actor_of(world.alice))

    assert [volume.size_gb for volume in await _volumes(world)] == [5]
    for size in (4, 151):
        with pytest.raises(InvalidInputError):
            await grow(size, actor_of(world.alice))
    with pytest.raises(NotFoundError):
        await grow(9, actor_of(world.bob))
    with pytest.raises(ForbiddenError):
        await grow(9, actor_of(world.alice, scopes=frozenset({Scope.READ})))
    assert [volume.size_gb for volume in await _volumes(world)] == [5]


# Who may


@pytest.mark.parametrize("scopes", [{Scope.READ}, {Scope.ADMIN}, {Scope.PORTS}, set()])
async def test_a_key_without_write_launches_nothing(world: World, scopes: set[Scope]):
    actor = actor_of(world.admin, scopes=frozenset(scopes), via="key")

    with pytest.raises(ForbiddenError) as caught:
        async with world.database.write() as session:
            await world.pods.launch_pod(session, LaunchRequest("lab", image="x"), actor=actor)

    assert caught.value.code == "scope_missing"


async def test_only_administrators_launch_for_others(world: World):
    async def launch(actor: Any, owner: Any) -> Any:
        async with world.database.write() as session:
            request = LaunchRequest("lab", image="x", volume=None)
            return await world.pods.launch_pod(session, request, actor=actor, owner_id=UserId(owner.id))

    with pytest.raises(ForbiddenError):
        await launch(actor_of(world.bob), world.alice)
    with pytest.raises(ForbiddenError):
        await launch(actor_of(world.admin, scopes=frozenset({Scope.WRITE}), via="key"), world.alice)

    pod = await launch(actor_of(world.admin), world.alice)

    assert (pod.pod.owner_id, pod.pod.created_by) == (world.alice.id, world.admin.id)
    with pytest.raises(NotFoundError):
        await launch(MACHINE, user_row())
    with pytest.raises(ForbiddenError):
        async with world.database.write() as session:
            await world.pods.launch_pod(session, LaunchRequest("x", image="x"), actor=SYSTEM)


async def test_somebody_elses_template_is_unknown_unless_it_is_public(world: World):
    """SECURITY 30: ids of things of others open nothing."""
    async with world.database.write() as session:
        starter = (await session.scalars(select(TemplateRow).where(TemplateRow.name == "jupyterlab"))).one()
        values = {"title": "t", "description": "", "readme": "", "created_at": NOW, "updated_at": NOW}
        session.add(
            TemplateRow(
                id="tpl_bobs", name="bobs", author_id=world.bob.id, public=False, snapshot=starter.snapshot, **values
            )
        )

    error = await _refused(world, image=None, template="tpl_bobs")

    assert codes(error) == {"template": "unknown"}
    assert (await world.launch(image=None, template="tpl_bobs", owner=world.bob)).pod.template_id == "tpl_bobs"


async def test_a_suspended_user_launches_nothing(world: World):
    async with world.database.write() as session:
        user = await session.get_one(type(world.alice), world.alice.id)
        user.suspended_at = NOW

    with pytest.raises(ForbiddenError) as caught:
        await world.launch()

    assert caught.value.code == "suspended"


async def test_the_limit_counts_stopped_pods_and_not_deleted_ones(world: World):
    pods = [await world.launch(f"p{number}") for number in range(5)]
    async with world.database.write() as session:
        await world.pods.stop_pod(session, pods[0].id, actor=actor_of(world.alice))

    with pytest.raises(ConflictError) as caught:
        await world.launch("one-more")
    async with world.database.write() as session:
        await world.pods.delete_pod(session, pods[0].id, actor=actor_of(world.alice))

    assert caught.value.code == "too_many_pods"
    assert (await world.launch("one-more")).pod.name == "one-more"
    for number in range(6):
        await world.launch(f"p{number}", owner=world.admin)
    assert world.admin.role == Role.ADMIN


async def test_twenty_launches_at_once_against_a_limit_of_five_leave_five(world: World):
    """SECURITY 29."""

    async def launch(number: int) -> bool:
        try:
            await world.launch(f"p{number}")
        except ConflictError as error:
            assert error.code == "too_many_pods"
            return False
        return True

    launched = await asyncio.gather(*(launch(number) for number in range(20)))

    assert launched.count(True) == 5
    async with world.database.read() as session:
        assert len((await session.scalars(select(PodRow))).all()) == 5


async def test_twenty_launches_of_one_name_at_once_leave_one(world: World):
    async def launch() -> str:
        try:
            await world.launch("lab")
        except ConflictError as error:
            return error.code
        return "launched"

    outcomes = await asyncio.gather(*(launch() for _ in range(20)))

    assert sorted(outcomes) == ["launched"] + ["name_taken"] * 19
