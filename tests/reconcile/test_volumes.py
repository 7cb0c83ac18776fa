"""Volumes from wish to fact: deleted only when nobody attaches them, removed by the loop alone, full ones told."""

from typing import Any

import pytest

from neuropod.accounts.records import UserRow
from neuropod.ids import RuntimeId
from neuropod.kit.errors import ConflictError, InvalidInputError, NotFoundError
from neuropod.pods.attachments.service import Volumes
from neuropod.pods.launch import LaunchRequest, VolumeRequest
from neuropod.reconcile.volumes import VolumesLoop
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.volumes.records import VolumeRow
from neuropod.words import VolumesAtEnd
from reconcile.plant import Plant, Server
from support.rows import user_row


def _volumes(plant: Plant, server: Server) -> Volumes:
    return Volumes(plant.settings, plant.clock, {server.runtime.id: server.runtime})


def _loop(plant: Plant, server: Server) -> VolumesLoop:
    return VolumesLoop(server.loop._world, _volumes(plant, server))


async def _launch(plant: Plant, server: Server, name: str = "lab", volume: str = "data") -> None:
    request = LaunchRequest(name=name, image="plain", volume=VolumeRequest(name=volume, size_gb=None))
    await plant.ask(server.pods.launch_pod, request)
    await server.turn()


async def _do(plant: Plant, verb: Any, *args: object, **values: object) -> Any:
    async with plant.database.write() as session:
        return await verb(session, *args, actor=plant.actor, **values)


async def _gone(plant: Plant, server: Server, name: str = "lab") -> None:
    await plant.ask(server.pods.delete_pod, name)
    await server.turn()
    await plant.clock.advance(60)
    await server.turn()


async def _row(plant: Plant, volume_id: str) -> VolumeRow:
    async with plant.database.read() as session:
        row = await session.get(VolumeRow, volume_id)
    assert row is not None
    return row


async def test_a_volume_outlives_its_pods_and_is_deleted_only_when_none_attaches_it(plant: Plant, server: Server):
    volumes = _volumes(plant, server)
    await _launch(plant, server, "one")
    await _launch(plant, server, "two")

    with pytest.raises(ConflictError, match="pods one, two") as refused:
        await _do(plant, volumes.delete_volume, "data")
    await _gone(plant, server, "one")
    await _gone(plant, server, "two")
    kept = len(plant.world.volumes)
    await _do(plant, volumes.delete_volume, "data")

    assert refused.value.code == "volume_attached"
    assert kept == 1
    with pytest.raises(NotFoundError):
        await _do(plant, volumes.show_volume, "data")


async def test_the_data_of_a_deleted_volume_go_and_no_others(plant: Plant, server: Server):
    volumes, loop = _volumes(plant, server), _loop(plant, server)
    await _launch(plant, server, "one", "data")
    await _launch(plant, server, "two", "other")
    plant.world.volumes["vol_of_nobody"] = next(iter(plant.world.volumes.values()))  # type: ignore[index]
    await _gone(plant, server, "one")
    view = await _do(plant, volumes.show_volume, "data")
    await _do(plant, volumes.delete_volume, "data")
    before = set(plant.world.volumes)

    await loop.turn()

    assert before - set(plant.world.volumes) == {view.id}
    assert (await _row(plant, view.id)).removed_at == plant.clock.now()


async def test_a_removal_that_was_cut_short_is_done_again_by_the_next_server(plant: Plant, server: Server):
    volumes = _volumes(plant, server)
    await _launch(plant, server)
    await _gone(plant, server)
    view = await _do(plant, volumes.show_volume, "data")
    await _do(plant, volumes.delete_volume, "data")

    async def killed(verb: str) -> None:
        if verb == "remove_volume":
            raise SystemExit

    plant.world.after = killed
    with pytest.raises(SystemExit):
        await _loop(plant, server).turn()
    plant.world.after = None
    half = (await _row(plant, view.id)).removed_at
    await _loop(plant, server).turn()

    assert half is None
    assert (await _row(plant, view.id)).removed_at is not None


async def test_a_runtime_that_does_not_answer_is_asked_again_soon(plant: Plant, server: Server):
    volumes, loop = _volumes(plant, server), _loop(plant, server)
    await _launch(plant, server)
    await _gone(plant, server)
    await _do(plant, volumes.delete_volume, "data")

    async def away(verb: str) -> None:
        if verb == "remove_volume":
            raise RuntimeUnavailableError("away")

    plant.world.before = away
    turn = await loop.turn()
    plant.world.before = None
    await loop.turn()

    assert turn.report["to_remove"] == 1
    assert turn.again_in_seconds <= 10
    assert plant.world.volumes == {}


async def test_a_name_is_free_at_once_after_a_deletion(plant: Plant, server: Server):
    volumes = _volumes(plant, server)
    first = await _do(plant, volumes.create_volume, "data", size_gb=20)

    with pytest.raises(ConflictError) as taken:
        await _do(plant, volumes.create_volume, "data", size_gb=20)
    await _do(plant, volumes.delete_volume, "data")
    second = await _do(plant, volumes.create_volume, "data", size_gb=30)

    assert taken.value.code == "name_taken"
    assert first.id != second.id
    assert second.row.size_gb == 30


async def test_all_that_is_wrong_with_a_new_volume_is_said_at_once(plant: Plant, server: Server):
    with pytest.raises(InvalidInputError) as wrong:
        await _do(plant, _volumes(plant, server).create_volume, "My Data", size_gb=1000)

    assert {(error.field, error.code) for error in wrong.value.fields} == {("name", "pattern"), ("size_gb", "range")}


async def test_one_person_has_no_more_volumes_than_the_setting_says(plant: Plant, server: Server):
    volumes = _volumes(plant, server)
    for number in range(plant.settings.limits.volumes_per_user):
        await _do(plant, volumes.create_volume, f"data{number}", size_gb=1)

    with pytest.raises(ConflictError) as refused:
        await _do(plant, volumes.create_volume, "more", size_gb=1)
    with pytest.raises(ConflictError) as also:
        await _launch(plant, server, "lab", "more")

    assert refused.value.code == also.value.code == "too_many_volumes"


async def test_a_pods_status_says_that_its_volume_is_full_until_it_is_not(plant: Plant, server: Server):
    loop = _loop(plant, server)
    await _launch(plant, server)
    (volume,) = plant.world.volumes.values()
    quiet = (await plant.show(server)).shown.message

    volume.used_bytes = volume.size_bytes
    await loop.turn()
    full = (await plant.show(server)).shown.message
    volume.used_bytes = 0
    await plant.clock.advance(plant.settings.reconcile.look_seconds)
    await loop.turn()

    assert quiet == "Running."
    assert "volume data is full (10 GB)" in full
    assert (await plant.show(server)).shown.message == quiet


async def test_a_look_writes_nothing_while_nothing_changes(plant: Plant, server: Server):
    loop = _loop(plant, server)
    await _launch(plant, server)
    await loop.turn()
    before = plant.database.write_transactions

    for _ in range(5):
        await plant.clock.advance(plant.settings.reconcile.look_seconds)
        await loop.turn()

    assert plant.database.write_transactions == before


@pytest.mark.parametrize("at_end", VolumesAtEnd)
async def test_volumes_go_with_their_deleted_owner_only_when_that_was_said(
    plant: Plant, server: Server, at_end: VolumesAtEnd
):
    user = user_row()
    volume = VolumeRow(
        id="vol_theirs", owner_id=user.id, name="data", size_gb=1, created_at=plant.clock.now(),
        runtime_id=RuntimeId(server.runtime.id),
    )  # fmt: skip
    async with plant.database.write() as session:
        session.add_all([user, volume])
    async with plant.database.write() as session:
        row = await session.get(UserRow, user.id)
        assert row is not None
        row.deleted_at, row.volumes_at_end = plant.clock.now(), at_end

    await _loop(plant, server).turn()

    assert ((await _row(plant, "vol_theirs")).removed_at is not None) is (at_end is VolumesAtEnd.DELETE)
