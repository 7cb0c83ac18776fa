"""SECURITY 35: a secret's ciphertext opens only in its own row, and its value is in no file, log or answer."""

import logging
from pathlib import Path

import pytest
import structlog
from sqlalchemy import select
from sqlalchemy.engine import make_url

from neuropod.accounts.registries.records import RegistryRow
from neuropod.accounts.secrets.records import SecretRow
from neuropod.db.engine import Database
from neuropod.kit.secrets import WrongKeyError
from support.api import POD, ApiWorld, api_world
from support.workloads import workload_of

VALUE = "hf_a-value-that-nobody-is-shown"
NAMING = POD | {"env": {"TOKEN": {"secret": "HF_TOKEN"}}}


@pytest.mark.parametrize("thief", ["of another user", "by another name"])
async def test_a_ciphertext_that_was_put_elsewhere_does_not_open(world: ApiWorld, thief: str):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    await owner.put("/api/v1/secrets/HF_TOKEN", json={"value": VALUE})
    asks, name = (outsider, "HF_TOKEN") if thief == "of another user" else (owner, "OTHER")
    await asks.put(f"/api/v1/secrets/{name}", json={"value": "their own"})
    pod = (await asks.post("/api/v1/pods", json=POD | {"env": {"TOKEN": {"secret": name}}})).json()["id"]
    async with world.database.write() as session:
        rows = {(row.owner_id, row.name): row for row in await session.scalars(select(SecretRow))}
        mine = rows.pop((world.person("owner").id, "HF_TOKEN"))
        (theirs,) = rows.values()
        theirs.sealed = mine.sealed

    with pytest.raises(WrongKeyError):
        await workload_of(world.database, world.parts.pods, pod)


PLAIN = {"name": "lab", "image": "ghcr.io/lab/x", "volume": None}
REGISTRIES = "/api/v1/registries"


async def test_a_registrys_password_that_was_put_elsewhere_does_not_open(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    for asks, password in ((owner, VALUE), (outsider, "their own")):
        await asks.put(f"{REGISTRIES}/ghcr.io", json={"username": "ada", "password": password})
    pod = (await outsider.post("/api/v1/pods", json=PLAIN)).json()["id"]
    async with world.database.write() as session:
        rows = {row.owner_id: row for row in await session.scalars(select(RegistryRow))}
        rows[world.person("outsider").id].sealed = rows[world.person("owner").id].sealed

    with pytest.raises(WrongKeyError):
        await workload_of(world.database, world.parts.pods, pod)


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []

    def keep(_, __, event):
        lines.append(repr(event))
        raise structlog.DropEvent

    earlier = structlog.get_config()
    structlog.configure(processors=[structlog.processors.format_exc_info, keep], cache_logger_on_first_use=False)
    yield lambda: "\n".join([*lines, *(record.getMessage() + (record.exc_text or "") for record in caplog.records)])
    structlog.configure(**earlier)


async def test_a_value_is_in_no_file_log_or_answer(sqlite_url: str, logged):
    database = Database(sqlite_url)
    folder = Path(make_url(sqlite_url).database or "").parent
    answers = []

    async with api_world(database) as world:
        owner = await world.browser("owner")
        bodies = ({"value": VALUE}, {"value": [VALUE]}, {"value": VALUE, "more": VALUE}, {"value": VALUE + "\0"})
        answers += [await owner.put("/api/v1/secrets/HF_TOKEN", json=body) for body in bodies]
        answers.append(await owner.put(f"/api/v1/secrets/{'X' * 200}", json={"value": VALUE}))
        made = await owner.post("/api/v1/pods", json=NAMING, headers={"idempotency-key": "one"})
        await world.run(made.json()["id"])
        answers += [made, await owner.post("/api/v1/pods", json=NAMING, headers={"idempotency-key": "one"})]
        for path in ("secrets", "pods", "pods/lab", "pods/lab/events", "audit"):
            answers += [await owner.get(f"/api/v1/{path}")]
        answers.append(await owner.delete("/api/v1/secrets/HF_TOKEN"))
        given = [one.workload.env["TOKEN"].reveal() for one in world.fake.standing.values()]
        files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    await database.aclose()

    assert given == [VALUE]  # the way there works, and still:
    assert [answer.status_code for answer in answers[:5]] == [200, 422, 422, 422, 422]
    assert all(VALUE not in answer.text for answer in answers)
    assert any(b"HF_TOKEN" in content for content in files.values())
    assert all(VALUE.encode() not in content for content in files.values())
    assert "/api/v1/secrets" in logged()
    assert VALUE not in logged()


async def test_a_registrys_password_is_in_no_file_log_or_answer(sqlite_url: str, logged):
    database = Database(sqlite_url)
    folder = Path(make_url(sqlite_url).database or "").parent
    login = {"username": "ada", "password": VALUE}
    answers = []

    async with api_world(database) as world:
        owner = await world.browser("owner")
        bodies = (login, login | {"password": [VALUE]}, login | {"more": VALUE}, login | {"password": VALUE + "\0"})
        answers += [await owner.put(f"{REGISTRIES}/ghcr.io", json=body) for body in bodies]
        made = await owner.post("/api/v1/pods", json=PLAIN)
        await world.run(made.json()["id"])
        answers.append(made)
        for path in ("registries", "pods", "pods/lab", "pods/lab/events", "audit"):
            answers.append(await owner.get(f"/api/v1/{path}"))
        answers.append(await owner.delete(f"{REGISTRIES}/ghcr.io"))
        given = [one.workload.pull_credential for one in world.fake.standing.values()]
        files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    await database.aclose()

    assert [login and login.password.reveal() for login in given] == [VALUE]  # the way there works, and still:
    assert [answer.status_code for answer in answers[:4]] == [200, 422, 422, 422]
    assert all(VALUE not in answer.text for answer in answers)
    assert any(b"ghcr.io" in content for content in files.values())
    assert all(VALUE.encode() not in content for content in files.values())
    assert REGISTRIES in logged()
    assert VALUE not in logged()
