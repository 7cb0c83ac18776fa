"""A quote tells what a launch would meet, writes nothing, and a launch right after it meets that."""

from dataclasses import replace
from typing import Any

from sqlalchemy import func, select

from neuropod.db.record import Record
from neuropod.runtimes.contract import Device, RuntimeUnavailableError
from support.api import ApiWorld

URL = "/api/v1/pods/quote"
PLAIN = {"name": "lab", "image": "plain", "volume": None}
GPU = PLAIN | {"gpu_type": "rtx-4090"}


def set_gpus(world: ApiWorld, number: int) -> None:
    devices = tuple(Device(f"GPU-{index}", "NVIDIA GeForce RTX 4090") for index in range(number))
    world.fake.capacity = replace(world.fake.capacity, devices=devices)


async def launch(world: ApiWorld, client: Any, name: str, **values: Any) -> dict[str, Any]:
    pod = (await client.post("/api/v1/pods", json=GPU | {"name": name} | values)).json()
    await world.run(pod["id"])
    return pod


async def rows(world: ApiWorld) -> dict[str, int]:
    async with world.database.read() as session:
        return {
            table.name: await session.scalar(select(func.count()).select_from(table)) or 0
            for table in Record.metadata.sorted_tables
        }


async def test_a_quote_names_every_part_of_the_price_and_the_launch_accepts_it(world: ApiWorld):
    owner = await world.browser("owner")
    set_gpus(world, 2)
    body = {"name": "lab", "template": "jupyterlab", "gpu_type": "rtx-4090", "gpu_count": 2, "container_disk_gb": 20,
            "volume": {"name": "data", "size_gb": 30}}  # fmt: skip

    quote = (await owner.post(URL, json=body)).json()
    pod = (await owner.post("/api/v1/pods", json=body)).json()

    prices = {part: price["per_hour"] for part, price in quote["prices"].items()}
    assert prices == {"gpu_type": "5.00", "container_disk": "0.20", "volume": "0.30", "pod": "5.20", "total": "5.50"}
    assert pod["price"] == quote["prices"]["pod"]
    assert (quote["launchable"], quote["fits"], quote["reason"], quote["place"]) == (True, True, None, None)
    assert (quote["gpus"], quote["cpu_cores"], quote["memory_gb"], quote["volume_is_new"]) == (2, 16, 96, True)
    assert quote["limits"] == {"pods": 0, "pods_most": 20}


async def test_a_quote_writes_nothing(world: ApiWorld):
    owner = await world.browser("owner")
    before = await rows(world)
    written = world.database.write_transactions

    answer = await owner.post(URL, json={"name": "lab", "template": "jupyterlab"})

    assert answer.status_code == 200
    assert world.database.write_transactions == written
    assert await rows(world) == before


async def test_when_none_is_free_it_tells_the_place_and_who_holds_them_to_those_who_may_know(world: ApiWorld):
    owner, outsider, admin = [await world.browser(name) for name in ("owner", "outsider", "admin")]
    set_gpus(world, 2)
    await launch(world, owner, "mine")
    await launch(world, outsider, "theirs")

    for_owner = (await owner.post(URL, json=GPU)).json()
    for_admin = (await admin.post(URL, json=GPU)).json()

    assert (for_owner["fits"], for_owner["reason"], for_owner["place"], for_owner["launchable"]) == (
        False, "no_gpu", 1, True,
    )  # fmt: skip
    assert for_owner["holders"] == [
        {"gpus": 1, "pod": "mine", "owner": "owner@example.org"}, {"gpus": 1, "pod": None, "owner": None},
    ]  # fmt: skip
    assert [holder["pod"] for holder in for_admin["holders"]] == ["mine", "theirs"]


async def test_a_pod_that_waits_tells_the_same_and_a_quote_stands_behind_it(world: ApiWorld):
    owner, outsider, admin = [await world.browser(name) for name in ("owner", "outsider", "admin")]
    set_gpus(world, 1)
    await launch(world, outsider, "theirs")
    waiting = (await owner.post("/api/v1/pods", json=GPU)).json()
    await world.let_wait(waiting["id"])

    shown = (await owner.get("/api/v1/pods/lab")).json()
    listed = (await admin.get("/api/v1/pods?everybody=true")).json()["items"]
    quote = (await outsider.post(URL, json=GPU)).json()

    assert (shown["status"], shown["reason"], shown["place"]) == ("waiting", "no_gpu", 1)
    assert shown["holders"] == [{"gpus": 1, "pod": None, "owner": None}]
    assert [pod["holders"] for pod in listed if pod["name"] == "lab"] == [
        [{"gpus": 1, "pod": "theirs", "owner": "outsider@example.org"}]
    ]
    assert quote["place"] == 2
    (rtx,) = [one for one in (await owner.get("/api/v1/gpu-types")).json()["items"] if one["name"] == "rtx-4090"]
    assert (rtx["free"], rtx["total"], rtx["waiting"]) == (0, 1, 1)


async def test_more_than_the_machine_has_is_said(world: ApiWorld):
    owner = await world.browser("owner")
    set_gpus(world, 1)

    quote = (await owner.post(URL, json=GPU | {"gpu_count": 2})).json()

    assert (quote["fits"], quote["ever_fits"]) == (False, False)
    assert "does not have 2 rtx-4090" in quote["message"]


async def test_what_stands_against_a_launch_is_told_with_the_price(world: ApiWorld):
    owner = await world.browser("owner")
    for number in range(20):
        await owner.post("/api/v1/pods", json=PLAIN | {"name": f"p{number}"})

    quote = await owner.post(URL, json=PLAIN | {"name": "p1"})
    refused = await owner.post("/api/v1/pods", json=PLAIN | {"name": "p1"})

    assert quote.status_code == 200
    assert [one["code"] for one in quote.json()["obstacles"]] == ["too_many_pods", "name_taken"]
    assert (quote.json()["launchable"], quote.json()["limits"]) == (False, {"pods": 20, "pods_most": 20})
    assert quote.json()["prices"]["total"]["per_hour"] == "0.40"
    assert refused.json()["code"] == "too_many_pods"


async def test_wrong_fields_are_those_of_a_launch(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    body = {"name": "Lab!", "image": "plain", "gpu_type": "none", "gpu_count": "many", "container_disk_gb": 999, "x": 1}

    quoted, launched = [(await owner.post(url, json=body)).json() for url in (URL, "/api/v1/pods")]

    assert quoted["fields"] == launched["fields"]
    assert {wrong["field"] for wrong in quoted["fields"]} >= {"name", "gpu_type", "gpu_count", "container_disk_gb", "x"}


async def test_a_runtime_without_an_answer_is_no_reason_to_fail(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")

    async def silent(verb: str) -> None:
        raise RuntimeUnavailableError(verb)

    sqlite_world.fake.before = silent
    quote = (await owner.post(URL, json=PLAIN)).json()

    assert (quote["fits"], quote["reason"], quote["launchable"]) == (False, "runtime_unreachable", True)


async def test_an_administrator_quotes_for_a_client(sqlite_world: ApiWorld):
    admin, owner = await sqlite_world.browser("admin"), await sqlite_world.browser("owner")
    await owner.post("/api/v1/pods", json=PLAIN)

    quote = (await admin.post(URL, json=PLAIN | {"owner": "owner@example.org"})).json()

    assert [one["code"] for one in quote["obstacles"]] == ["name_taken"]
    assert quote["limits"] == {"pods": 1, "pods_most": 20}
