"""Volumes by the API: what is shown of them, growing them, and what is refused."""

from typing import Any

from httpx import AsyncClient

from neuropod.runtimes.contract import RuntimeUnavailableError
from support.alone import record_pass
from support.api import POD, ApiWorld
from support.workloads import workload_of


async def _pod(world: ApiWorld, owner: AsyncClient, **values: Any) -> dict[str, Any]:
    pod: dict[str, Any] = (await owner.post("/api/v1/pods", json=POD | values)).json()
    await world.run(pod["id"])
    return pod


async def _begun(world: ApiWorld, owner: AsyncClient) -> None:
    """Launch a pod and let the loop see that its process runs."""
    pod = (await owner.post("/api/v1/pods", json=POD)).json()
    claimed = await world.open(pod["id"])
    assert claimed.facts.incarnation is not None
    workload = await workload_of(world.database, world.parts.pods, claimed.facts.id, claimed.facts.incarnation.number)
    await world.runtime.ensure(workload)
    seen = await world.runtime.observe(workload.id)
    async with world.database.write() as session:
        assert await record_pass(session, claimed, seen, now=world.clock.now(), due_at=None)


async def _volume(client: AsyncClient, name: str = "workspace") -> dict[str, Any]:
    answer: dict[str, Any] = (await client.get(f"/api/v1/volumes/{name}")).json()
    return answer


async def test_the_workspace_is_made_at_first_use_and_tells_its_use_and_who_attaches_it(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    pod = await _pod(sqlite_world, owner)
    (made,) = sqlite_world.fake.volumes.values()
    made.used_bytes = 12_345

    (volume,) = (await owner.get("/api/v1/volumes")).json()["items"]

    assert volume["name"] == "workspace"
    assert volume["pods"] == [{"id": pod["id"], "name": "lab"}]
    assert (volume["use"]["used_bytes"], volume["use"]["full"]) == (12_345, False)
    assert volume["use"]["measured_at"]
    assert volume["price"]["per_hour"] == "0.10"


async def test_one_that_no_pod_has_used_tells_no_use(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")

    made = await owner.post("/api/v1/volumes", json={"name": "data", "size_gb": 50})

    assert made.status_code == 201
    assert made.headers["location"] == f"/api/v1/volumes/{made.json()['id']}"
    assert (await _volume(owner, "data"))["use"] is None


async def test_one_that_was_made_and_is_not_there_any_more_is_lost(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await owner.post("/api/v1/volumes", json={"name": "data", "size_gb": 50})
    await _begun(sqlite_world, owner)
    before = [(await _volume(owner, name))["lost"] for name in ("workspace", "data")]

    sqlite_world.fake.volumes.clear()

    assert before == [False, False]
    assert [(await _volume(owner, name))["lost"] for name in ("workspace", "data")] == [True, False]


async def test_nothing_is_said_to_be_lost_by_a_runtime_that_does_not_answer(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await _begun(sqlite_world, owner)
    sqlite_world.fake.volumes.clear()

    async def away(verb: str) -> None:
        if verb == "volume_use":
            raise RuntimeUnavailableError("away")

    sqlite_world.fake.before = away

    assert not (await _volume(owner))["lost"]


async def test_another_volume_is_attached_by_its_name(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await owner.post("/api/v1/volumes", json={"name": "data", "size_gb": 50})

    pod = await _pod(sqlite_world, owner, volume={"name": "data"})

    assert (pod["volume"]["name"], pod["volume"]["size_gb"]) == ("data", 50)


async def test_a_volume_grows_at_once_or_it_is_said_that_it_does_later(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await _pod(sqlite_world, owner)
    (made,) = sqlite_world.fake.volumes.values()

    now = (await owner.patch("/api/v1/volumes/workspace", json={"size_gb": 20})).json()
    made.grows_at_once = False
    later = (await owner.patch("/api/v1/volumes/workspace", json={"size_gb": 30})).json()

    assert (now["size_gb"], now["use"]["grows_later"], made.size_bytes) == (20, False, 20 * 10**9)
    assert (later["size_gb"], later["use"]["grows_later"]) == (30, True)


async def test_a_growth_for_which_there_is_no_room_changes_nothing(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await _pod(sqlite_world, owner)
    object.__setattr__(sqlite_world.fake.capacity, "disk_bytes", 15 * 10**9)

    refused = await owner.patch("/api/v1/volumes/workspace", json={"size_gb": 20})

    assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
    assert (await _volume(owner))["size_gb"] == 10


async def test_smaller_and_too_large_are_refused_with_the_rule(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await _pod(sqlite_world, owner)

    for size, code in ((5, "shrinks"), (151, "range")):
        refused = await owner.patch("/api/v1/volumes/workspace", json={"size_gb": size})
        assert (refused.status_code, refused.json()["fields"][0]["code"]) == (422, code)


async def test_an_attached_volume_is_not_deleted_and_its_pods_are_named(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await _pod(sqlite_world, owner)

    refused = await owner.delete("/api/v1/volumes/workspace")

    assert (refused.status_code, refused.json()["code"]) == (409, "volume_attached")
    assert "pod lab" in refused.json()["detail"]


async def test_administrators_see_all_and_others_only_their_own(sqlite_world: ApiWorld):
    owner, admin, outsider = [await sqlite_world.browser(name) for name in ("owner", "admin", "outsider")]
    await owner.post("/api/v1/volumes", json={"name": "data", "size_gb": 50})

    seen = (await admin.get("/api/v1/volumes", params={"everybody": True})).json()["items"]
    own = (await outsider.get("/api/v1/volumes")).json()["items"]
    refused = await outsider.get("/api/v1/volumes", params={"everybody": True})
    for_another = await outsider.post(
        "/api/v1/volumes", json={"name": "x", "size_gb": 1, "owner": seen[0]["owner"]["id"]}
    )

    assert [volume["owner"]["email"] for volume in seen] == ["owner@example.org"]
    assert own == []
    assert refused.status_code == 403
    assert for_another.status_code == 404


async def test_a_runtime_that_does_not_answer_leaves_the_use_untold(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    await _pod(sqlite_world, owner)

    async def away(verb: str) -> None:
        raise RuntimeUnavailableError(verb)

    sqlite_world.fake.before = away

    assert (await _volume(owner))["use"] is None
    grown = await owner.patch("/api/v1/volumes/workspace", json={"size_gb": 20})
    assert grown.status_code == 503
