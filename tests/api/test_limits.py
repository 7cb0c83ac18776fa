"""Limits of time and usage by the API: what is taken, refused and answered, for owner and administrator."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from neuropod.db.engine import Database
from neuropod.ids import PodId
from neuropod.pods.records import IncarnationRow
from neuropod.pods.usage.series import Point, Recorder
from neuropod.pods.usage.store import keep_chunks
from neuropod.runtimes.contract import Phase, RuntimeUnavailableError
from neuropod.runtimes.fake.world import Uses
from support.api import POD, ApiWorld, api_world

LIMITS = {"stop_after_seconds": 3600, "idle_stop_after_seconds": 600}


async def running(world: ApiWorld, **values: Any) -> str:
    """Let the owner's pod run, as far as the rows and the fake runtime know."""
    owner = await world.browser("owner")
    pod_id = (await owner.post("/api/v1/pods", json=POD | values)).json()["id"]
    await world.run(pod_id)
    facts = {"started_at": world.clock.now(), "phase": Phase.READY}
    async with world.database.write() as session:
        await session.execute(update(IncarnationRow).where(IncarnationRow.pod_id == pod_id).values(**facts))
    return pod_id


async def keep(world: ApiWorld, pod_id: str, *points: Point) -> None:
    recorder = Recorder()
    for point in points:
        recorder.add({PodId(pod_id): point})
    async with world.database.write() as session:
        await keep_chunks(session, recorder.chunks)


# ---- limits


async def test_limits_are_taken_at_launch_shown_and_changed_without_a_restart(world: ApiWorld):
    pod_id = await running(world, **LIMITS)
    owner = await world.browser("owner")
    began = world.clock.now()

    shown = (await owner.get(f"/api/v1/pods/{pod_id}")).json()
    longer = await owner.patch("/api/v1/pods/lab", json={"stop_after_seconds": 7200})
    never = await owner.patch("/api/v1/pods/lab", json={"stop_after_seconds": None, "idle_stop_after_seconds": None})
    events = (await owner.get("/api/v1/pods/lab/events")).json()["items"]

    assert {name: shown[name] for name in LIMITS} == LIMITS
    assert shown["stops_at"] == (began + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert shown["idle"] == {"since": None, "stops_at": None, "kept_by": []}
    assert (longer.status_code, longer.json()["status"]) == (200, "running")
    assert longer.json()["stops_at"] == (began + timedelta(hours=2)).isoformat().replace("+00:00", "Z")
    assert longer.json()["idle_stop_after_seconds"] == 600
    assert {name: never.json()[name] for name in (*LIMITS, "stops_at", "idle")} == dict.fromkeys(
        (*LIMITS, "stops_at", "idle")
    )
    assert events[0]["data"]["fields"] == ["stop_after_seconds", "idle_stop_after_seconds"]


async def test_a_limit_beside_what_needs_a_new_run_waits_for_the_consent(sqlite_world: ApiWorld):
    await running(sqlite_world)
    owner = await sqlite_world.browser("owner")

    refused = await owner.patch("/api/v1/pods/lab", json={"stop_after_seconds": 60, "container_disk_gb": 20})

    assert (refused.status_code, refused.json()["code"]) == (409, "restart_required")
    assert (await owner.get("/api/v1/pods/lab")).json()["stop_after_seconds"] is None


@pytest.mark.parametrize("value", [59, 0, -1, 366 * 24 * 3600 + 1, "1h", 60.5, True])
async def test_a_wrong_limit_is_named_at_launch_and_in_an_edit(sqlite_world: ApiWorld, value: object):
    owner = await sqlite_world.browser("owner")
    await owner.post("/api/v1/pods", json=POD)
    wrong = {"stop_after_seconds": value, "idle_stop_after_seconds": value}

    launch = await owner.post("/api/v1/pods", json=POD | {"name": "other"} | wrong)
    edit = await owner.patch("/api/v1/pods/lab", json=wrong)

    for answer in (launch, edit):
        assert answer.status_code == 422
        assert {field["field"] for field in answer.json()["fields"]} == set(wrong)


async def test_what_the_settings_bind_binds_clients_and_not_administrators(sqlite_url: str):
    database = Database(sqlite_url)
    bounds = {"default_stop_after_seconds": 1800, "max_stop_after_seconds": 3600, "max_idle_stop_after_seconds": 900}
    async with api_world(database, limits=bounds) as world:
        owner, admin = await world.browser("owner"), await world.browser("admin")
        made = (await owner.post("/api/v1/pods", json=POD)).json()

        over = await owner.patch("/api/v1/pods/lab", json={"stop_after_seconds": 3601, "idle_stop_after_seconds": None})
        most = await owner.patch("/api/v1/pods/lab", json={"stop_after_seconds": 3600})
        given = await admin.patch(f"/api/v1/pods/{made['id']}", json={"stop_after_seconds": 86_400})
        kept = await owner.patch("/api/v1/pods/lab", json={"idle_stop_after_seconds": 600})

    assert (made["stop_after_seconds"], made["idle_stop_after_seconds"]) == (1800, 900)
    assert {(field["field"], field["code"]) for field in over.json()["fields"]} == {
        ("stop_after_seconds", "range"),
        ("idle_stop_after_seconds", "missing"),
    }
    assert most.json()["stop_after_seconds"] == 3600
    assert (given.status_code, given.json()["stop_after_seconds"]) == (200, 86_400)
    assert kept.json()["stop_after_seconds"] == 86_400
    await database.aclose()


# ---- usage


async def test_usage_is_measured_for_the_answer_and_comes_with_the_points_of_the_last_hours(world: ApiWorld):
    pod_id = await running(world)
    now = world.clock.now()
    points = [
        Point(now - timedelta(minutes=minutes), 0.25, 8192, 4096, None, None, None) for minutes in (500, 300, 2, 1)
    ]
    for point in points:
        await keep(world, pod_id, point)
    world.fake.standing[next(iter(world.fake.standing))].use(Uses(cpu_cores=1.5, memory_bytes=10**9), now)
    owner, admin = await world.browser("owner"), await world.browser("admin")

    first = (await owner.get("/api/v1/pods/lab/usage")).json()
    await world.clock.advance(2)
    second = (await admin.get(f"/api/v1/pods/{pod_id}/usage", params={"hours": 1})).json()
    none = (await owner.get("/api/v1/pods/lab/usage", params={"hours": 0})).json()

    assert first["size"]["cpu_cores"] == 2
    assert first["size"]["volume_bytes"] == 10 * 10**9
    assert (first["now"]["memory_bytes"], first["now"]["cpu_cores"]) == (
        10**9,
        None,
    )  # no rate of this run is known yet
    assert second["now"]["cpu_cores"] == 1.5
    assert [point["at"] for point in first["points"]] == [
        point.at.isoformat().replace("+00:00", "Z") for point in points[1:]
    ]
    assert first["points"][0]["cpu_cores"] == 0.25
    assert (len(second["points"]), none["points"], none["step_seconds"]) == (2, [], 60)


async def test_the_first_answer_takes_the_rate_of_the_last_point(sqlite_world: ApiWorld):
    pod_id = await running(sqlite_world)
    await sqlite_world.clock.advance(120)
    now = sqlite_world.clock.now()
    await keep(sqlite_world, pod_id, Point(now - timedelta(seconds=30), 0.75, 1, 1, None, None, None))
    owner = await sqlite_world.browser("owner")

    answer = (await owner.get("/api/v1/pods/lab/usage")).json()

    assert answer["now"]["cpu_cores"] == 0.75
    assert answer["now"]["at"] == now.isoformat().replace("+00:00", "Z")


async def test_a_pod_that_does_not_run_uses_nothing_now(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await owner.post("/api/v1/pods", json=POD)

    answer = await owner.get("/api/v1/pods/lab/usage")

    assert (answer.status_code, answer.json()["now"], answer.json()["points"]) == (200, None, [])


async def test_a_runtime_that_gives_no_answer_leaves_the_last_point(sqlite_world: ApiWorld):
    pod_id = await running(sqlite_world)
    await sqlite_world.clock.advance(120)
    at = sqlite_world.clock.now() - timedelta(seconds=60)
    await keep(sqlite_world, pod_id, Point(at, 0.75, 4096, 0, None, None, None))

    async def away(verb: str) -> None:
        raise RuntimeUnavailableError("unplugged")

    sqlite_world.fake.before = away
    owner = await sqlite_world.browser("owner")
    answer = await owner.get("/api/v1/pods/lab/usage")

    assert answer.status_code == 200
    assert answer.json()["now"]["at"] == at.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("hours", [-1, 7, "many"])
async def test_wrong_hours_are_a_422(sqlite_world: ApiWorld, hours: object):
    owner = await sqlite_world.browser("owner")
    await owner.post("/api/v1/pods", json=POD)

    answer = await owner.get("/api/v1/pods/lab/usage", params={"hours": hours})

    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "hours")
