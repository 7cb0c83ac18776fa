"""SECURITY 34, as far as built: `/metrics` and the system's inside are for operators; events and logs are one's own.

The feed of events (`GET /api/v1/events`) is tested with the issue that builds it.
"""

from neuropod.words import Scope
from support.api import POD, ApiWorld


async def test_metrics_are_for_operators(sqlite_world: ApiWorld):
    asking = {
        "nobody": sqlite_world.http(),
        "client": await sqlite_world.browser("owner"),
        "client's key with all scopes": await sqlite_world.program("owner", *Scope),
        "administrator's key without admin": await sqlite_world.program("admin", Scope.READ, Scope.WRITE, Scope.PORTS),
        "administrator's key": await sqlite_world.program("admin", Scope.ADMIN),
        "administrator": await sqlite_world.browser("admin"),
    }

    answers = {who: (await client.get("/metrics")).status_code for who, client in asking.items()}

    assert list(answers.values()) == [401, 403, 403, 403, 200, 200]


async def test_the_systems_inside_is_for_operators(sqlite_world: ApiWorld):
    sqlite_world.parts.board.report("pods", ok=False, message="owner@example.org's pod lab fails")
    client = await sqlite_world.program("owner", *Scope)

    system = (await client.get("/api/v1/system")).text

    assert "fails" not in system
    assert '"capacity":null' in system


async def test_health_tells_no_more_than_yes_or_no(sqlite_world: ApiWorld):
    sqlite_world.parts.board.report("pods", ok=False, message="owner@example.org's pod lab fails")

    answer = await sqlite_world.http().get("/readyz")

    assert (answer.status_code, answer.text) == (503, "not ready\n")


async def test_of_two_people_neither_sees_the_others_events_or_logs(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    pods = [(await client.post("/api/v1/pods", json=POD)).json()["id"] for client in (owner, outsider)]

    seen = {
        (who, kind): [(await client.get(f"/api/v1/pods/{pod}/{kind}")).status_code for pod in pods]
        for who, client in (("owner", owner), ("outsider", outsider))
        for kind in ("events", "logs", "ports")
    }

    for (who, _), statuses in seen.items():
        assert statuses == ([200, 404] if who == "owner" else [404, 200])
