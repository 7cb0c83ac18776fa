"""SECURITY 28: an Idempotency-Key belongs to its actor, route and body; no secret is kept with it."""

from sqlalchemy import text

from support.api import POD, ApiWorld


async def test_another_persons_key_replays_nothing(world: ApiWorld):
    owner, outsider = await world.browser("owner"), await world.browser("outsider")
    header = {"idempotency-key": "the same"}

    mine = await owner.post("/api/v1/pods", json=POD, headers=header)
    theirs = await outsider.post("/api/v1/pods", json=POD, headers=header)

    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json()["id"] != theirs.json()["id"]
    assert theirs.json()["owner"]["id"] == world.person("outsider").id


async def test_what_is_kept_holds_no_secret(world: ApiWorld):
    owner = await world.browser("owner")
    body = POD | {"env": {"PASSWORD": "hunter2hunter2"}}

    await owner.post("/api/v1/pods", json=body, headers={"idempotency-key": "chosen by hand"})

    async with world.database.read() as session:
        rows = (await session.execute(text("SELECT * FROM idempotency"))).all()
    assert len(rows) == 1
    assert "hunter2" not in str(rows)
    assert "chosen by hand" not in str(rows)
