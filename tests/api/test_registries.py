"""Registries by the API, on both databases: a credential is kept by host, never shown, and goes with the pods' images."""

from typing import Any

import pytest
from sqlalchemy import select

from neuropod.accounts.access import MACHINE
from neuropod.accounts.registries.records import RegistryRow
from neuropod.db.audit import AuditRow
from neuropod.db.engine import Database
from neuropod.runtimes.contract import Workload
from neuropod.words import Scope, VolumesAtEnd
from support.api import POD, ApiWorld, api_world
from support.workloads import workload_of

URL = "/api/v1/registries"
PASSWORD = "ghp_a-password-that-nobody-is-shown"
LOGIN = {"username": "ada", "password": PASSWORD}
PLAIN: dict[str, Any] = {"name": "lab", "image": "ghcr.io/lab/private:1", "volume": None}


def _fields(answer: Any) -> dict[str, str]:
    return {field["field"]: field["code"] for field in answer.json()["fields"]}


async def _workload(world: ApiWorld, pod: Any) -> Workload:
    assert pod.status_code == 201, pod.text
    return await workload_of(world.database, world.parts.pods, pod.json()["id"])


async def test_a_credential_is_kept_by_host_and_never_shown(world: ApiWorld):
    owner = await world.browser("owner")

    made = await owner.put(f"{URL}/ghcr.io", json=LOGIN)
    again = await owner.put(f"{URL}/GHCR.io", json=LOGIN | {"username": "ada2"})
    port = await owner.put(f"{URL}/registry.lab:5000", json=LOGIN)
    listed = (await owner.get(URL)).json()["items"]

    assert made.json() == {"host": "ghcr.io", "username": "ada", "set_at": made.json()["set_at"]}
    assert listed == [again.json(), port.json()]
    assert [(one["host"], one["username"]) for one in listed] == [("ghcr.io", "ada2"), ("registry.lab:5000", "ada")]
    assert (await owner.get(f"{URL}/ghcr.io")).status_code == 405
    async with world.database.read() as session:
        acts = list(
            await session.scalars(select(AuditRow).where(AuditRow.verb == "registry_set").order_by(AuditRow.id))
        )
    assert [(act.subject, act.data) for act in acts[:1]] == [("registry/ghcr.io", {"username": "ada"})]
    assert PASSWORD not in repr([act.data for act in acts])


async def test_an_image_is_pulled_as_its_owner(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    await owner.put(f"{URL}/ghcr.io", json=LOGIN)
    await outsider.put(f"{URL}/ghcr.io", json={"username": "eve", "password": "hers"})
    await owner.put(f"{URL}/index.docker.io", json={"username": "hub", "password": "of-the-hub"})

    private = await _workload(world, await owner.post("/api/v1/pods", json=PLAIN))
    hub = await _workload(
        world, await owner.post("/api/v1/pods", json=PLAIN | {"name": "hub", "image": "ubuntu:24.04"})
    )
    other = await _workload(
        world, await owner.post("/api/v1/pods", json=PLAIN | {"name": "other", "image": "quay.io/lab/open"})
    )

    assert private.pull_credential is not None
    login = private.pull_credential
    assert (login.host, login.username, login.password.reveal()) == ("ghcr.io", "ada", PASSWORD)
    assert hub.pull_credential is not None
    assert (hub.pull_credential.host, hub.pull_credential.username) == ("docker.io", "hub")
    assert (other.pull_credential, other.always_pull) == (None, False)
    assert PASSWORD not in repr(private)


async def test_what_runs_by_a_recipe_pulls_nothing(world: ApiWorld):
    owner = await world.browser("owner")
    await owner.put(f"{URL}/docker.io", json=LOGIN)
    await owner.put(f"{URL}/quay.io", json=LOGIN)

    workload = await _workload(world, await owner.post("/api/v1/pods", json=POD))

    assert workload.recipe is not None
    assert (workload.pull_credential, workload.always_pull) == (None, False)


async def test_who_has_no_credential_is_given_none_and_the_image_is_asked_for_anew(world: ApiWorld):
    """SECURITY 15: the image that the owner pulled stays on the node, and serves nobody without the right."""
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    before = await _workload(world, await outsider.post("/api/v1/pods", json=PLAIN | {"name": "before"}))
    await owner.put(f"{URL}/ghcr.io", json=LOGIN)

    while_kept = await _workload(world, await outsider.post("/api/v1/pods", json=PLAIN | {"name": "kept"}))
    await owner.delete(f"{URL}/ghcr.io")
    afterwards = await _workload(world, await outsider.post("/api/v1/pods", json=PLAIN | {"name": "after"}))

    assert [one.pull_credential for one in (before, while_kept, afterwards)] == [None, None, None]
    assert [one.always_pull for one in (before, while_kept, afterwards)] == [False, True, True]


async def test_one_that_is_deleted_is_gone(world: ApiWorld):
    owner = await world.browser("owner")
    await owner.put(f"{URL}/ghcr.io", json=LOGIN)

    gone = await owner.delete(f"{URL}/ghcr.io")
    again = await owner.delete(f"{URL}/ghcr.io")

    assert (gone.status_code, again.status_code) == (204, 404)
    assert (await owner.get(URL)).json()["items"] == []
    async with world.database.read() as session:
        assert (await session.scalars(select(RegistryRow))).all() == []


@pytest.mark.parametrize(
    ("host", "body", "wrong"),
    [
        ("ghcr", LOGIN, {"host": "pattern"}),  # an image `ghcr/x` comes from Docker Hub
        ("https:ghcr.io", LOGIN, {"host": "pattern"}),
        ("ghcr.io%2Flab", LOGIN, {"host": "pattern"}),
        ("-a.io", LOGIN, {"host": "pattern"}),
        ("a..io", LOGIN, {"host": "pattern"}),
        (f"{'a' * 251}.io", LOGIN, {"host": "pattern"}),
        ("ghcr.io", {"username": "a:b", "password": "x"}, {"username": "pattern"}),
        ("ghcr.io", {"username": "", "password": ""}, {"username": "pattern", "password": "empty"}),
        ("ghcr.io", {"username": "a\nb", "password": "a\0b"}, {"username": "pattern", "password": "null_byte"}),
        ("ghcr.io", {"username": "a", "password": "ä" * (8 * 1024 + 1)}, {"password": "too_large"}),
    ],
)
async def test_what_is_no_credential_is_refused(
    sqlite_world: ApiWorld, host: str, body: dict[str, str], wrong: dict[str, str]
):
    owner = await sqlite_world.browser("owner")

    answer = await owner.put(f"{URL}/{host}", json=body)

    if answer.status_code != 404:  # a slash makes it another path, which nothing serves
        assert (answer.status_code, _fields(answer)) == (422, wrong)
    assert (await owner.get(URL)).json()["items"] == []


async def test_a_key_file_in_many_lines_is_kept_whole(sqlite_world: ApiWorld):
    owner = await sqlite_world.browser("owner")
    key = '{\n  "type": "service_account",\n  "private_key": "…"\n}\n'

    await owner.put(f"{URL}/ghcr.io", json={"username": "_json_key", "password": key})
    workload = await _workload(sqlite_world, await owner.post("/api/v1/pods", json=PLAIN))

    assert workload.pull_credential is not None
    assert workload.pull_credential.password.reveal() == key


async def test_one_person_keeps_so_many_and_replaces_what_is_there(database: Database):
    async with api_world(database, limits={"registries_per_user": 2}) as world:
        owner = await world.browser("owner")
        for host in ("a.io", "b.io"):
            await owner.put(f"{URL}/{host}", json=LOGIN)

        more = await owner.put(f"{URL}/c.io", json=LOGIN)
        same = await owner.put(f"{URL}/b.io", json=LOGIN)

    assert (more.status_code, more.json()["code"]) == (409, "too_many_registries")
    assert same.status_code == 200


async def test_a_key_that_only_reads_lists_and_sets_nothing(sqlite_world: ApiWorld):
    reader = await sqlite_world.program("owner", Scope.READ)

    assert (await reader.get(URL)).status_code == 200
    assert (await reader.put(f"{URL}/ghcr.io", json=LOGIN)).status_code == 403
    assert (await reader.delete(f"{URL}/ghcr.io")).status_code == 403


async def test_what_a_deleted_user_kept_is_gone(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    await owner.put(f"{URL}/ghcr.io", json=LOGIN)
    await outsider.put(f"{URL}/ghcr.io", json=LOGIN)

    async with world.database.write() as session:
        await world.parts.owners.delete_user(
            session, world.person("owner").id, volumes=VolumesAtEnd.KEEP, actor=MACHINE
        )

    async with world.database.read() as session:
        kept = [row.owner_id for row in await session.scalars(select(RegistryRow))]
    assert kept == [world.person("outsider").id]
