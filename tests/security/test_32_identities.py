"""SECURITY 32: nobody gets into an account by its e-mail address, by another's sign-in, or with a token that is not ours."""

import pytest
from sqlalchemy import select

from neuropod.api.callers import cookie_name
from neuropod.db.audit import AuditRow
from support.api import ApiWorld
from support.oidc import RealProvider, Visit, with_provider


async def test_an_address_alone_opens_no_account(world: ApiWorld, provider: RealProvider):
    with_provider(world, provider.issuer, allow_anyone=True, allowed_email_domains=("example.org",))
    provider.tell("thief-1", email="admin@example.org", email_verified=True)
    visit = Visit(world)

    answer = await visit.through(provider, "thief-1")

    assert answer.status_code == 403
    assert "not linked" in answer.text
    assert "thief-1" in answer.text  # what an administrator needs to link it
    assert visit.cookies == {}
    async with world.database.read() as session:
        acts = (await session.scalars(select(AuditRow).where(AuditRow.verb == "refuse_identity"))).all()
    assert [(act.owner_id, act.data["known_as"]) for act in acts] == [(world.person("admin").id, "thief-1")]


async def test_an_administrator_lets_the_first_with_that_verified_address_in_once(
    world: ApiWorld, provider: RealProvider
):
    with_provider(world, provider.issuer)
    admin = await world.browser("admin")
    await admin.post("/api/v1/users/owner@example.org/identities", json={"by_address": True})
    provider.tell("unverified-1", email="owner@example.org")
    provider.tell("first-1", email="owner@example.org", email_verified=True)
    provider.tell("second-1", email="owner@example.org", email_verified=True)

    unverified = await Visit(world).through(provider, "unverified-1")
    first = Visit(world)
    entered = await first.through(provider, "first-1")
    second = await Visit(world).through(provider, "second-1")

    assert [answer.status_code for answer in (unverified, entered, second)] == [403, 303, 403]
    assert (await first.me())["email"] == "owner@example.org"


async def test_that_permission_ends_after_a_week(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer)
    admin = await sqlite_world.browser("admin")
    await admin.post("/api/v1/users/owner@example.org/identities", json={"by_address": True})
    provider.tell("late-1", email="owner@example.org", email_verified=True)
    await sqlite_world.clock.advance(7 * 24 * 3600 + 1)

    answer = await Visit(sqlite_world).through(provider, "late-1")

    assert answer.status_code == 403


async def test_the_same_subject_of_another_provider_is_somebody_else(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, "https://other.example")
    admin = await sqlite_world.browser("admin")
    await admin.post("/api/v1/users/owner@example.org/identities", json={"subject": "same-1"})
    with_provider(sqlite_world, provider.issuer)
    provider.tell("same-1")

    answer = await Visit(sqlite_world).through(provider, "same-1")

    assert answer.status_code == 403


async def test_a_key_links_nothing(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer)
    program = await sqlite_world.program("admin", "read", "write", "admin")

    answer = await program.post("/api/v1/users/owner@example.org/identities", json={"subject": "key-1"})

    assert (answer.status_code, answer.json()["code"]) == (403, "session_needed")


async def test_a_way_back_that_somebody_else_began_signs_nobody_in(sqlite_world: ApiWorld, provider: RealProvider):
    """An attacker gives a victim their own unfinished sign-in, so that the victim works in the attacker's account."""
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    provider.tell("attacker-1", email="attacker@example.com", email_verified=True)
    attacker, victim = Visit(sqlite_world), Visit(sqlite_world)
    begun = await attacker.begin()
    await victim.begin()
    location = provider.sign_in(begun.headers["location"], "attacker-1")

    answer = await victim.come_back(location)

    assert answer.status_code == 401
    assert cookie_name(sqlite_world.parts.addresses) not in victim.cookies


async def test_a_way_back_works_once_and_for_ten_minutes(sqlite_world: ApiWorld, provider: RealProvider):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    provider.tell("once-1", email="once@example.com", email_verified=True)
    visit, late = Visit(sqlite_world), Visit(sqlite_world)
    location = provider.sign_in((await visit.begin()).headers["location"], "once-1")
    waiting = dict(visit.cookies)

    first = await visit.come_back(location)
    visit.cookies |= waiting  # a browser that kept the cookie
    second = await visit.come_back(location)
    late_location = provider.sign_in((await late.begin()).headers["location"], "once-1")
    await sqlite_world.clock.advance(601)
    third = await late.come_back(late_location)

    assert [answer.status_code for answer in (first, second, third)] == [303, 401, 401]


@pytest.mark.parametrize("changed", ["state", "cookie"])
async def test_a_state_or_a_cookie_of_another_flow_opens_nothing(
    sqlite_world: ApiWorld, provider: RealProvider, changed: str
):
    with_provider(sqlite_world, provider.issuer, allow_anyone=True)
    provider.tell("mixed-1", email="mixed@example.com", email_verified=True)
    visit = Visit(sqlite_world)
    location = provider.sign_in((await visit.begin()).headers["location"], "mixed-1")
    ((name, sealed),) = visit.cookies.items()
    if changed == "state":
        location = location.replace("state=", "state=x")
    else:
        visit.cookies[name] = sealed[:-4] + "AAAA"

    answer = await visit.come_back(location)

    assert answer.status_code == 401


async def test_the_session_that_the_browser_had_ends(world: ApiWorld, provider: RealProvider):
    with_provider(world, provider.issuer, allow_anyone=True)
    provider.tell("rotate-1", email="rotate@example.com", email_verified=True)
    planted = await world.session_token("outsider")
    name = cookie_name(world.parts.addresses)
    visit = Visit(world, {name: planted}, {name})

    await visit.through(provider, "rotate-1")

    assert visit.cookies[name] != planted
    assert (await visit.me())["email"] == "rotate@example.com"
    assert (await world.http(cookie=f"{name}={planted}").get("/api/v1/me")).status_code == 401
