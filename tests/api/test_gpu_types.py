"""The catalogue by the API: as everybody sees it, and as administrators change it."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from neuropod.catalogue.service import load_starters
from neuropod.db.audit import AuditRow
from neuropod.db.runtimes import write_names
from neuropod.ids import RuntimeId
from neuropod.runtimes.contract import Device
from support.api import ApiWorld

H100: dict[str, Any] = {
    "name": "h100", "price": {"per_hour": "3.2"}, "cpu_cores": 16, "memory_gb": 120, "model_pattern": "NVIDIA H100.*",
}  # fmt: skip
URL = "/api/v1/gpu-types"
PLAIN = {"name": "lab", "image": "plain", "volume": None}


async def types(client: Any) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in (await client.get(URL)).json()["items"]}


async def test_a_new_type_is_on_offer_with_its_gpus(world: ApiWorld):
    admin, owner = await world.browser("admin"), await world.browser("owner")
    world.fake.capacity = replace(world.fake.capacity, devices=(Device("GPU-a", "NVIDIA H100 PCIe", 80 * 2**30),))

    answer = await admin.post(URL, json=H100)

    assert answer.status_code == 201
    made = answer.json()
    assert made["price"] == {"per_hour": "3.20", "per_hour_micros": 3_200_000, "currency": "EUR"}
    assert (made["title"], made["gpus"], made["position"], made["free"], made["total"]) == ("h100", 1, 4, 1, 1)
    assert made["devices"] == [
        {"name": "GPU-a", "model": "NVIDIA H100 PCIe", "memory_bytes": 80 * 2**30, "runtime": "fake:one", "host": "",
         "trouble": None, "pod": None, "owner": None}
    ]  # fmt: skip
    assert (await types(owner))["h100"]["devices"] is None
    async with world.database.read() as session:
        (act,) = await session.scalars(select(AuditRow).where(AuditRow.subject == "gpu_type/h100"))
    assert (act.verb, act.actor_id, act.data["type"]["price"]) == ("create_gpu_type", world.person("admin").id, "3.20")


CLUSTERS: dict[str, Any] = {"gpu_resource": "nvidia.com/gpu", "node_selector": {"gpu": "h100"}, "runtimes": ["fake"]}


async def test_a_clusters_type_is_found_by_resource_and_labels(world: ApiWorld):
    admin = await world.browser("admin")
    nodes = [("node-1", "h100", 3), ("node-2", "h100", 1), ("node-3", "t4", 4)]
    devices = tuple(
        Device(f"{host}/{number}", "", host=host, resource="nvidia.com/gpu", labels={"gpu": gpu})
        for host, gpu, count in nodes
        for number in range(count)
    )
    world.fake.capacity = replace(world.fake.capacity, devices=devices)

    one = (await admin.post(URL, json=H100 | CLUSTERS | {"model_pattern": ""})).json()
    pair = (await admin.post(URL, json=H100 | CLUSTERS | {"name": "pair", "model_pattern": "", "gpus": 2})).json()

    assert (one["total"], [device["host"] for device in one["devices"]]) == (4, ["node-1"] * 3 + ["node-2"])
    assert pair["total"] == 1  # two of one pod are in one machine
    assert {name: one[name] for name in CLUSTERS} == CLUSTERS


async def test_a_type_counts_only_where_it_is_offered(world: ApiWorld):
    admin = await world.browser("admin")
    world.fake.capacity = replace(world.fake.capacity, devices=(Device("GPU-a", "RTX 4090"),))
    async with world.database.write() as session:
        await write_names(session, {RuntimeId("kubernetes:1"): "lab"}, now=world.clock.now())

    here = (await types(admin))["rtx-4090"]
    answer = await admin.patch(f"{URL}/rtx-4090", json={"runtimes": ["lab"]})

    assert (here["total"], len(here["devices"])) == (1, 1)
    assert (answer.status_code, answer.json()["total"], answer.json()["devices"]) == (200, 0, [])


async def test_what_no_cluster_takes_is_refused_by_its_field(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")

    answer = await admin.post(URL, json=H100 | {
        "gpu_resource": "gpu", "node_selector": {"a b": "c"}, "runtimes": ["fake", "nowhere"],
    })  # fmt: skip

    assert {wrong["field"]: wrong["code"] for wrong in answer.json()["fields"]} == {
        "gpu_resource": "pattern", "node_selector.a b": "pattern", "runtimes": "unknown",
    }  # fmt: skip


async def test_administrators_see_which_gpu_is_whose_and_others_do_not(world: ApiWorld):
    admin, owner = await world.browser("admin"), await world.browser("owner")
    world.fake.capacity = replace(
        world.fake.capacity, devices=(Device("GPU-a", "RTX 4090"), Device("GPU-b", "RTX 4090"))
    )
    pod = (await owner.post("/api/v1/pods", json=PLAIN | {"gpu_type": "rtx-4090"})).json()
    await world.run(pod["id"])

    for_admin, for_owner = (await types(admin))["rtx-4090"], (await types(owner))["rtx-4090"]

    assert [(one["name"], one["pod"], one["owner"]) for one in for_admin["devices"]] == [
        ("GPU-a", "lab", "owner@example.org"), ("GPU-b", None, None),
    ]  # fmt: skip
    assert (for_owner["free"], for_owner["total"], for_owner["devices"]) == (1, 2, None)


async def test_a_broken_gpu_is_neither_free_nor_counted(world: ApiWorld):
    admin = await world.browser("admin")
    world.fake.capacity = replace(
        world.fake.capacity, devices=(Device("GPU-a", "RTX 4090", trouble="it is lost"), Device("GPU-b", "RTX 4090"))
    )

    shown = (await types(admin))["rtx-4090"]

    assert (shown["free"], shown["total"], shown["devices"][0]["trouble"]) == (1, 1, "it is lost")


async def test_all_wrong_fields_are_named_at_once(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")

    answer = await admin.post(URL, json={
        "name": "H100!", "title": " x", "price": {"per_hour": 2.5}, "cpu_cores": 0, "memory_gb": "64", "gpus": 99,
        "model_pattern": "(", "position": -1, "colour": "red",
    })  # fmt: skip

    assert answer.status_code == 422
    assert {wrong["field"]: wrong["code"] for wrong in answer.json()["fields"]} == {
        "name": "pattern", "title": "pattern", "price.per_hour": "type", "cpu_cores": "range", "memory_gb": "type",
        "gpus": "range", "model_pattern": "pattern", "position": "range", "colour": "unknown",
    }  # fmt: skip
    assert "H100!" not in await types(admin)


@pytest.mark.parametrize(
    ("price", "code"),
    [
        ({"per_hour": "2.1234567"}, "pattern"), ({"per_hour": "-1"}, "pattern"), ({"per_hour": "1e3"}, "pattern"),
        ({"per_hour": "NaN"}, "pattern"), ({"per_hour": "1", "per_hour_micros": 1}, "one_of"), ({}, "missing"),
        ({"per_hour_micros": 1.5}, "type"), ({"per_hour_micros": -1}, "range"), ({"per_hour": "100001"}, "range"),
    ],
)  # fmt: skip
async def test_a_price_is_exact_or_refused(sqlite_world: ApiWorld, price: dict[str, Any], code: str):
    admin = await sqlite_world.browser("admin")

    answer = await admin.post(URL, json=H100 | {"price": price})

    assert answer.status_code == 422
    assert [wrong["code"] for wrong in answer.json()["fields"]] == [code]
    assert answer.json()["fields"][0]["field"].startswith("price")


async def test_a_price_change_does_not_touch_a_pod_that_runs(world: ApiWorld):
    admin, owner = await world.browser("admin"), await world.browser("owner")
    pod = (await owner.post("/api/v1/pods", json=PLAIN)).json()
    await world.run(pod["id"])

    changed = await admin.patch(f"{URL}/cpu", json={"price": {"per_hour_micros": 1_000_000}, "memory_gb": 8})
    restarted = (await owner.post("/api/v1/pods/lab/restart")).json()

    assert changed.json()["price"]["per_hour"] == "1.00"
    assert (restarted["price"], restarted["memory_gb"]) == (pod["price"], 4)
    async with world.database.read() as session:
        (act,) = await session.scalars(select(AuditRow).where(AuditRow.verb == "edit_gpu_type"))
    assert act.data["changed"] == {"price": ["0.30", "1.00"], "memory_gb": [4, 8]}


async def test_what_was_not_sent_stays_and_null_is_no_value(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")
    before = (await types(admin))["rtx-4090"]

    same = await admin.patch(f"{URL}/rtx-4090", json={})
    null = await admin.patch(f"{URL}/rtx-4090", json={"title": None, "cpu_cores": 0})
    no_gpu = await admin.patch(f"{URL}/rtx-4090", json={"gpus": 0})

    assert same.json() == before
    assert {wrong["field"] for wrong in null.json()["fields"]} == {"title"}
    assert [wrong["field"] for wrong in no_gpu.json()["fields"]] == ["model_pattern", "gpu_resource"]
    assert (await admin.patch(f"{URL}/none", json={"title": "x"})).status_code == 404


async def test_a_type_in_use_is_withdrawn_and_not_deleted(world: ApiWorld):
    admin, owner = await world.browser("admin"), await world.browser("owner")
    await owner.post("/api/v1/pods", json=PLAIN | {"gpu_type": "rtx-4050"})

    refused = await admin.delete(f"{URL}/rtx-4050")
    withdrawn = await admin.patch(f"{URL}/rtx-4050", json={"on_offer": False})
    other = await owner.post("/api/v1/pods", json=PLAIN | {"name": "b", "gpu_type": "rtx-4050"})

    assert (refused.status_code, refused.json()["code"]) == (409, "gpu_type_in_use")
    assert "1 pod is of type" in refused.json()["detail"]
    assert withdrawn.json()["on_offer"] is False
    assert "rtx-4050" not in await types(owner)
    assert "rtx-4050" in await types(admin)
    assert [wrong["field"] for wrong in other.json()["fields"]] == ["gpu_type"]
    assert (await owner.get("/api/v1/pods/lab")).status_code == 200


async def test_a_deleted_type_is_gone_does_not_come_back_by_itself_and_its_name_is_free(world: ApiWorld):
    admin = await world.browser("admin")

    deleted = await admin.delete(f"{URL}/rtx-4090")
    async with world.database.write() as session:
        await load_starters(session)  # as the next start does
    gone = await types(admin)
    again = await admin.delete(f"{URL}/rtx-4090")
    made = await admin.post(URL, json=H100 | {"name": "rtx-4090"})
    taken = await admin.post(URL, json=H100 | {"name": "rtx-4090"})

    assert (deleted.status_code, again.status_code) == (204, 404)
    assert "rtx-4090" not in gone
    assert (made.status_code, made.json()["price"]["per_hour"]) == (201, "3.20")
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
