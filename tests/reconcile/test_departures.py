"""A deleted user: pods go, volumes stay or go as was said, and only then the user is written down as gone."""

import pytest
from sqlalchemy import select

from neuropod.accounts.access import MACHINE, SYSTEM
from neuropod.accounts.records import UserRow
from neuropod.pods.attachments.service import Volumes
from neuropod.pods.launch import LaunchRequest, VolumeRequest
from neuropod.pods.people import Owners
from neuropod.reconcile.volumes import VolumesLoop
from neuropod.volumes.records import VolumeRow
from neuropod.words import Role, UserStatus, VolumesAtEnd
from reconcile.plant import Plant, Server


async def _user(plant: Plant) -> UserRow:
    async with plant.database.read() as session:
        return (await session.scalars(select(UserRow).where(UserRow.id == plant.actor.user_id))).one()


async def _volumes(plant: Plant) -> list[VolumeRow]:
    async with plant.database.read() as session:
        return list(await session.scalars(select(VolumeRow).where(VolumeRow.deleted_at.is_(None))))


@pytest.mark.parametrize("volumes", VolumesAtEnd)
async def test_a_user_is_gone_when_nothing_is_left_but_what_was_to_be_kept(
    plant: Plant, server: Server, volumes: VolumesAtEnd
):
    request = LaunchRequest(name="lab", image="plain", volume=VolumeRequest())
    await plant.ask(server.pods.launch_pod, request)
    await server.turn()
    disks = VolumesLoop(server.loop._world, Volumes(plant.settings, plant.clock, {server.runtime.id: server.runtime}))
    async with plant.database.write() as session:
        await plant.accounts.create_user(session, email="root@example.org", role=Role.ADMIN, actor=MACHINE)
        user_id = plant.actor.user_id or ""
        await Owners(plant.accounts.people, server.pods).delete_user(session, user_id, volumes=volumes, actor=MACHINE)
    stands = plant.running()

    await server.resync.turn()
    before = (await _user(plant)).status
    for _ in range(4):
        await server.turn()
        await plant.clock.advance(plant.settings.reconcile.look_seconds + 1)
        await disks.turn()
        await server.resync.turn()

    user = await _user(plant)
    assert len(stands) == 1
    assert plant.running() == []
    assert (before, user.status) == (UserStatus.DELETING, UserStatus.DELETED)
    assert user.email  # its name stays in the history
    assert [row.name for row in await _volumes(plant)] == (["workspace"] if volumes is VolumesAtEnd.KEEP else [])


async def test_a_suspended_users_pods_end_on_the_runtime_and_say_why(plant: Plant, server: Server):
    await plant.launch(server)
    await server.turn()
    async with plant.database.write() as session:
        user_id = plant.actor.user_id or ""
        await Owners(plant.accounts.people, server.pods).suspend_user(session, user_id, actor=SYSTEM)

    for _ in range(3):
        await server.turn()
        await plant.clock.advance(1)

    shown = (await plant.show(server)).shown
    assert plant.running() == []
    assert (shown.status, shown.reason) == ("stopped", "suspended")
