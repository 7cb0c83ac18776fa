"""Who may call what: a row per route, a column per caller; a route without a row fails (DESIGN §8, SECURITY 30)."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from httpx import AsyncClient
from sqlalchemy import select

from neuropod.accounts.access import MACHINE
from neuropod.accounts.records import SessionRow
from neuropod.api.app import build_routes
from neuropod.words import Role, Scope
from support.api import POD, ApiWorld

# Methods and path: status for nobody, an outsider, the owner, an administrator (each of the last three by session), and
# for the owner's key of scopes read and write. `{pod}` is a running pod of the owner's, `{key}` a key of theirs.
# What changes the pod for good comes with a pod of its own.
TABLE: dict[str, tuple[int, int, int, int, int]] = {
    "POST /api/v1/session": (401, 401, 401, 401, 403),  # a wrong password; a key's host has no sign-in
    "GET /api/v1/session": (401, 200, 200, 200, 403),
    "DELETE /api/v1/session": (401, 204, 204, 204, 403),
    "GET /api/v1/me": (401, 200, 200, 200, 200),
    "PATCH /api/v1/me": (401, 200, 200, 200, 403),
    "PUT /api/v1/me/password": (401, 204, 204, 204, 403),
    "GET /api/v1/me/sessions": (401, 200, 200, 200, 200),
    "DELETE /api/v1/me/sessions": (401, 200, 200, 200, 200),
    "DELETE /api/v1/me/sessions/{session_id}": (401, 404, 204, 404, 204),
    "GET /api/v1/users": (401, 403, 403, 200, 403),
    "POST /api/v1/users": (401, 403, 403, 201, 403),
    "GET /api/v1/users/{user}": (401, 403, 403, 200, 403),
    "PATCH /api/v1/users/{user}": (401, 403, 403, 200, 403),
    "DELETE /api/v1/users/{user}": (401, 403, 403, 202, 403),
    "POST /api/v1/users/{user}/suspend": (401, 403, 403, 200, 403),
    "POST /api/v1/users/{user}/reinstate": (401, 403, 403, 200, 403),
    "POST /api/v1/users/{user}/sign-in-link": (401, 403, 403, 201, 403),
    "GET /api/v1/users/{user}/sessions": (401, 403, 403, 200, 403),
    "DELETE /api/v1/users/{user}/sessions": (401, 403, 403, 200, 403),
    "DELETE /api/v1/users/{user}/sessions/{session_id}": (401, 403, 403, 204, 403),
    "GET /api/v1/users/{user}/api-keys": (401, 403, 403, 200, 403),
    "DELETE /api/v1/users/{user}/api-keys/{key_id}": (401, 403, 403, 404, 403),
    "GET /api/v1/users/{user}/identities": (401, 403, 403, 200, 403),
    "POST /api/v1/users/{user}/identities": (401, 403, 403, 409, 403),  # no provider is set here
    "DELETE /api/v1/users/{user}/identities/{identity_id}": (401, 403, 403, 404, 403),
    "GET /api/v1/audit": (401, 200, 200, 200, 200),
    "GET /api/v1/api-keys": (401, 200, 200, 200, 200),
    "POST /api/v1/api-keys": (401, 201, 201, 201, 403),
    "DELETE /api/v1/api-keys/{key_id}": (401, 404, 204, 404, 403),
    "POST /api/v1/key-requests": (201, 201, 201, 201, 201),
    "POST /api/v1/key-requests/{request_id}/claim": (404, 404, 404, 404, 404),  # the program's secret decides
    "GET /api/v1/templates": (401, 200, 200, 200, 200),
    "GET /api/v1/templates/{template}": (401, 200, 200, 200, 200),
    "POST /api/v1/templates": (401, 201, 201, 201, 201),
    "PATCH /api/v1/templates/{template}": (401, 403, 403, 403, 403),  # one that comes with Neuropod; test_templates.py
    "DELETE /api/v1/templates/{template}": (401, 403, 403, 403, 403),
    "POST /api/v1/templates/{template}/duplicate": (401, 201, 201, 201, 201),
    "GET /api/v1/gpu-types": (401, 200, 200, 200, 200),
    "POST /api/v1/gpu-types": (401, 403, 403, 201, 403),
    "PATCH /api/v1/gpu-types/{gpu_type}": (401, 403, 403, 200, 403),
    "DELETE /api/v1/gpu-types/{gpu_type}": (401, 403, 403, 204, 403),
    "POST /api/v1/pods": (401, 201, 201, 201, 201),
    "GET /api/v1/pods": (401, 200, 200, 200, 200),
    "POST /api/v1/pods/quote": (401, 200, 200, 200, 200),
    "GET /api/v1/pods/{pod}": (401, 404, 200, 200, 200),
    "PATCH /api/v1/pods/{pod}": (401, 404, 409, 409, 409),  # running: restart_required
    "DELETE /api/v1/pods/{pod}": (401, 404, 202, 202, 202),
    "POST /api/v1/pods/{pod}/start": (401, 404, 200, 200, 200),
    "POST /api/v1/pods/{pod}/stop": (401, 404, 200, 200, 200),
    "POST /api/v1/pods/{pod}/restart": (401, 404, 200, 200, 200),
    "GET /api/v1/pods/{pod}/logs": (401, 404, 200, 200, 200),
    "GET /api/v1/pods/{pod}/usage": (401, 404, 200, 200, 200),
    "GET /api/v1/pods/{pod}/exec": (401, 404, 409, 409, 409),  # not running; the WebSocket: test_exec.py
    "GET /api/v1/pods/{pod}/events": (401, 404, 200, 200, 200),
    "GET /api/v1/pods/{pod}/ports": (401, 404, 200, 200, 200),
    "POST /api/v1/pods/{pod}/ports": (401, 404, 201, 201, 201),
    "PATCH /api/v1/pods/{pod}/ports/{port}": (401, 404, 200, 200, 200),
    "DELETE /api/v1/pods/{pod}/ports/{port}": (401, 404, 204, 204, 204),
    "POST /api/v1/pods/{pod}/ports/{port}/link": (401, 404, 200, 200, 200),
    "GET /api/v1/volumes": (401, 200, 200, 200, 200),
    "POST /api/v1/volumes": (401, 201, 201, 201, 201),
    "GET /api/v1/volumes/{volume}": (401, 404, 200, 200, 200),
    "PATCH /api/v1/volumes/{volume}": (401, 404, 200, 200, 200),
    "DELETE /api/v1/volumes/{volume}": (401, 404, 204, 204, 204),
    "GET /api/v1/secrets": (401, 200, 200, 200, 200),
    "PUT /api/v1/secrets/{secret}": (401, 200, 200, 200, 200),  # names are one's own: each sets theirs
    "DELETE /api/v1/secrets/{secret}": (401, 404, 204, 404, 204),
    "GET /api/v1/registries": (401, 200, 200, 200, 200),
    "PUT /api/v1/registries/{registry}": (401, 200, 200, 200, 200),  # hosts are for all: each sets who they are there
    "DELETE /api/v1/registries/{registry}": (401, 404, 204, 404, 204),
    "GET /api/v1/system/epoch": (401, 403, 403, 200, 403),
    "POST /api/v1/system/epoch/confirm": (401, 403, 403, 200, 403),
    "GET /api/v1/events": (401, 200, 200, 200, 200),
    "GET /api/v1/system": (401, 200, 200, 200, 200),
    "GET /metrics": (401, 403, 403, 200, 403),
    "GET /healthz": (200, 200, 200, 200, 200),
    "GET /readyz": (200, 200, 200, 200, 200),
    # Pages: nobody is led to the sign-in; keys are led to the console's host (307)
    "GET /": (303, 200, 200, 200, 307),
    "GET /sign-in": (200, 303, 303, 303, 307),
    "POST /sign-in": (403, 401, 401, 401, 307),  # nobody comes from no page of ours; the others' password is wrong
    "GET /sign-in/link": (200, 200, 200, 200, 307),
    "POST /sign-in/link": (403, 401, 401, 401, 307),
    "GET /auth/oidc/start": (404, 404, 404, 404, 307),  # no provider is set here
    "GET /auth/oidc/callback": (404, 404, 404, 404, 307),
    "POST /sign-out": (303, 303, 303, 303, 307),
    "GET /password": (303, 200, 200, 200, 307),
    "POST /password": (303, 303, 303, 303, 307),
    "GET /connect": (303, 200, 200, 200, 307),
    "POST /connect": (303, 404, 404, 404, 307),
    "GET /gate/continue": (303, 404, 404, 404, 307),
    "POST /pods/{pod}/ports/{port}/open": (303, 404, 303, 303, 307),
    "GET /static/{version}/{name}": (200, 200, 200, 200, 307),
}  # fmt: skip

CALLERS = ("nobody", "outsider", "owner", "admin", "key")

BODIES: dict[str, dict[str, Any]] = {
    "POST /api/v1/session": {"json": {"email": "owner@example.org", "password": "wrong"}},
    "PATCH /api/v1/me": {"json": {"name": "Somebody Else"}},
    "PUT /api/v1/me/password": {"json": {"new_password": "a better password"}},
    "POST /api/v1/users": {"json": {"email": "new@example.org"}},
    "PATCH /api/v1/users/{user}": {"json": {"name": "Somebody Else"}},
    "POST /api/v1/users/{user}/identities": {"json": {"subject": "s-1"}},
    "DELETE /api/v1/users/{user}": {"params": {"volumes": "keep"}},
    "POST /api/v1/api-keys": {"json": {"name": "laptop", "scopes": ["read"]}},
    "POST /api/v1/key-requests": {"json": {"name": "laptop", "scopes": ["read"]}},
    "POST /api/v1/key-requests/{request_id}/claim": {"json": {"secret": "wrong"}},
    "POST /api/v1/gpu-types": {
        "json": {"name": "h100", "price": {"per_hour": "3"}, "cpu_cores": 8, "memory_gb": 64, "model_pattern": "H100"}
    },
    "PATCH /api/v1/templates/{template}": {"json": {"title": "Another"}},
    "PATCH /api/v1/gpu-types/{gpu_type}": {"json": {"price": {"per_hour_micros": 1}}},
    "POST /api/v1/pods/quote": {"json": POD},
    "PATCH /api/v1/pods/{pod}": {"json": {"container_disk_gb": 20}},
    "POST /api/v1/pods/{pod}/ports": {"json": {"port": 5000}},
    "PATCH /api/v1/pods/{pod}/ports/{port}": {"json": {"access": "public"}},
    "PATCH /api/v1/volumes/{volume}": {"json": {"size_gb": 30}},
    "PUT /api/v1/secrets/{secret}": {"json": {"value": "hunter2"}},
    "PUT /api/v1/registries/{registry}": {"json": {"username": "ada", "password": "hunter2"}},
    "POST /sign-in": {"data": {"email": "owner@example.org", "password": "wrong"}},
    "POST /sign-in/link": {"data": {"token": "wrong"}},
    "POST /password": {"data": {"new_password": "a better password"}},
    "POST /connect": {"data": {"code": "XXXX-XXXX", "decision": "confirm"}},
}


def _routes(world: ApiWorld) -> Iterator[str]:
    for context in iter_route_contexts(build_routes(world.parts).routes):
        for method in sorted(set(context.methods or ()) - {"HEAD"}):
            yield f"{method} {context.path}"


async def _clients(world: ApiWorld) -> dict[str, AsyncClient]:
    return {
        "nobody": world.http(),
        "outsider": await world.browser("outsider"),
        "owner": await world.browser("owner"),
        "admin": await world.browser("admin"),
        "key": await world.program("owner", Scope.READ, Scope.WRITE),
    }


async def _somebody(world: ApiWorld, number: int, *, own: bool) -> dict[str, str]:
    """Return somebody with a session: the owner, or a person made for this."""
    if not own:
        async with world.database.write() as session:
            world.people["other"] = await world.parts.accounts.create_user(
                session, email=f"other{number}@example.org", role=Role.CLIENT, actor=MACHINE
            )
    name = "owner" if own else "other"
    await world.session_token(name)
    async with world.database.read() as session:
        newest = select(SessionRow.id).where(SessionRow.user_id == world.person(name).id).order_by(SessionRow.id.desc())
        session_id = await session.scalar(newest.limit(1))
    assert session_id is not None
    return {"user": world.person(name).id, "session_id": session_id}


async def _end_streams(world: ApiWorld) -> None:
    """End every event stream as a server does that ends; the answer is over only then."""
    while True:
        world.parts.feed.end()
        await asyncio.sleep(0.01)


async def test_every_route_has_its_row(sqlite_world: ApiWorld):
    assert set(_routes(sqlite_world)) - {"GET /api/v1/openapi.json"} == set(TABLE)


@pytest.mark.parametrize("route", TABLE)
async def test_who_may_call(sqlite_world: ApiWorld, route: str):
    owner = await sqlite_world.browser("owner")
    clients = await _clients(sqlite_world)
    method, path = route.split(" ")
    values = {
        "port": "8888",
        "request_id": "krq_none",
        "identity_id": "idn_none",
        "key_id": "key_none",
        "template": "jupyterlab",
        "gpu_type": "rtx-4050",
        "version": "1",
        "name": "pages.css",
    }
    things = []
    for number in range(len(CALLERS)):
        if "{pod}" in path:
            answer = await owner.post("/api/v1/pods", json=POD | {"name": f"lab{number}"})
            things.append({"pod": answer.json()["id"]})
        elif "{volume}" in path:
            answer = await owner.post("/api/v1/volumes", json={"name": f"data{number}", "size_gb": 20})
            things.append({"volume": answer.json()["id"]})
        elif "{registry}" in path:
            await owner.put(
                f"/api/v1/registries/r{number}.example.org", json={"username": "ada", "password": "hunter2"}
            )
            things.append({"registry": f"r{number}.example.org"})
        elif "{secret}" in path:
            await owner.put(f"/api/v1/secrets/TOKEN_{number}", json={"value": "hunter2"})
            things.append({"secret": f"TOKEN_{number}"})
        elif "/users/{user}" in path or "{session_id}" in path:
            things.append(await _somebody(sqlite_world, number, own="/me/" in path))
        else:
            answer = await owner.post("/api/v1/api-keys", json={"name": "k", "scopes": ["read"]})
            things.append({"key_id": answer.json()["id"]})
    statuses = []
    ending = asyncio.create_task(_end_streams(sqlite_world))

    for caller, thing in zip(CALLERS, things, strict=True):
        values |= thing
        body = BODIES.get(route, {})
        if route == "POST /api/v1/pods":
            body = {"json": POD | {"name": f"of-{caller}"}}
        if route == "POST /api/v1/templates":
            body = {"json": {"name": f"of-{caller}", "title": "One", "image": "plain"}}
        if route == "POST /api/v1/templates/{template}/duplicate":
            body = {"json": {"name": f"of-{caller}"}}
        if route == "POST /api/v1/volumes":
            body = {"json": {"name": f"of-{caller}", "size_gb": 20}}
        answer = await clients[caller].request(method, path.format(**values), **body)
        statuses.append(answer.status_code)
    ending.cancel()

    assert dict(zip(CALLERS, statuses, strict=True)) == dict(zip(CALLERS, TABLE[route], strict=True))
