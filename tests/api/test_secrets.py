"""Secrets by the API, on both databases: kept by name, never shown, given to pods that name them."""

from typing import Any

import pytest
from sqlalchemy import select

from neuropod.accounts.access import MACHINE
from neuropod.accounts.secrets.records import SecretRow
from neuropod.db.audit import AuditRow
from neuropod.db.engine import Database
from neuropod.runtimes.contract import WorkloadRejectedError
from neuropod.words import Reason, Scope, VolumesAtEnd
from support.api import POD, ApiWorld, api_world
from support.workloads import workload_of

VALUE = "hf_a-value-that-nobody-is-shown"
NAMING = POD | {"env": {"PLAIN": "as it is", "TOKEN": {"secret": "HF_TOKEN"}}}


def _fields(answer: Any) -> dict[str, str]:
    return {field["field"]: field["code"] for field in answer.json()["fields"]}


async def _given(world: ApiWorld, pod_id: str) -> dict[str, str]:
    workload = await workload_of(world.database, world.parts.pods, pod_id)
    return {name: value.reveal() for name, value in workload.env.items()}


async def test_a_secret_is_kept_by_name_and_never_shown(world: ApiWorld):
    owner = await world.browser("owner")

    made = await owner.put("/api/v1/secrets/HF_TOKEN", json={"value": VALUE})
    listed = await owner.get("/api/v1/secrets")

    assert made.status_code == 200
    assert made.json() == {"name": "HF_TOKEN", "set_at": made.json()["set_at"], "pods": []}
    assert listed.json()["items"] == [made.json()]
    assert (await owner.get("/api/v1/secrets/HF_TOKEN")).status_code == 405
    async with world.database.read() as session:
        (act,) = await session.scalars(select(AuditRow).where(AuditRow.verb == "secret_set"))
    assert (act.subject, act.owner_id) == ("secret/HF_TOKEN", world.person("owner").id)


async def test_a_pod_is_given_what_its_owner_keeps_when_it_starts(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    await owner.put("/api/v1/secrets/HF_TOKEN", json={"value": "an old value"})
    await outsider.put("/api/v1/secrets/HF_TOKEN", json={"value": "somebody else's"})

    pod = await owner.post("/api/v1/pods", json=NAMING)
    await owner.put("/api/v1/secrets/HF_TOKEN", json={"value": VALUE})

    assert pod.status_code == 201
    given = await _given(world, pod.json()["id"])
    assert (given["PLAIN"], given["TOKEN"]) == ("as it is", VALUE)
    (listed,) = (await owner.get("/api/v1/secrets")).json()["items"]
    assert listed["pods"] == [{"id": pod.json()["id"], "name": "lab"}]
    (theirs,) = (await outsider.get("/api/v1/secrets")).json()["items"]
    assert theirs["pods"] == []


async def test_a_secret_that_is_not_there_is_refused_with_all_else_that_is_wrong(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    await outsider.put("/api/v1/secrets/HF_TOKEN", json={"value": VALUE})

    launched = await owner.post("/api/v1/pods", json=NAMING | {"name": "No Name"})
    quoted = await owner.post("/api/v1/pods/quote", json=NAMING)
    await owner.post("/api/v1/pods", json=POD)
    edited = await owner.patch("/api/v1/pods/lab", json={"env": NAMING["env"], "restart": True})
    reserved = await owner.post("/api/v1/pods", json=POD | {"env": {"NVIDIA_X": {"secret": "HF_TOKEN"}}})

    assert _fields(launched) == {"name": "pattern", "env.TOKEN": "no_secret"}
    assert _fields(quoted) == _fields(edited) == {"env.TOKEN": "no_secret"}
    assert _fields(reserved) == {"env.NVIDIA_X": "reserved"}


@pytest.mark.parametrize(
    ("sent", "field"),
    [(5, "env.A"), (None, "env.A"), (["x"], "env.A"), ({}, "env.A.secret"), ({"secret": 1}, "env.A.secret"),
     ({"secret": "S", "other": 1}, "env.A.other")],
)  # fmt: skip
async def test_a_wrong_shape_of_a_variable_is_named_once(sqlite_world: ApiWorld, sent: Any, field: str):
    owner = await sqlite_world.browser("owner")

    answer = await owner.post("/api/v1/pods", json=POD | {"env": {"A": sent}})

    assert (answer.status_code, list(_fields(answer))) == (422, [field])


async def test_an_edit_names_another_secret_or_none(world: ApiWorld):
    owner = await world.browser("owner")
    for name in ("HF_TOKEN", "OTHER"):
        await owner.put(f"/api/v1/secrets/{name}", json={"value": f"value of {name}"})
    pod = (await owner.post("/api/v1/pods", json=NAMING)).json()["id"]

    await owner.patch(f"/api/v1/pods/{pod}", json={"env": {"TOKEN": {"secret": "OTHER"}}, "restart": True})
    other = await _given(world, pod)
    await owner.patch(f"/api/v1/pods/{pod}", json={"env": {}, "restart": True})
    none = await _given(world, pod)

    assert (other["TOKEN"], "PLAIN" in other) == ("value of OTHER", False)
    assert "TOKEN" not in none
    assert (await owner.delete("/api/v1/secrets/OTHER")).status_code == 204


async def test_one_that_pods_name_is_deleted_only_by_force(world: ApiWorld):
    owner = await world.browser("owner")
    await owner.put("/api/v1/secrets/HF_TOKEN", json={"value": VALUE})
    pod = (await owner.post("/api/v1/pods", json=NAMING)).json()["id"]

    refused = await owner.delete("/api/v1/secrets/HF_TOKEN")
    forced = await owner.delete("/api/v1/secrets/HF_TOKEN", params={"force": "true"})
    again = await owner.delete("/api/v1/secrets/HF_TOKEN")

    assert (refused.status_code, refused.json()["code"]) == (409, "secret_in_use")
    assert "lab" in refused.json()["detail"]
    assert (forced.status_code, again.status_code) == (204, 404)
    with pytest.raises(WorkloadRejectedError, match="no secret HF_TOKEN") as caught:
        await _given(world, pod)
    assert caught.value.reason is Reason.SECRET_MISSING
    async with world.database.read() as session:
        (act,) = await session.scalars(select(AuditRow).where(AuditRow.verb == "secret_deleted"))
    assert (act.subject, act.data) == ("secret/HF_TOKEN", {"pods": [pod]})


async def test_a_pod_that_is_being_deleted_keeps_no_secret(world: ApiWorld):
    owner = await world.browser("owner")
    await owner.put("/api/v1/secrets/HF_TOKEN", json={"value": VALUE})
    await owner.post("/api/v1/pods", json=NAMING)
    await owner.delete("/api/v1/pods/lab")

    assert (await owner.delete("/api/v1/secrets/HF_TOKEN")).status_code == 204


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("1A", "x", {"name": "pattern"}),
        ("A-B", "x", {"name": "pattern"}),
        ("A" * 129, "x", {"name": "pattern"}),
        ("JUPYTER_TOKEN", "x", {"name": "reserved"}),
        ("neuropod_x", "", {"name": "reserved", "value": "empty"}),
        ("A", "a\0b", {"value": "null_byte"}),
        ("A", "ä" * (32 * 1024 + 1), {"value": "too_large"}),
    ],
)
async def test_what_is_no_secret_is_refused(sqlite_world: ApiWorld, name: str, value: str, wrong: dict[str, str]):
    owner = await sqlite_world.browser("owner")

    answer = await owner.put(f"/api/v1/secrets/{name}", json={"value": value})

    assert (answer.status_code, _fields(answer)) == (422, wrong)
    assert (await owner.get("/api/v1/secrets")).json()["items"] == []


async def test_the_largest_value_is_kept_whole(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    value = "\x01" * (64 * 1024)  # six bytes each in JSON

    answer = await owner.put("/api/v1/secrets/HF_TOKEN", json={"value": value})
    pod = await owner.post("/api/v1/pods", json=NAMING)

    assert answer.status_code == 200
    assert (await _given(sqlite_world, pod.json()["id"]))["TOKEN"] == value


async def test_half_a_character_is_refused(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")

    answer = await owner.put(
        "/api/v1/secrets/A", content=b'{"value": "\\ud800"}', headers={"content-type": "application/json"}
    )

    assert answer.status_code == 422


async def test_one_person_keeps_so_many_and_replaces_what_is_there(database: Database):
    async with api_world(database, limits={"secrets_per_user": 2}) as world:
        owner = await world.browser("owner")
        for name in ("A", "B"):
            await owner.put(f"/api/v1/secrets/{name}", json={"value": "x"})

        more = await owner.put("/api/v1/secrets/C", json={"value": "x"})
        same = await owner.put("/api/v1/secrets/B", json={"value": "y"})

    assert (more.status_code, more.json()["code"]) == (409, "too_many_secrets")
    assert same.status_code == 200


async def test_a_key_that_only_reads_lists_and_sets_nothing(sqlite_world: ApiWorld):
    reader = await sqlite_world.program("owner", Scope.READ)

    assert (await reader.get("/api/v1/secrets")).status_code == 200
    assert (await reader.put("/api/v1/secrets/A", json={"value": "x"})).status_code == 403
    assert (await reader.delete("/api/v1/secrets/A")).status_code == 403


async def test_what_a_deleted_user_kept_is_gone(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    await owner.put("/api/v1/secrets/A", json={"value": "x"})
    await outsider.put("/api/v1/secrets/A", json={"value": "x"})

    async with world.database.write() as session:
        await world.parts.owners.delete_user(
            session, world.person("owner").id, volumes=VolumesAtEnd.KEEP, actor=MACHINE
        )

    async with world.database.read() as session:
        kept = [row.owner_id for row in await session.scalars(select(SecretRow))]
    assert kept == [world.person("outsider").id]
