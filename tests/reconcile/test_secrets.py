"""What the loop gives a pod that names secrets, and that it does not start one without them."""

from neuropod.kit.secrets import Secret
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.secrets.service import UserSecrets
from neuropod.words import Reason, Status
from reconcile.plant import Plant, Server

VALUE = "hf_a-value-that-nobody-is-shown"


async def _set(plant: Plant, value: str) -> None:
    secrets = UserSecrets(plant.settings, plant.box, plant.clock)
    async with plant.database.write() as session:
        await secrets.set_secret(session, "HF_TOKEN", Secret(value), actor=plant.actor)


async def _forget(plant: Plant) -> None:
    secrets = UserSecrets(plant.settings, plant.box, plant.clock)
    async with plant.database.write() as session:
        await secrets.delete_secret(session, "HF_TOKEN", actor=plant.actor, force=True)


async def _launch(plant: Plant, server: Server, name: str = "lab") -> None:
    request = LaunchRequest(name=name, image="plain", volume=None, env_secrets={"TOKEN": "HF_TOKEN"})
    await plant.ask(server.pods.launch_pod, request)


def _given(plant: Plant) -> list[str]:
    return [one.workload.env["TOKEN"].reveal() for one in plant.world.standing.values()]


async def test_each_start_is_given_the_value_of_then(plant: Plant, server: Server):
    await _set(plant, VALUE)
    await _launch(plant, server)

    await server.turn()
    first = _given(plant)
    await _set(plant, "a newer value")
    await plant.ask(server.pods.restart_pod, "lab")
    for _ in range(10):
        await server.turn()
        await plant.clock.advance(1)

    assert first == [VALUE]
    assert _given(plant) == ["a newer value"]


async def test_a_pod_is_not_started_without_its_secret_until_it_is_there_and_asked_for(plant: Plant, server: Server):
    await _set(plant, VALUE)
    await _launch(plant, server)
    await plant.launch(server, "other")
    await _forget(plant)

    await server.turn()
    await plant.clock.advance(3600)
    await server.turn()
    shown = (await plant.show(server)).shown
    stood = len(plant.world.standing)
    await _set(plant, VALUE)
    await plant.ask(server.pods.start_pod, "lab")
    await server.turn()

    assert (shown.status, shown.reason) == (Status.FAILED, Reason.SECRET_MISSING)
    assert shown.message.startswith("It was not started: there is no secret HF_TOKEN.")
    assert stood == 1  # the other one, which names none
    assert await plant.status(server) is Status.RUNNING
    assert VALUE in [
        one.workload.env["TOKEN"].reveal() for one in plant.world.standing.values() if "TOKEN" in one.workload.env
    ]
