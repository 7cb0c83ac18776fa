"""The machine's own acts over its socket."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from neuropod.api.machine import build_machine_app
from support.api import POD, ApiWorld


def _machine(world: ApiWorld, end_all: Callable[[], Awaitable[int]] | None = None) -> httpx.AsyncClient:
    async def nothing() -> int:
        return 0

    transport = httpx.ASGITransport(build_machine_app(world.parts, end_all or nothing))
    return httpx.AsyncClient(transport=transport, base_url="http://machine")


async def test_a_sign_in_link_is_the_first_administrators_and_works_once(world: ApiWorld):
    made = (await _machine(world).post("/machine/sign-in-link", json={})).json()

    url, _, token = made["url"].partition("#")
    page = world.http(origin=world.console)
    first = await page.post("/sign-in/link", data={"token": token})
    second = await page.post("/sign-in/link", data={"token": token})
    assert (made["email"], url) == ("admin@example.org", f"{world.console}/sign-in/link")
    assert (first.status_code, second.status_code) == (303, 401)


async def test_a_newer_link_ends_the_older(world: ApiWorld):
    machine, page = _machine(world), world.http(origin=world.console)

    older, newer = [
        (await machine.post("/machine/sign-in-link", json={"email": "Owner@example.org"}))
        .json()["url"]
        .partition("#")[2]
        for _ in range(2)
    ]

    assert (await page.post("/sign-in/link", data={"token": older})).status_code == 401
    assert (await page.post("/sign-in/link", data={"token": newer})).status_code == 303


async def test_a_person_is_made_with_a_first_link(world: ApiWorld):
    machine = _machine(world)

    made = await machine.post("/machine/users", json={"email": " New@Example.org", "role": "client"})
    again = await machine.post("/machine/users", json={"email": "new@example.org"})
    wrong = await machine.post("/machine/users", json={"email": "nobody"})
    page = world.http(origin=world.console)
    signed_in = await page.post("/sign-in/link", data={"token": made.json()["link"]["url"].partition("#")[2]})

    assert (made.status_code, made.json()["email"]) == (201, "new@example.org")
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    assert wrong.json()["fields"][0]["field"] == "email"
    assert signed_in.headers["location"] == "/password"


async def test_nobody_unknown_gets_a_link(world: ApiWorld):
    answer = await _machine(world).post("/machine/sign-in-link", json={"email": "who@example.org"})

    assert answer.status_code == 404


@pytest.mark.parametrize(("stop_pods", "wants"), [(True, ["stopped", "stopped"]), (False, ["running", "running"])])
async def test_down_ends_the_workloads_and_stops_pods_only_when_asked(
    world: ApiWorld, stop_pods: bool, wants: list[str]
):
    owner, admin = await world.browser("owner"), await world.browser("admin")
    await owner.post("/api/v1/pods", json=POD)
    await admin.post("/api/v1/pods", json=POD)
    ended = []

    async def end_all() -> int:
        ended.append(True)
        return 7

    answer = await _machine(world, end_all).post("/machine/down", json={"stop_pods": stop_pods})

    pods = (await admin.get("/api/v1/pods", params={"everybody": True})).json()["items"]
    assert answer.json() == {"workloads_ended": 7, "pods_stopped": 2 if stop_pods else 0}
    assert ended == [True]
    assert [pod["want"] for pod in pods] == wants


async def test_the_machine_sees_the_system_as_operators_do(world: ApiWorld):
    answer = await _machine(world).get("/machine/system")

    assert answer.json()["runtimes"][0]["mode"] == "fake"


async def test_the_machines_acts_are_not_in_the_api(world: ApiWorld):
    admin = await world.browser("admin")

    answers = [await admin.post(path, json={}) for path in ("/machine/sign-in-link", "/machine/down", "/machine/users")]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
