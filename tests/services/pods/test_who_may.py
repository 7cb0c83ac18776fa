"""Who may do what with a pod, and who sees which: owner, others, administrators, keys by their scopes."""

from typing import Any

import pytest

from neuropod.accounts.access import Actor
from neuropod.kit.errors import ForbiddenError, NotFoundError
from neuropod.pods.launch import EditRequest, PortRequest
from neuropod.pods.views import PodFilters
from neuropod.words import Scope
from support.pod_world import RUNTIME, World, actor_of

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
        await world.act(verb, pod, *MATRIX[verb], actor=actor_of(world.bob))
    with pytest.raises(ForbiddenError) as caught:
        await world.act(verb, pod, *MATRIX[verb], actor=actor_of(world.alice, scopes=reader, via="key"))
    assert caught.value.code == "scope_missing"
    demoted = actor_of(world.admin, scopes=frozenset({Scope.READ, Scope.WRITE}), via="key")
    with pytest.raises(NotFoundError):
        await world.act(verb, pod, *MATRIX[verb], actor=demoted)
    assert (await world.show(pod.id)).pod.generation == 1

    await world.act(verb, pod, *MATRIX[verb])


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
