"""The event stream: what is told to whom, going on where it was cut, slow readers, revocation (SECURITY 24, 34)."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import delete, select

from neuropod.accounts.records import SessionRow
from neuropod.api.feeding.feed import EventFeed
from neuropod.api.feeding.followers import MOST_WAITING, Follower, Selection
from neuropod.db.engine import Session
from neuropod.db.events import EventRow, Happening, prune_events, record_event, record_events
from neuropod.ids import PodId, SessionId, UserId
from neuropod.words import Role, Scope
from support.api import POD, ApiWorld
from support.clocks import ManualClock
from support.statements import statements
from support.streams import Reader, follow


@pytest.fixture
async def fed(world: ApiWorld) -> AsyncIterator[ApiWorld]:
    """The API with its reader of events running."""
    tasks = [asyncio.create_task(one.run()) for one in (world.news, world.parts.feed)]
    yield world
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _happen(world: ApiWorld, who: str, kind: str, count: int = 1) -> None:
    async with world.database.write() as session:
        await _record(session, world, who, kind, count)


async def _record(session: Session, world: ApiWorld, who: str, kind: str, count: int) -> None:
    one = Happening(kind, "It happened.", world.clock.now(), UserId(world.person(who).id))
    await record_events(session, [one] * count)


async def test_an_owner_hears_of_their_own_and_an_administrator_of_what_they_ask_for(fed: ApiWorld):
    own = await follow(fed, "owner")
    other = await follow(fed, "outsider")
    admins_own = await follow(fed, "admin")
    everybodys = await follow(fed, "admin", "everybody=true")
    of_one = await follow(fed, "admin", "user=outsider@example.org")

    await _happen(fed, "owner", "thing.made")
    await _happen(fed, "outsider", "other.made")
    await _happen(fed, "admin", "third.made")

    assert [(await own.next())["data"]["kind"]] == ["thing.made"]
    assert [(await other.next())["data"]["kind"]] == ["other.made"]
    assert [(await admins_own.next())["data"]["kind"]] == ["third.made"]
    assert [(await everybodys.next())["data"]["kind"] for _ in range(3)] == ["thing.made", "other.made", "third.made"]
    assert [(await of_one.next())["data"]["kind"]] == ["other.made"]
    for reader in (own, other, admins_own, everybodys, of_one):
        await reader.close()
    assert len(fed.parts.feed) == 0


async def test_what_is_of_others_cannot_be_asked_for(sqlite_world: ApiWorld):
    owner, outsider = await sqlite_world.browser("owner"), await sqlite_world.browser("outsider")
    pod = (await owner.post("/api/v1/pods", json=POD)).json()["id"]
    user = sqlite_world.person("owner").id

    answers = {
        query: await outsider.get(f"/api/v1/events?{query}")
        for query in ("everybody=true", f"user={user}", "user=owner@example.org", f"pod={pod}", "pod=lab", "after=")
    }

    assert {query: answer.status_code for query, answer in answers.items()} == {
        "everybody=true": 403, f"user={user}": 404, "user=owner@example.org": 403, f"pod={pod}": 404, "pod=lab": 404,
        "after=": 422,
    }  # fmt: skip


async def test_an_event_carries_its_pod_as_it_is_and_null_once_it_is_gone(fed: ApiWorld):
    reader = await follow(fed, "owner")
    owner = await fed.browser("owner")

    made = (await owner.post("/api/v1/pods", json=POD)).json()
    launched = await reader.happened("pod.launched")
    await owner.post("/api/v1/pods/lab/ports", json={"port": 5000})
    exposed = await reader.happened("pod.port_added")
    async with fed.database.write() as session:
        await record_event(
            session, "pod.closed", "Gone.", at=fed.clock.now(), owner_id=UserId(made["owner"]["id"]),
            pod_id=PodId("pod_gone"),
        )  # fmt: skip
    closed = await reader.happened("pod.closed")

    assert launched["pod"] == made
    assert 5000 in [port["port"] for port in exposed["pod"]["ports"]]
    assert exposed["pod"] == (await owner.get("/api/v1/pods/lab")).json()
    assert (closed["pod_id"], closed["pod"]) == ("pod_gone", None)
    await reader.close()


async def test_a_stream_of_one_pod_tells_of_no_other(fed: ApiWorld):
    owner = await fed.browser("owner")
    await owner.post("/api/v1/pods", json=POD)
    await owner.post("/api/v1/pods", json=POD | {"name": "other"})
    reader = await follow(fed, "owner", "pod=lab")

    await owner.post("/api/v1/pods/other/stop")
    await owner.post("/api/v1/pods/lab/stop")

    while (event := await reader.next())["name"] != "message":
        pass
    assert event["data"]["kind"] == "pod.stopped"
    assert event["data"]["pod"]["name"] == "lab"
    await reader.close()


async def test_who_comes_back_misses_nothing_and_hears_nothing_twice(fed: ApiWorld):
    first = await follow(fed, "owner")
    await _happen(fed, "owner", "thing.one")
    await first.happened("thing.one")
    await first.close()
    await _happen(fed, "owner", "thing.two", 450)
    await _happen(fed, "outsider", "other.made")

    again = await follow(fed, "owner", begin=False, **{"last-event-id": str(first.last_id)})
    by_query = await follow(fed, "owner", f"after={first.last_id}", begin=False)
    await _happen(fed, "owner", "thing.three")

    for reader in (again, by_query):
        heard = [(await reader.next())["data"] for _ in range(451)]
        assert [one["kind"] for one in heard] == ["thing.two"] * 450 + ["thing.three"]
        assert [one["id"] for one in heard] == sorted({one["id"] for one in heard})
        await reader.close()


@pytest.mark.parametrize("position", ["0.999999", "1.1", "17", "nonsense", "0.-1", "0.999999999999999999999999"])
async def test_a_position_that_was_never_given_out_is_a_reset(sqlite_world: ApiWorld, position: str):
    await _happen(sqlite_world, "owner", "thing.made", 3)

    reader = await follow(sqlite_world, "owner", begin=False, **{"last-event-id": position})
    first = await reader.next()

    assert (first["name"], first["data"]["reason"]) == ("reset", "unknown")
    assert first["id"] == first["data"]["position"] == "0.3"
    await reader.close()


async def test_a_position_before_the_oldest_event_that_is_kept_is_a_reset_and_the_stream_goes_on(fed: ApiWorld):
    await _happen(fed, "owner", "thing.made", 20)
    async with fed.database.write() as session:
        await session.execute(delete(EventRow).where(EventRow.id <= 10))

    lost = await follow(fed, "owner", begin=False, **{"last-event-id": "0.9"})
    complete = await follow(fed, "owner", begin=False, **{"last-event-id": "0.10"})
    first = await lost.next()
    await _happen(fed, "owner", "thing.new")

    assert (first["name"], first["data"]["reason"]) == ("reset", "too_old")
    assert (await lost.next())["data"]["kind"] == "thing.new"
    assert [(await complete.next())["data"]["id"] for _ in range(11)] == list(range(11, 22))
    await lost.close()
    await complete.close()


async def test_a_reader_that_takes_nothing_costs_little_memory_and_gets_everything_in_the_end(fed: ApiWorld):
    slow = await follow(fed, "owner", paused=True)
    quick = await follow(fed, "owner")
    tracemalloc.start()

    for _ in range(10):
        await _happen(fed, "owner", "thing.made", MOST_WAITING // 2)
    count = 10 * (MOST_WAITING // 2)
    heard = [(await quick.next())["data"]["id"] for _ in range(count)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    slow.read_on()
    first = await slow.next()
    late = [(await slow.next())["data"]["id"] for _ in range(count)]

    assert first["name"] == "begin"
    assert heard == late == sorted(set(heard))
    assert peak < 24 * 1024 * 1024
    await slow.close()
    await quick.close()


async def test_a_stream_ends_within_five_seconds_of_a_suspension_also_for_who_takes_nothing(fed: ApiWorld):
    readers = [await follow(fed, "owner"), await follow(fed, "owner", paused=True)]
    other = await follow(fed, "outsider")
    async with fed.database.write() as session:
        (await session.merge(fed.person("owner"))).suspended_at = fed.clock.now()

    assert all([await reader.closed(5) for reader in readers])
    await _happen(fed, "owner", "thing.made")
    await _happen(fed, "outsider", "other.made")

    assert (await other.next())["data"]["kind"] == "other.made"
    with pytest.raises(EOFError):
        await readers[0].next()
    await other.close()


async def test_who_lost_the_right_gets_not_one_event_more_whatever_the_time(world: ApiWorld):
    everybodys = await follow(world, "admin", "everybody=true")
    async with world.database.write() as session:
        (await session.merge(world.person("admin"))).role = Role.CLIENT
        await _record(session, world, "owner", "thing.made", 1)

    await world.news.look()

    assert await everybodys.closed(5)
    with pytest.raises(EOFError):
        await everybodys.next()


async def test_a_revoked_key_ends_its_stream(fed: ApiWorld):
    program = await fed.program("owner", Scope.READ, Scope.WRITE)
    headers = {"host": "127.0.0.1:8080", "authorization": program.headers["authorization"]}
    reader = Reader(fed, "/api/v1/events", headers)
    assert (await reader.next())["name"] == "begin"
    owner = await fed.browser("owner")
    keys = (await owner.get("/api/v1/api-keys")).json()["items"]

    for key in keys:
        assert (await owner.delete(f"/api/v1/api-keys/{key['id']}")).status_code == 204

    assert await reader.closed(5)


async def test_a_look_that_somebody_caused_does_not_put_off_the_one_at_everybodys_rights(sqlite_world: ApiWorld):
    world, clock, actor = sqlite_world, ManualClock(), sqlite_world.actor("owner")
    addresses = world.settings.addresses(world.settings.port)
    feed = EventFeed(world.news, world.parts.accounts, world.parts.pods, addresses, world.settings.events, clock)
    revoked = Follower(Selection(actor.user_id), replace(actor, session_id=SessionId("ses_1")))
    await feed.join(revoked, None)
    await clock.advance(2.6)

    await feed.look()  # as after anybody's joining
    ended_at_once = revoked.ended.is_set()
    await clock.advance(feed._seconds_to_next() or 0)
    await feed.look()

    assert (ended_at_once, revoked.ended.is_set()) == (False, True)
    assert clock.monotonic() < 4


async def test_a_key_without_read_follows_nothing(sqlite_world: ApiWorld):
    program = await sqlite_world.program("owner", Scope.WRITE, Scope.PORTS)

    assert (await program.get("/api/v1/events")).status_code == 403


async def test_a_user_has_only_so_many_streams(sqlite_world: ApiWorld):
    most = sqlite_world.settings.events.streams_per_user
    actor = sqlite_world.actor("owner")
    for number in range(most):
        follower = Follower(Selection(actor.user_id), replace(actor, session_id=SessionId(f"ses_{number}")))
        await sqlite_world.parts.feed.join(follower, None)

    refused = await (await sqlite_world.browser("owner")).get("/api/v1/events")
    other = await follow(sqlite_world, "outsider")

    assert (refused.status_code, refused.json()["code"]) == (429, "throttled")
    assert other.status == 200
    await other.close()


async def test_a_thousand_idle_followers_cost_no_query_each(sqlite_world: ApiWorld):
    feed, outsider = sqlite_world.parts.feed, sqlite_world.actor("outsider")
    await sqlite_world.session_token("outsider")
    async with sqlite_world.database.read() as session:
        of_outsider = select(SessionRow.id).where(SessionRow.user_id == outsider.user_id)
        session_id = SessionId(str(await session.scalar(of_outsider)))
    for _ in range(1000):
        await feed.join(Follower(Selection(outsider.user_id), replace(outsider, session_id=session_id)), None)
    busy = await follow(sqlite_world, "owner")
    await _happen(sqlite_world, "owner", "thing.made", 100)

    with statements(sqlite_world.database) as asked:
        await sqlite_world.news.look()

    assert len(feed) == 1001
    assert [(await busy.next())["data"]["kind"] for _ in range(100)] == ["thing.made"] * 100
    assert len(asked) <= 6
    feed.end()
    await busy.close()


async def test_pruning_keeps_the_newest_so_that_ids_go_on(world: ApiWorld):
    await _happen(world, "owner", "thing.made", 5)
    await world.clock.advance(100)
    await _happen(world, "owner", "thing.made", 5)

    async with world.database.write() as session:
        await prune_events(session, now=world.clock.now(), keep_seconds=50, keep_count=1000)
    by_age = await _kept(world)
    async with world.database.write() as session:
        await prune_events(session, now=world.clock.now(), keep_seconds=1000, keep_count=2)
    by_count = await _kept(world)
    await world.clock.advance(5000)
    async with world.database.write() as session:
        await prune_events(session, now=world.clock.now(), keep_seconds=50, keep_count=2)
    newest = await _kept(world)
    await _happen(world, "owner", "thing.made")

    assert (by_age, by_count, newest) == ([6, 7, 8, 9, 10], [9, 10], [10])
    assert await _kept(world) == [10, 11]


async def _kept(world: ApiWorld) -> list[int]:
    async with world.database.read() as session:
        return list(await session.scalars(select(EventRow.id).order_by(EventRow.id)))
