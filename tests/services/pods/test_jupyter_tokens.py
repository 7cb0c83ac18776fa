"""The token of a pod's Jupyter: whose it is, how long it stays, and that it opens in its own row alone."""

import pytest

from neuropod.accounts.access import Actor
from neuropod.kit.errors import ConflictError, ForbiddenError, NotFoundError
from neuropod.kit.secrets import Secret
from neuropod.pods.lifecycle import Close
from neuropod.pods.views import PodView
from neuropod.words import JupyterMode, Reason, Scope
from support.alone import close_incarnation
from support.pod_world import World, actor_of
from support.workloads import workload_of


async def _link(world: World, pod: PodView, port: int = 8888, actor: Actor | None = None) -> str:
    async with world.database.read() as session:
        link = await world.pods.port_link(session, pod.id, port, actor=actor or actor_of(world.alice))
    assert link.host == f"{pod.pod.name}-{pod.owner.hash}-{port}.neuropod-pods.localhost"
    return link.path


async def test_the_platforms_token_is_kept_over_stop_and_start_and_is_what_the_pod_gets(world: World):
    pod = await world.launch(image=None, template="jupyterlab")
    path = await _link(world, pod)

    await world.act("stop_pod", pod)
    await world.act("start_pod", pod)
    workload = await workload_of(world.database, world.pods, pod.id)

    assert await _link(world, pod) == path
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
    pod = await world.run(image=None, template="jupyterlab")
    before = await _link(world, pod)

    with pytest.raises(ConflictError) as caught:
        await world.act("rotate_jupyter_token", pod)
    rotated = await world.act("rotate_jupyter_token", pod, restart=True)

    assert caught.value.code == "restart_required"
    assert rotated.pod.run_revision == 2
    assert await _link(world, pod) != before


async def test_a_token_read_from_a_log_belongs_to_its_run(world: World):
    pod = await world.run(jupyter=JupyterMode.FROM_LOG)
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
    with pytest.raises(Exception, match="was not written there"):
        await workload_of(world.database, world.pods, other.id)
