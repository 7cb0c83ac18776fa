"""Health, metrics, the system, the OpenAPI document, defects."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from neuropod.api.app import build_api
from neuropod.db.engine import Database
from neuropod.words import Scope
from support.api import POD, ApiWorld


async def test_ready_is_who_heard_from_all_parts_that_are_needed(sqlite_world: ApiWorld):
    board, nobody = sqlite_world.parts.board, sqlite_world.http()
    statuses = [(await nobody.get("/readyz")).status_code]

    board.expect("pods loop")
    statuses.append((await nobody.get("/readyz")).status_code)
    board.report("pods loop", ok=True, good_seconds=30)
    statuses.append((await nobody.get("/readyz")).status_code)
    await sqlite_world.clock.advance(31)
    statuses.append((await nobody.get("/readyz")).status_code)

    assert statuses == [200, 503, 200, 503]
    assert (await nobody.get("/healthz")).status_code == 200


async def test_a_server_whose_database_is_away_is_not_ready(sqlite_world: ApiWorld, monkeypatch: pytest.MonkeyPatch):
    away = Database("postgresql://neuropod@127.0.0.1:1/neuropod")
    monkeypatch.setattr(sqlite_world.parts.database, "engine", away.engine)

    answers = [(await sqlite_world.http().get(path)).status_code for path in ("/readyz", "/healthz")]

    assert answers == [503, 200]
    await away.aclose()


async def test_metrics_count_requests_by_route_and_never_by_pod(sqlite_world: ApiWorld):
    owner, operator = await sqlite_world.browser("owner"), await sqlite_world.program("admin", *Scope)
    pod = (await owner.post("/api/v1/pods", json=POD)).json()["id"]
    await owner.get(f"/api/v1/pods/{pod}")
    sqlite_world.parts.board.report("pods loop", ok=False)

    text = (await operator.get("/metrics")).text

    assert 'neuropod_http_requests_total{method="GET",route="/api/v1/pods/{pod}",status="200"} 1.0' in text
    assert 'neuropod_part_ok{part="pods loop"} 0.0' in text
    assert "neuropod_write_transactions " in text
    assert pod not in text


async def test_the_system_tells_operators_more(sqlite_world: ApiWorld):
    owner, operator = await sqlite_world.browser("owner"), await sqlite_world.program("admin", *Scope)
    sqlite_world.parts.board.report("pods loop", ok=True, message="12 rows", seconds=0.01)

    theirs, operators = (await owner.get("/api/v1/system")).json(), (await operator.get("/api/v1/system")).json()

    assert theirs["runtimes"] == [
        {"id": "fake:one", "name": "fake", "capabilities": ["exec", "images", "recipes", "tenant_isolation", "usage", "volumes"], "mode": None,
         "guarantees": None, "notes": None, "capacity": None}
    ]  # fmt: skip
    assert (theirs["parts"], theirs["unopened"]) == (None, None)
    assert operators["unopened"] == []
    assert operators["runtimes"][0]["mode"] == "fake"
    assert operators["parts"][0]["details"] == {"seconds": 0.01}
    assert operators["console_url"] == "http://app.neuropod.localhost:8080"
    assert operators["api_url"] == "http://api.neuropod.localhost:8080"


async def test_a_defect_is_a_500_that_tells_nothing_and_a_log_line_that_does(
    sqlite_world: ApiWorld, monkeypatch: pytest.MonkeyPatch
):
    owner = await sqlite_world.browser("owner")

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(sqlite_world.parts.pods, "show_pod", broken)
    with capture_logs() as logs:
        answer = await owner.get("/api/v1/pods/lab")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert [(line["log_level"], line["event"]) for line in logs if line["log_level"] == "error"] == [
        ("error", "a request failed")
    ]


async def test_gpu_types_tell_what_is_free(world: ApiWorld):
    owner = await world.browser("owner")
    pod = (await owner.post("/api/v1/pods", json=POD)).json()
    before = (await owner.get("/api/v1/gpu-types")).json()["items"]

    await world.run(pod["id"])
    after = (await owner.get("/api/v1/gpu-types")).json()["items"]

    cpu = [next(row for row in rows if row["name"] == "cpu") for rows in (before, after)]
    assert [row["total"] - row["free"] for row in cpu] == [0, 1]
    assert cpu[0]["price"] == {"per_hour": "0.30", "per_hour_micros": 300_000, "currency": "EUR"}


async def test_templates_say_what_runs_here(world: ApiWorld):
    owner = await world.browser("owner")

    listed = (await owner.get("/api/v1/templates")).json()["items"]
    shown = (await owner.get("/api/v1/templates/jupyterlab")).json()

    assert shown | {"readme_html": None} in listed  # made for one template only: a hostile readme takes seconds
    assert (shown["runnable"], shown["why_not"], shown["jupyter"]) == (True, None, "platform")
    assert (await owner.get("/api/v1/templates/none")).status_code == 404


async def _document(world: ApiWorld) -> dict[str, Any]:
    return (await (await world.browser("owner")).get("/api/v1/openapi.json")).json()


async def test_the_openapi_document_is_whole(sqlite_world: ApiWorld):
    document = await _document(sqlite_world)

    text = json.dumps(document)
    references = {part.partition('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert document["openapi"].startswith("3.1")
    assert references <= set(document["components"]["schemas"])
    assert len(names) == len(set(names))
    assert all("default" in operation["responses"] for operation in operations)
    assert "HTTPValidationError" not in text


async def test_requests_refuse_unknown_fields_in_the_document_too(sqlite_world: ApiWorld):
    document = await _document(sqlite_world)
    schemas = document["components"]["schemas"]

    shapes = [
        operation["requestBody"]["content"]["application/json"]["schema"]
        for path in document["paths"].values()
        for operation in path.values()
        if "requestBody" in operation
    ]
    bodies = [
        one["$ref"].rpartition("/")[2]
        for shape in shapes
        for one in shape.get("anyOf", [shape])  # a body that may be left out
        if one.get("type") != "null"
    ]

    assert "PodCreate" in bodies
    assert [name for name in bodies if schemas[name].get("additionalProperties") is not False] == []
    assert schemas["PodCreate"]["properties"]["gpu_count"]["minimum"] == 1


async def test_the_app_can_be_built_twice_in_one_process(sqlite_world: ApiWorld):
    assert build_api(sqlite_world.parts) is not build_api(sqlite_world.parts)
