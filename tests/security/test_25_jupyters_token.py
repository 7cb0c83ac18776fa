"""SECURITY 25: Jupyter's token is in the link alone: not in logs, events, audit rows, lists, pages or metrics."""

import io
import logging

import pytest
import structlog
from sqlalchemy import text

from neuropod.observability.logs import configure
from neuropod.words import Scope
from support.api import POD, ApiWorld


@pytest.fixture
def log():
    root = logging.getLogger()
    before = (root.handlers, root.level)
    stream = io.StringIO()
    configure("json", "debug", stream)
    yield stream
    root.handlers, level = before
    root.setLevel(level)
    structlog.reset_defaults()


async def test_the_token_is_found_nowhere_but_in_the_link(world: ApiWorld, log: io.StringIO):
    owner, operator = await world.browser("owner"), await world.program("admin", *Scope)
    pod = (await owner.post("/api/v1/pods", json=POD)).json()["id"]
    await world.run(pod)

    link = (await owner.post(f"/api/v1/pods/{pod}/ports/8888/link")).json()["url"]
    token = link.partition("token=")[2]
    opened = await owner.post(f"/pods/{pod}/ports/8888/open")
    await owner.get(f"/api/v1/pods/{pod}?token={token}")  # somebody pastes it where it does not belong
    await owner.get(f"/?token={token}")
    await world.http().get(f"/api/v1/pods?token={token}")

    assert len(token) >= 32
    assert token in opened.headers["location"]
    told = [log.getvalue()]
    paths = (f"/api/v1/pods/{pod}", "/api/v1/pods", f"/api/v1/pods/{pod}/events", f"/api/v1/pods/{pod}/logs",
             f"/api/v1/pods/{pod}/ports", "/api/v1/me", "/")  # fmt: skip
    told += [(await owner.get(path)).text for path in paths]
    told += [(await operator.get(path)).text for path in ("/metrics", "/api/v1/system")]
    async with world.database.read() as session:
        for table in ("events", "audit", "pods", "ports", "incarnations", "idempotency", "templates", "sessions"):
            told.append(str((await session.execute(text(f"SELECT * FROM {table}"))).all()))
    assert [place for place in told if token in place] == []
    assert log.getvalue().count('"event": "request"') > 8


async def test_a_link_is_made_by_post_alone_and_is_never_kept(world: ApiWorld):
    owner = await world.browser("owner")
    pod = (await owner.post("/api/v1/pods", json=POD)).json()["id"]

    by_get = [
        (await owner.get(path)).status_code
        for path in (f"/api/v1/pods/{pod}/ports/8888/link", f"/pods/{pod}/ports/8888/open")
    ]
    by_post = await owner.post(f"/api/v1/pods/{pod}/ports/8888/link")
    opened = await owner.post(f"/pods/{pod}/ports/8888/open")

    assert by_get == [405, 405]
    assert by_post.headers["cache-control"] == opened.headers["cache-control"] == "no-store"
    assert opened.headers["referrer-policy"] == "no-referrer"


async def test_an_administrator_who_is_not_the_owner_gets_no_token(world: ApiWorld):
    owner, admin = await world.browser("owner"), await world.browser("admin")
    pod = (await owner.post("/api/v1/pods", json=POD)).json()["id"]

    link = (await admin.post(f"/api/v1/pods/{pod}/ports/8888/link")).json()["url"]

    assert "token" not in link
