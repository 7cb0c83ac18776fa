"""SECURITY 34: `/metrics` and the system's inside are for operators; events and logs are one's own, streamed too."""

import pytest

from neuropod.words import Scope
from support.api import POD, ApiWorld
from support.streams import follow


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
    assert '"servers":null' in system


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


async def test_the_stream_of_events_tells_each_of_two_people_of_their_own_alone(world: ApiWorld):
    readers = {who: await follow(world, who) for who in ("owner", "outsider")}
    pods = {}
    for who in readers:
        pods[who] = (await (await world.browser(who)).post("/api/v1/pods", json=POD)).json()["id"]

    await world.news.look()
    told = {who: (await reader.next())["data"] for who, reader in readers.items()}
    world.parts.feed.end()

    for who, reader in readers.items():
        assert (told[who]["kind"], told[who]["pod_id"]) == ("pod.launched", pods[who])
        assert told[who]["pod"]["owner"]["email"] == f"{who}@example.org"
        with pytest.raises(EOFError):
            await reader.next()
