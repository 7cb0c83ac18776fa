"""SECURITY 27: a key makes no keys, sets no passwords, changes no roles; its rights are its scopes and its owner's role."""

from itertools import chain, combinations

import pytest

from neuropod.accounts.visitors import Visitors
from neuropod.db.engine import Database
from neuropod.words import Role, Scope
from support.api import POD, ApiWorld, api_world

SETS = [frozenset(chosen) for chosen in chain.from_iterable(combinations(Scope, size) for size in range(1, 5))]
CLOSED = [
    ("POST", "/api/v1/api-keys", {"name": "more", "scopes": ["read"]}),
    ("DELETE", "/api/v1/api-keys/{key}", None),
    ("PUT", "/api/v1/me/password", {"new_password": "a password of the key's"}),
    ("PATCH", "/api/v1/me", {"name": "somebody else"}),
    ("GET", "/api/v1/session", None),
    ("DELETE", "/api/v1/session", None),
    ("POST", "/api/v1/users", {"email": "root@example.org", "role": "admin"}),
    ("PATCH", "/api/v1/users/outsider@example.org", {"role": "admin"}),
    ("POST", "/api/v1/users/outsider@example.org/sign-in-link", None),
]


def _named(scopes: frozenset[Scope]) -> str:
    return "+".join(sorted(scopes))


@pytest.mark.parametrize("scopes", SETS, ids=_named)
@pytest.mark.parametrize("owner", ["owner", "admin"])
async def test_the_matrix(sqlite_world: ApiWorld, scopes: frozenset[Scope], owner: str):
    world = sqlite_world
    key = await world.key(owner, *scopes)
    program = world.http("http://127.0.0.1:8080", authorization=f"Bearer {key}")
    other = await world.browser("outsider")
    theirs = (await other.post("/api/v1/pods", json=POD)).json()["id"]
    is_admin = owner == "admin" and Scope.ADMIN in scopes

    closed = [
        (await program.request(method, path.format(key="key_x"), json=body)).status_code
        for method, path, body in CLOSED
    ]
    reads = (await program.get("/api/v1/pods")).status_code
    writes = (await program.post("/api/v1/pods", json=POD)).status_code
    sees_theirs = (await program.get(f"/api/v1/pods/{theirs}")).status_code
    operates = (await program.get("/metrics")).status_code
    passes = await Visitors(world.database, world.parts.accounts).by_key(key)

    assert closed == [403] * len(CLOSED)
    assert reads == (200 if Scope.READ in scopes else 403)
    assert writes == (201 if Scope.WRITE in scopes else 403)
    assert sees_theirs == (403 if Scope.READ not in scopes else 200 if is_admin else 404)
    assert operates == (200 if is_admin else 403)
    assert (passes is not None) is (Scope.PORTS in scopes)
    assert passes is None or (passes.role is Role.ADMIN) is is_admin


async def test_the_preset_key_may_do_no_more_than_any_other(sqlite_url: str):
    preset = "a-preset-key-of-at-least-32-characters"
    database = Database(sqlite_url)
    async with api_world(database, admin_api_key=preset) as world:
        async with database.write() as session:
            await world.parts.accounts.keys.settle_preset_key(session, world.person("admin"))
        program = world.http("http://127.0.0.1:8080", authorization=f"Bearer {preset}")

        closed = [
            (await program.request(method, path.format(key="key_x"), json=body)).status_code
            for method, path, body in CLOSED
        ]
        operates = (await program.get("/metrics")).status_code

        assert (closed, operates) == ([403] * len(CLOSED), 200)
    await database.aclose()


async def test_a_keys_rights_fall_with_its_owners_role(world: ApiWorld):
    program = await world.program("admin", *Scope)
    before = (await program.get("/metrics")).status_code

    async with world.database.write() as session:
        (await session.merge(world.person("admin"))).role = Role.CLIENT

    assert (before, (await program.get("/metrics")).status_code) == (200, 403)


async def test_a_key_gets_no_way_into_a_browsers_session(sqlite_world: ApiWorld):
    """Neither does it confirm a program's request for a key, nor does it get a ticket for a gate."""
    key = await sqlite_world.key("admin", *Scope)
    program = sqlite_world.http(authorization=f"Bearer {key}")
    asked = (await program.post("/api/v1/key-requests", json={"name": "x", "scopes": ["admin"]})).json()

    confirmed = await program.post("/connect", data={"code": asked["code"], "decision": "confirm"})
    gate = await program.get("/gate/continue?ref=abc")
    claimed = await program.post(f"/api/v1/key-requests/{asked['id']}/claim", json={"secret": asked["secret"]})

    assert confirmed.status_code == 403
    assert gate.headers["location"].startswith("/sign-in")
    assert claimed.json()["status"] == "waiting"
