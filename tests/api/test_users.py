"""Users as the API has them: making, inviting, changing, ending; what may be done by key; what errors say."""

import pytest
from sqlalchemy import select

from neuropod.db.events import EventRow
from neuropod.words import Scope
from support.api import PASSWORD, POD, ApiWorld


async def test_a_user_is_made_invited_by_a_link_and_sets_a_password(world: ApiWorld):
    admin = await world.browser("admin")

    made = await admin.post("/api/v1/users", json={"email": " Ada@Example.org ", "name": "Ada Byron"})
    link = await admin.post(f"/api/v1/users/{made.json()['id']}/sign-in-link")
    address, _, token = link.json()["url"].partition("#")
    page = world.http(origin=world.console)
    signed_in = await page.post("/sign-in/link", data={"token": token})
    new = world.http(origin=world.console, cookie=signed_in.headers["set-cookie"].partition(";")[0])
    password = await new.put("/api/v1/me/password", json={"new_password": "a good long password"})
    shown = (await admin.get("/api/v1/users/ada@example.org")).json()

    assert (made.status_code, link.status_code, password.status_code) == (201, 201, 204)
    assert (made.json()["email"], made.json()["role"], made.json()["has_password"]) == (
        "ada@example.org", "client", False,
    )  # fmt: skip
    assert made.json()["seen_at"] is None
    assert address == f"{world.console}/sign-in/link"
    assert token not in str(link.headers)
    assert (shown["name"], shown["has_password"], shown["status"], shown["pods"]) == ("Ada Byron", True, "active", 0)
    assert shown["seen_at"] is not None


async def test_a_reset_by_link_needs_no_old_password_and_ends_other_sessions(world: ApiWorld):
    admin, elsewhere = await world.browser("admin"), await world.browser("owner")
    link = await admin.post("/api/v1/users/owner@example.org/sign-in-link")
    token = link.json()["url"].partition("#")[2]
    signed_in = await world.http(origin=world.console).post("/sign-in/link", data={"token": token})
    browser = world.http(origin=world.console, cookie=signed_in.headers["set-cookie"].partition(";")[0])

    answer = await browser.put("/api/v1/me/password", json={"new_password": "a good long password"})

    old = {"email": "owner@example.org", "password": PASSWORD}
    assert answer.status_code == 204
    assert (await elsewhere.get("/api/v1/me")).status_code == 401
    assert (await world.http().post("/api/v1/session", json=old)).status_code == 401


async def test_a_session_by_link_sets_a_password_without_the_old_one_for_an_hour_only(sqlite_world: ApiWorld):
    world = sqlite_world
    browser = await world.browser("owner")
    await world.clock.advance(3601)

    answer = await browser.put("/api/v1/me/password", json={"new_password": "a good long password"})

    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "current_password")


async def test_all_that_is_wrong_with_a_new_user_is_told_at_once(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")

    wrong = await admin.post("/api/v1/users", json={"email": "nobody", "name": " "})
    taken = await admin.post("/api/v1/users", json={"email": "OWNER@example.org"})
    unknown = await admin.post("/api/v1/users", json={"email": "a@example.org", "role": "root", "hash": "x"})

    assert [field["field"] for field in wrong.json()["fields"]] == ["email", "name"]
    assert (taken.status_code, taken.json()["code"], taken.json()["fields"][0]["field"]) == (409, "name_taken", "email")
    assert {field["field"] for field in unknown.json()["fields"]} == {"role", "hash"}


async def test_a_program_of_an_administrator_makes_and_suspends_clients_and_gives_nobody_rights(sqlite_world: ApiWorld):
    program = await sqlite_world.program("admin", *Scope)

    made = await program.post("/api/v1/users", json={"email": "new@example.org"})
    suspended = await program.post("/api/v1/users/new@example.org/suspend", json={"reason": "a test"})
    refused = [
        await program.post("/api/v1/users", json={"email": "root@example.org", "role": "admin"}),
        await program.patch("/api/v1/users/owner@example.org", json={"role": "admin"}),
        await program.post("/api/v1/users/owner@example.org/sign-in-link"),
    ]

    assert (made.status_code, suspended.json()["status"]) == (201, "suspended")
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(403, "session_needed")] * 3


async def test_a_link_for_who_is_suspended_is_refused_with_what_to_do(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")
    await admin.post("/api/v1/users/owner@example.org/suspend")

    answer = await admin.post("/api/v1/users/owner@example.org/sign-in-link")

    assert (answer.status_code, answer.json()["code"]) == (409, "user_inactive")
    assert "reinstate" in answer.json()["detail"]


async def test_who_signs_in_while_suspended_hears_no_more_than_with_a_wrong_password(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")
    await admin.post("/api/v1/users/owner@example.org/suspend")

    right = await sqlite_world.http().post("/api/v1/session", json={"email": "owner@example.org", "password": PASSWORD})
    wrong = await sqlite_world.http().post("/api/v1/session", json={"email": "owner@example.org", "password": "x"})

    assert right.status_code == wrong.status_code == 401
    assert right.text == wrong.text


async def test_a_deletion_has_to_say_what_becomes_of_volumes(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")

    unsaid = await admin.delete("/api/v1/users/owner@example.org")
    wrong = await admin.delete("/api/v1/users/owner@example.org", params={"volumes": "burn"})
    said = await admin.delete("/api/v1/users/owner@example.org", params={"volumes": "keep"})
    listed = (await admin.get("/api/v1/users", params={"status": "deleting"})).json()["items"]

    assert (unsaid.status_code, unsaid.json()["fields"][0]["field"]) == (422, "volumes")
    assert (wrong.status_code, wrong.json()["fields"][0]["code"]) == (422, "not_one_of")
    assert (said.status_code, said.json()["status"], said.json()["volumes_at_end"]) == (202, "deleting", "keep")
    assert [user["email"] for user in listed] == ["owner@example.org"]


async def test_an_administrator_makes_a_pod_for_a_client_who_sees_by_whom(world: ApiWorld):
    admin, owner = await world.browser("admin"), await world.browser("owner")

    made = await admin.post("/api/v1/pods", json=POD | {"owner": "Owner@example.org"})
    seen = (await owner.get("/api/v1/pods/lab")).json()
    acts = (await owner.get("/api/v1/audit", params={"verb": "launch_pod"})).json()["items"]

    assert (made.status_code, made.json()["owner"]["email"]) == (201, "owner@example.org")
    assert (seen["id"], seen["created_by"]["email"]) == (made.json()["id"], "admin@example.org")
    assert [(act["actor"]["email"], act["owner"]["email"]) for act in acts] == [
        ("admin@example.org", "owner@example.org")
    ]
    assert (await admin.get("/api/v1/pods")).json()["items"] == []


@pytest.mark.parametrize("email", ["outsider@example.org", "nobody@example.org", "owner@example.org", "no address"])
async def test_a_client_makes_pods_for_nobody_and_learns_of_nobody(sqlite_world: ApiWorld, email: str):
    owner = await sqlite_world.browser("owner")

    answer = await owner.post("/api/v1/pods", json=POD | {"owner": email})

    assert (answer.status_code, answer.json()["code"]) == (403, "admin_needed")
    assert answer.json()["detail"] == "only administrators launch pods for others"


async def test_a_pod_for_who_is_no_client_is_refused_with_all_else_that_is_wrong(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")
    await admin.post("/api/v1/users", json={"email": "second@example.org", "role": "admin"})
    await admin.post("/api/v1/users/outsider@example.org/suspend")

    answers = {
        email: await admin.post("/api/v1/pods", json=POD | {"owner": email, "container_disk_gb": 0})
        for email in ("second@example.org", "outsider@example.org", "nobody@example.org")
    }

    assert {answer.status_code for answer in answers.values()} == {422}
    assert {
        email: [(field["field"], field["code"]) for field in answer.json()["fields"]]
        for email, answer in answers.items()
    } == {
        "second@example.org": [("owner", "not_a_client"), ("container_disk_gb", "range")],
        "outsider@example.org": [("owner", "unknown"), ("container_disk_gb", "range")],
        "nobody@example.org": [("owner", "unknown"), ("container_disk_gb", "range")],
    }


async def test_a_client_has_no_more_pods_by_an_administrator_than_by_themselves(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")
    most = sqlite_world.settings.limits.pods_per_user

    statuses = [
        (
            await admin.post("/api/v1/pods", json=POD | {"name": f"lab{number}", "owner": "owner@example.org"})
        ).status_code
        for number in range(most + 1)
    ]

    assert statuses == [201] * most + [409]


async def test_administrators_list_pods_by_owner_type_and_status(world: ApiWorld):
    admin, owner, outsider = [await world.browser(name) for name in ("admin", "owner", "outsider")]
    for client, name in ((owner, "a"), (owner, "b"), (outsider, "c")):
        await client.post("/api/v1/pods", json=POD | {"name": name})
    await owner.post("/api/v1/pods/a/stop")

    async def names(client=admin, **params: object) -> list[str] | int:
        answer = await client.get("/api/v1/pods", params=params)
        if answer.status_code != 200:
            return answer.status_code
        return sorted(pod["name"] for pod in answer.json()["items"])

    assert await names(everybody=True) == ["a", "b", "c"]
    assert await names(owner="owner@example.org") == ["a", "b"]
    assert await names(owner=world.person("outsider").id) == ["c"]
    assert await names(everybody=True, status="stopped") == ["a"]
    assert await names(everybody=True, status="starting") == ["b", "c"]
    assert await names(everybody=True, gpu_type="cpu") == ["a", "b", "c"]
    assert await names(everybody=True, gpu_type="rtx-4090") == []
    assert await names(owner="nobody@example.org") == 404
    assert await names(outsider, owner="owner@example.org") == 403
    assert await names(outsider, owner=world.person("owner").id) == 404
    assert await names(outsider, everybody=True) == 403


async def test_pages_of_a_status_miss_nothing_and_repeat_nothing(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    for number in range(9):
        await owner.post("/api/v1/pods", json=POD | {"name": f"lab{number}"})
    for number in (1, 2, 5, 8):
        await owner.post(f"/api/v1/pods/lab{number}/stop")

    found, cursor = [], None
    for _ in range(20):
        params = {"status": "stopped", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await owner.get("/api/v1/pods", params=params)).json()
        found += [pod["name"] for pod in page["items"]]
        assert len(page["items"]) <= 2
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert found == ["lab8", "lab5", "lab2", "lab1"]


async def test_the_audit_log_is_all_for_administrators_and_ones_own_for_others(world: ApiWorld):
    admin, owner, outsider = [await world.browser(name) for name in ("admin", "owner", "outsider")]
    await admin.post("/api/v1/pods", json=POD | {"owner": "owner@example.org"})
    await outsider.post("/api/v1/pods", json=POD)

    async def acts(client, **params: object) -> list[dict]:
        return (await client.get("/api/v1/audit", params={"limit": 200} | params)).json()["items"]

    everything, theirs = await acts(admin), await acts(owner)
    ids = {name: world.person(name).id for name in ("admin", "owner", "outsider")}

    assert {(act["owner"] or {}).get("id") for act in everything} >= set(ids.values())
    assert [act["id"] for act in everything] == sorted((act["id"] for act in everything), reverse=True)
    assert theirs
    assert all(ids["owner"] in {(act["owner"] or {}).get("id"), (act["actor"] or {}).get("id")} for act in theirs)
    assert {act["verb"] for act in await acts(admin, user="owner@example.org")} == {act["verb"] for act in theirs}
    assert {act["verb"] for act in await acts(admin, actor="admin@example.org")} == {"sign_in", "launch_pod"}
    assert await acts(admin, since=world.clock.now().isoformat(), before=world.clock.now().isoformat()) == []
    pod = f"pod/{(await owner.get('/api/v1/pods/lab')).json()['id']}"
    assert [act["verb"] for act in await acts(owner, subject=pod)] == ["launch_pod"]
    assert await acts(outsider, subject=pod) == []
    assert (await owner.get("/api/v1/audit", params={"user": ids["outsider"]})).status_code == 403
    assert (await owner.get("/api/v1/audit", params={"since": "2026-01-01T00:00:00"})).status_code == 422


async def test_the_audit_log_is_read_page_by_page(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")
    everything = [act["id"] for act in (await admin.get("/api/v1/audit", params={"limit": 200})).json()["items"]]

    read, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await admin.get("/api/v1/audit", params=params)).json()
        read += [act["id"] for act in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert read == everything
    assert len(read) > 4


async def test_administrators_see_and_end_sessions_of_a_user(sqlite_world: ApiWorld):
    admin, owner, elsewhere = [await sqlite_world.browser(name) for name in ("admin", "owner", "owner")]
    path = "/api/v1/users/owner@example.org/sessions"

    listed = (await admin.get(path)).json()["items"]
    one = await admin.delete(f"{path}/{listed[0]['id']}")
    again = await admin.delete(f"{path}/{listed[0]['id']}")
    rest = await admin.delete(path)

    assert [(row["address"], row["current"], row["by_link"]) for row in listed] == [("192.0.2.9", False, True)] * 2
    assert (one.status_code, again.status_code, rest.json()) == (204, 404, {"revoked": 1})
    assert [(await client.get("/api/v1/me")).status_code for client in (owner, elsewhere, admin)] == [401, 401, 200]


async def test_administrators_see_and_revoke_keys_of_a_user_who_is_told(sqlite_world: ApiWorld):
    world = sqlite_world
    key = await world.key("owner", Scope.READ)
    program = world.http("http://127.0.0.1:8080", authorization=f"Bearer {key}")
    admin = await world.program("admin", *Scope)
    path = "/api/v1/users/owner@example.org/api-keys"
    before = (await program.get("/api/v1/me")).status_code

    (listed,) = (await admin.get(path)).json()["items"]
    wrong = await admin.delete(f"/api/v1/users/outsider@example.org/api-keys/{listed['id']}")
    revoked = await admin.delete(f"{path}/{listed['id']}")

    assert "key" not in listed
    assert listed["used_at"] is not None
    assert (before, wrong.status_code, revoked.status_code) == (200, 404, 204)
    assert (await program.get("/api/v1/me")).status_code == 401
    async with world.database.read() as session:
        kinds = (await session.scalars(select(EventRow.kind))).all()
    assert kinds == ["user.key_revoked"]
