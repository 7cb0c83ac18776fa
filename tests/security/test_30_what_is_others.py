"""SECURITY 30, generated from the OpenAPI document: no field that is not asked for, nothing of others, by any route.

A new route is in the document and so in these tests; a new kind of thing in a path needs an example of its own here.
"""

import re
from types import SimpleNamespace
from typing import Any

import httpx

from api.test_who_may_call import BODIES
from neuropod.api.app import build_routes
from neuropod.settings import Settings
from support.api import POD, ApiWorld

_SETTINGS = Settings(_env_file=None)
DOCUMENT: dict[str, Any] = build_routes(
    SimpleNamespace(settings=_SETTINGS, addresses=_SETTINGS.addresses(8080))  # type: ignore[arg-type]
).openapi()
OPERATIONS = [
    (method.upper(), path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
WITH_BODY = [f"{method} {path}" for method, path, operation in OPERATIONS if "requestBody" in operation]
WITH_THINGS = [f"{method} {path}" for method, path, _ in OPERATIONS if "{" in path]

# What somebody might try to set of a thing, whatever it is: none of it is theirs to set by that name.
NOT_THEIRS = {
    "id": "usr_x", "owner_id": "usr_x", "user_id": "usr_x", "runtime": "fake:x", "runtime_id": "fake:x", "created_by": "x",
    "hash": "aaaaaaaa", "password_hash": "x", "suspended_at": None, "deleted_at": None, "want": "running",
    "price_micros_per_hour": 0, "balance_micros": 10, "is_admin": True, "preset": True,
}  # fmt: skip
# Things that are nobody's, or that a secret opens and no id.
PUBLIC = {"gpu_type": "cpu", "template": "jupyterlab", "request_id": "krq_none", "port": "8888", "identity_id": "idn_x"}

# Makes or changes the caller's own thing of that name, whatever others have by it.
ONES_OWN = {"PUT /api/v1/secrets/{secret}", "PUT /api/v1/registries/{registry}"}


async def test_a_field_that_is_not_asked_for_is_refused(sqlite_world: ApiWorld):
    admin = await sqlite_world.browser("admin")

    for route in WITH_BODY:
        method, path = route.split(" ")
        shape = _shape(method, path)
        extra = {name: value for name, value in NOT_THEIRS.items() if name not in shape["properties"]}
        answer = await admin.request(method, re.sub(r"{\w+}", "1", path), json=extra)

        refused = {field["field"] for field in answer.json()["fields"] if field["code"] == "unknown"}
        assert (route, answer.status_code, refused) == (route, 422, set(extra))


def _shape(method: str, path: str) -> dict[str, Any]:
    schema = DOCUMENT["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]
    schema = next((one for one in schema.get("anyOf", ()) if "$ref" in one), schema)
    shape: dict[str, Any] = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return shape


async def _things(world: ApiWorld) -> dict[str, str]:
    """Return one of each kind, all of them the owner's."""
    owner = await world.browser("owner")
    pod = (await owner.post("/api/v1/pods", json=POD)).json()
    await owner.put("/api/v1/secrets/TOKEN_OF_THE_OWNER", json={"value": "hunter2"})
    await owner.put("/api/v1/registries/registry.of-the-owner", json={"username": "ada", "password": "hunter2"})
    return {
        "registry": "registry.of-the-owner",
        "pod": pod["id"],
        "volume": pod["volume"]["id"],
        "key_id": (await owner.post("/api/v1/api-keys", json={"name": "k", "scopes": ["read"]})).json()["id"],
        "session_id": (await owner.get("/api/v1/me/sessions")).json()["items"][0]["id"],
        "secret": "TOKEN_OF_THE_OWNER",
        "user": world.person("owner").id,
    }


async def test_a_thing_of_somebody_else_is_answered_like_one_that_is_not_there(sqlite_world: ApiWorld):
    things = await _things(sqlite_world)
    nothing = {name: re.sub(r".{6}$", "zzzzzz", value) for name, value in things.items()}
    outsider = await sqlite_world.browser("outsider")

    for route in WITH_THINGS:
        method, path = route.split(" ")
        named = set(re.findall(r"{(\w+)}", path))
        assert named <= things.keys() | PUBLIC.keys(), f"{route} names a new kind of thing: give an example of it here"
        if not named & things.keys() or route in ONES_OWN:
            continue  # nobody's
        body = BODIES.get(route, {})
        theirs = await outsider.request(method, path.format(**PUBLIC, **things), **body)
        absent = await outsider.request(method, path.format(**PUBLIC, **nothing), **body)

        assert theirs.status_code in {403, 404}, route
        assert theirs.status_code == absent.status_code, route
        assert _without(theirs, things) == _without(absent, nothing), route


def _without(answer: httpx.Response, things: dict[str, str]) -> str:
    text = answer.text
    for value in things.values():
        text = text.replace(value, "…")
    return text


async def test_a_list_holds_only_ones_own_whatever_the_query_says(sqlite_world: ApiWorld):
    world = sqlite_world
    things = await _things(world)
    outsider = await world.browser("outsider")
    owner_id = world.person("owner").id
    lists = [path for method, path, _ in OPERATIONS if method == "GET" and "{" not in path and "events" not in path]

    for path in lists:
        for params in ({}, {"owner": owner_id}, {"owner_id": owner_id}, {"user": owner_id}, {"everybody": "true"}):
            answer = await outsider.get(path, params=params)

            assert answer.status_code < 500
            for value in things.values():
                assert value not in answer.text.replace(owner_id, "") or value == owner_id, (path, params)
            assert "owner@example.org" not in answer.text, (path, params)
