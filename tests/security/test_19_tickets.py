"""SECURITY 19: tickets cannot be fixed, replayed, carried to another browser, or made to lead elsewhere."""

from urllib.parse import urlencode

import pytest

from neuropod.accounts.visitors import Visitor
from neuropod.gateway.tickets import mint_ticket, open_reference
from neuropod.words import Role
from support.gateway import Recorder, serving
from support.tickets import Browser, console_session, reference_of, ticket_for


@pytest.fixture
async def scene(database):
    async with serving(database.write) as served:
        actor = await console_session(database)
        served.visitors.sessions[actor.session_id] = Visitor(actor.user_id, Role.CLIENT, session_id=actor.session_id)
        route = await served.pod(Recorder(), owner_id=actor.user_id)
        yield served, database, actor, route


async def test_a_ticket_works_once(scene):
    served, database, actor, route = scene
    browser = Browser(served, route)
    ticket = await ticket_for(served, database, actor, reference_of(await browser.get("/")))
    hops = dict(browser.cookies)

    assert (await browser.post_ticket(ticket)).status == 303
    browser.cookies = hops
    replayed = await browser.post_ticket(ticket)

    assert replayed.status == 400
    assert replayed.all("set-cookie") == []


async def test_a_ticket_is_worth_nothing_in_a_second_browser(scene):
    served, database, actor, route = scene
    victim, attacker = Browser(served, route), Browser(served, route)
    ticket = await ticket_for(served, database, actor, reference_of(await victim.get("/")))
    await attacker.get("/")

    stolen = await attacker.post_ticket(ticket)
    late = await victim.post_ticket(ticket)

    assert stolen.status == 400
    assert stolen.all("set-cookie") == []
    assert late.status == 400  # shown once it is used up, so the victim asks for another


async def test_a_reference_that_an_attacker_began_gives_the_victims_browser_no_pass(scene):
    served, database, actor, route = scene
    attacker, victim = Browser(served, route), Browser(served, route)
    ticket = await ticket_for(served, database, actor, reference_of(await attacker.get("/")))

    answer = await victim.post_ticket(ticket)

    assert answer.status == 400
    assert victim.cookies == {}


async def test_a_ticket_for_one_host_opens_no_other(scene):
    served, database, actor, route = scene
    other = await served.pod(Recorder(), "other", owner_id=actor.user_id)
    here, there = Browser(served, route), Browser(served, other)
    ticket = await ticket_for(served, database, actor, reference_of(await here.get("/")))
    await there.get("/")
    there.cookies |= here.cookies

    answer = await there.post_ticket(ticket)

    assert answer.status == 400
    assert answer.all("set-cookie") == []


@pytest.mark.parametrize(
    "target", ["//evil.example/", "//evil.example", "/\\evil.example", "/%5C%5Cevil.example", "/@evil.example", "/.evil.example", "/a%0d%0aSet-Cookie:x=1"]
)  # fmt: skip
async def test_the_way_back_stays_on_the_host(scene, target):
    served, database, actor, route = scene
    browser = Browser(served, route)
    ticket = await ticket_for(served, database, actor, reference_of(await browser.get(target)))

    back = await browser.post_ticket(ticket)

    assert back.status == 303
    assert back["location"] == served.origin(route) + target
    assert back.all("set-cookie")[0].startswith("__Host-neuropod-pass=")


@pytest.mark.parametrize("target", ["http://evil.example/", "https:evil.example", "evil.example", "@evil.example/"])
async def test_a_request_for_anything_but_a_path_begins_no_hop(scene, target):
    served, _, _, route = scene

    answer = await Browser(served, route).get(target)

    assert answer.status == 400
    assert answer["location"] is None


async def test_forged_references_and_hops_name_nothing(scene):
    served, database, actor, route = scene
    browser = Browser(served, route)
    good = reference_of(await browser.get("/"))
    now = served.clock.now()
    (hop_name,) = browser.cookies

    for forged in (good[:-4] + "AAAA", good + "A", browser.cookies[hop_name], "e30", ""):
        assert open_reference(served.box, forged, now=now) is None
    ticket = await ticket_for(served, database, actor, good)
    browser.cookies[hop_name] = "e30"
    assert (await browser.post_ticket(ticket)).status == 400


@pytest.mark.parametrize(
    "origin", ["Origin: http://evil-aaaaaaaa-1.neuropod-pods.localhost", "Origin: https://app.neuropod.localhost.evil"]
)
async def test_another_sites_form_redeems_nothing_and_uses_nothing_up(scene, origin):
    served, database, actor, route = scene
    browser = Browser(served, route)
    ticket = await ticket_for(served, database, actor, reference_of(await browser.get("/")))

    assert (await browser.post_ticket(ticket, origin)).status == 403
    assert (await browser.post_ticket(ticket)).status == 303


async def test_a_ticket_in_a_url_or_by_get_is_not_taken(scene):
    served, database, actor, route = scene
    browser = Browser(served, route)
    ticket = await ticket_for(served, database, actor, reference_of(await browser.get("/")))

    by_get = await browser.get(f"/.neuropod/enter?{urlencode({'ticket': ticket})}")

    assert by_get.status == 404
    assert (await browser.post_ticket(ticket)).status == 303


async def test_an_old_ticket_and_an_old_hop_are_refused(scene):
    served, database, actor, route = scene
    browser = Browser(served, route)
    reference = open_reference(served.box, reference_of(await browser.get("/")), now=served.clock.now())
    async with database.write() as session:
        old = await mint_ticket(session, reference, actor=actor, now=served.clock.now().replace(year=2020))

    assert (await browser.post_ticket(old.reveal())).status == 400


async def test_the_pass_of_a_session_that_ended_meanwhile_opens_nothing(scene):
    served, database, actor, route = scene
    browser = Browser(served, route)
    ticket = await ticket_for(served, database, actor, reference_of(await browser.get("/")))
    served.visitors.sessions.clear()

    await browser.post_ticket(ticket)
    answer = await browser.get("/")

    assert answer.status == 303  # to the sign-in again
    assert "/gate/continue" in answer["location"]


async def test_every_step_is_kept_out_of_caches_and_referrers(scene):
    served, database, actor, route = scene
    browser = Browser(served, route)
    away = await browser.get("/?token=secret")
    back = await browser.post_ticket(await ticket_for(served, database, actor, reference_of(away)))
    failed = await browser.post_ticket("unknown")

    for answer in (away, back, failed):
        assert answer["cache-control"] == "no-store"
        assert answer["cdn-cache-control"] == "no-store"
        assert answer["referrer-policy"] == "no-referrer"
