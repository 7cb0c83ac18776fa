"""Pods by the API: shapes, statuses, all wrong fields at once, paging, idempotency, things of others."""

import pytest

from support.api import POD, ApiWorld


async def test_a_pod_is_created_and_answered_with_all_that_the_design_names(world: ApiWorld):
    owner = await world.browser("owner")

    answer = await owner.post("/api/v1/pods", json=POD)

    pod = answer.json()
    hash_ = world.person("owner").hash
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/pods/{pod['id']}"
    assert pod["owner"] == {"id": world.person("owner").id, "email": "owner@example.org", "hash": hash_}
    assert (pod["want"], pod["status"], pod["reason"]) == ("running", "starting", "starting")
    assert pod["price"] == {"per_hour": "0.40", "per_hour_micros": 400_000, "currency": "EUR"}
    assert pod["ports"] == [
        {
            "port": 8888,
            "name": "Jupyter Lab",
            "access": "private",
            "host": f"lab-{hash_}-8888.neuropod-pods.localhost",
            "url": f"http://lab-{hash_}-8888.neuropod-pods.localhost:8080/",
        }
    ]
    assert {"created_by", "message", "progress", "since", "gpu_type", "volume", "template"} <= set(pod)
    assert (await owner.get(f"/api/v1/pods/{pod['id']}")).json() == pod
    assert (await owner.get("/api/v1/pods/lab")).json() == pod


async def test_one_answer_names_all_wrong_fields_of_shape_and_of_rules(world: ApiWorld):
    owner = await world.browser("owner")
    wrong = {
        "name": "Bad Name",
        "template": "no-such",
        "gpu_type": "no-such",
        "gpu_count": "many",
        "container_disk_gb": 101,
        "volume": {"size_gb": 151},
        "ports": [{"port": 80}, {"port": 70000}],
        "env": {"NVIDIA_VISIBLE_DEVICES": "all"},
        "jupyter": "perhaps",
        "owner_id": "usr_somebody",
    }

    answer = await owner.post("/api/v1/pods", json=wrong)

    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem["status"]) == ("invalid", 422)
    assert {field["field"] for field in problem["fields"]} == {
        "name", "template", "gpu_type", "gpu_count", "container_disk_gb", "volume.size_gb", "ports.1.port",
        "env.NVIDIA_VISIBLE_DEVICES", "jupyter", "owner_id",
    }  # fmt: skip
    assert (await owner.get("/api/v1/pods")).json()["items"] == []


@pytest.mark.parametrize("wish", ["owner_id", "runtime", "role", "price", "created_by", "volume_id"])
async def test_what_is_not_ones_to_say_is_refused_as_an_unknown_field(sqlite_world: ApiWorld, wish: str):
    owner = await sqlite_world.browser("owner")

    answer = await owner.post("/api/v1/pods", json=POD | {wish: "x"})

    assert answer.status_code == 422
    assert answer.json()["fields"] == [{"field": wish, "code": "unknown", "message": "is not a field of this request"}]


async def test_a_body_that_is_no_json_is_a_400(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")

    answer = await owner.post("/api/v1/pods", content=b"{", headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_json")


async def test_a_body_that_is_too_large_is_a_413_however_it_is_sent(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")

    async def pieces():
        for _ in range(40):
            yield b" " * 65536

    announced = await owner.post("/api/v1/pods", content=b" " * 2_000_000)
    streamed = await owner.post("/api/v1/pods", content=pieces(), headers={"content-type": "application/json"})

    assert (announced.status_code, streamed.status_code) == (413, 413)
    assert announced.json()["code"] == "too_large"


async def test_a_taken_name_is_a_409_that_names_the_field(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    await owner.post("/api/v1/pods", json=POD)

    again = await owner.post("/api/v1/pods", json=POD)
    another_persons = await outsider.post("/api/v1/pods", json=POD)

    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    assert again.json()["fields"][0]["field"] == "name"
    assert another_persons.status_code == 201


async def test_null_is_no_volume_and_absent_is_the_templates(world: ApiWorld):
    owner = await world.browser("owner")

    without = await owner.post("/api/v1/pods", json=POD | {"name": "a", "volume": None})
    absent = await owner.post("/api/v1/pods", json=POD | {"name": "b"})
    sized = await owner.post("/api/v1/pods", json=POD | {"name": "c", "volume": {"name": "data", "size_gb": 3}})

    assert without.json()["volume"] is None
    assert absent.json()["volume"]["name"] == "workspace"
    assert (sized.json()["volume"]["name"], sized.json()["volume"]["size_gb"]) == ("data", 3)


async def test_an_edit_of_a_running_pod_needs_its_consent_to_restart(world: ApiWorld):
    owner = await world.browser("owner")
    await owner.post("/api/v1/pods", json=POD)

    refused = await owner.patch("/api/v1/pods/lab", json={"container_disk_gb": 20})
    done = await owner.patch("/api/v1/pods/lab", json={"container_disk_gb": 20, "restart": True})
    nulls = await owner.patch("/api/v1/pods/lab", json={"gpu_type": None, "name": "other"})

    assert (refused.status_code, refused.json()["code"]) == (409, "restart_required")
    assert (done.status_code, done.json()["container_disk_gb"]) == (200, 20)
    assert {field["field"] for field in nulls.json()["fields"]} == {"gpu_type", "name"}


async def test_stop_start_restart_and_delete_change_the_wish(world: ApiWorld):
    owner = await world.browser("owner")
    await owner.post("/api/v1/pods", json=POD)

    stopped = await owner.post("/api/v1/pods/lab/stop")
    started = await owner.post("/api/v1/pods/lab/start")
    restarted = await owner.post("/api/v1/pods/lab/restart")
    deleted = await owner.delete("/api/v1/pods/lab")

    assert [answer.json()["want"] for answer in (stopped, started, restarted, deleted)] == [
        "stopped", "running", "running", "gone",
    ]  # fmt: skip
    assert (deleted.status_code, deleted.json()["status"]) == (202, "deleting")


async def test_ports_are_added_renamed_opened_and_removed(world: ApiWorld):
    owner = await world.browser("owner")
    await owner.post("/api/v1/pods", json=POD)

    added = await owner.post("/api/v1/pods/lab/ports", json={"port": 5000})
    twice = await owner.post("/api/v1/pods/lab/ports", json={"port": 5000})
    renamed = await owner.patch("/api/v1/pods/lab/ports/5000", json={"name": "API", "access": "public"})
    link = await owner.post("/api/v1/pods/lab/ports/8888/link")
    removed = await owner.delete("/api/v1/pods/lab/ports/5000")
    listed = await owner.get("/api/v1/pods/lab/ports")

    assert (added.status_code, added.json()["name"], added.json()["access"]) == (201, "Service 1", "private")
    assert twice.status_code == 409
    assert (renamed.json()["name"], renamed.json()["access"]) == ("API", "public")
    assert "/lab?token=" in link.json()["url"]
    assert removed.status_code == 204
    assert [port["port"] for port in listed.json()["items"]] == [8888]


async def test_a_list_comes_in_pages_that_new_pods_do_not_shift(world: ApiWorld):
    owner = await world.browser("owner")
    for number in range(5):
        await owner.post("/api/v1/pods", json=POD | {"name": f"p{number}"})

    first = (await owner.get("/api/v1/pods", params={"limit": 2})).json()
    await owner.post("/api/v1/pods", json=POD | {"name": "p5"})
    second = (await owner.get("/api/v1/pods", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    third = (await owner.get("/api/v1/pods", params={"limit": 2, "cursor": second["next_cursor"]})).json()

    assert [[pod["name"] for pod in page["items"]] for page in (first, second, third)] == [
        ["p4", "p3"], ["p2", "p1"], ["p0"],
    ]  # fmt: skip
    assert third["next_cursor"] is None


@pytest.mark.parametrize("query", [{"cursor": "nonsense"}, {"limit": "0"}, {"limit": "201"}, {"limit": "many"}])
async def test_a_page_that_cannot_be_asked_for_is_a_422(sqlite_world: ApiWorld, query: dict[str, str]):
    owner = await sqlite_world.browser("owner")

    answer = await owner.get("/api/v1/pods", params=query)

    assert answer.status_code == 422
    assert [field["field"] for field in answer.json()["fields"]] == list(query)


async def test_the_same_request_again_makes_no_second_pod(world: ApiWorld):
    owner = await world.browser("owner")
    key = {"idempotency-key": "a1"}

    first = await owner.post("/api/v1/pods", json=POD, headers=key)
    again = await owner.post("/api/v1/pods", json=POD, headers=key)
    other_body = await owner.post("/api/v1/pods", json=POD | {"name": "b"}, headers=key)
    listed = await owner.get("/api/v1/pods")

    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert (other_body.status_code, other_body.json()["code"]) == (409, "idempotency_key_reused")
    assert len(listed.json()["items"]) == 1


async def test_events_tell_what_happened_newest_first(world: ApiWorld):
    owner = await world.browser("owner")
    await owner.post("/api/v1/pods", json=POD)
    await owner.post("/api/v1/pods/lab/stop")

    first = (await owner.get("/api/v1/pods/lab/events", params={"limit": 1})).json()
    second = (await owner.get("/api/v1/pods/lab/events", params={"cursor": first["next_cursor"]})).json()

    assert [event["kind"] for event in first["items"] + second["items"]] == ["pod.stopped", "pod.launched"]


async def test_a_pod_of_somebody_else_looks_like_one_that_is_not(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    theirs = (await owner.post("/api/v1/pods", json=POD)).json()["id"]
    missing = theirs[:-1] + ("0" if theirs[-1] != "0" else "1")

    seen = await outsider.get(f"/api/v1/pods/{theirs}")
    not_there = await outsider.get(f"/api/v1/pods/{missing}")

    assert seen.status_code == not_there.status_code == 404
    assert seen.text.replace(theirs, "x") == not_there.text.replace(missing, "x")


async def test_only_administrators_list_everybodys_pods(world: ApiWorld):
    owner, admin = await world.browser("owner"), await world.browser("admin")
    await owner.post("/api/v1/pods", json=POD)

    own = await admin.get("/api/v1/pods")
    everybody = await admin.get("/api/v1/pods", params={"everybody": True})
    refused = await owner.get("/api/v1/pods", params={"everybody": True})

    assert own.json()["items"] == []
    assert [pod["name"] for pod in everybody.json()["items"]] == ["lab"]
    assert refused.status_code == 403


async def test_a_launch_is_one_write_transaction(world: ApiWorld):
    program = await world.program("owner")
    await program.get("/api/v1/me")  # notes the key's use
    before = world.database.write_transactions

    await program.post("/api/v1/pods", json=POD)

    assert world.database.write_transactions - before == 1
