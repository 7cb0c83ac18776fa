"""From the console's sign-in to a pass: hops, tickets, the entrance. On both databases where rows count."""

from datetime import timedelta

import pytest

from neuropod.accounts.access import Actor
from neuropod.accounts.visitors import Visitor
from neuropod.gateway.tickets import (
    HOP_SECONDS,
    TICKET_SECONDS,
    begin_hop,
    mint_ticket,
    open_reference,
    read_hop,
    redeem_ticket,
)
from neuropod.ids import UserId
from neuropod.kit.errors import ForbiddenError
from neuropod.kit.secrets import SecretBox
from neuropod.words import Role, Scope
from support.gateway import Recorder, serving
from support.rows import NOW
from support.tickets import Browser, console_session, reference_of, ticket_for

HOST = "lab-abcdefgh-8888.neuropod-pods.localhost"
BOX = SecretBox(SecretBox.new_key())


def test_a_reference_tells_the_console_the_host_and_nothing_else():
    hop = begin_hop(BOX, HOST, "/secret?token=abc", now=NOW)

    reference = open_reference(BOX, hop.reference, now=NOW)

    assert (reference.host, reference.hop_id) == (HOST, hop.hop_id)
    assert open_reference(BOX, hop.reference, now=NOW + timedelta(seconds=HOP_SECONDS)) is None
    assert open_reference(SecretBox(SecretBox.new_key()), hop.reference, now=NOW) is None
    for forged in ("", "x", hop.reference[:-3] + "AAA", hop.cookie_value, "é"):
        assert open_reference(BOX, forged, now=NOW) is None


def test_a_hop_opens_on_its_own_host_and_for_itself_alone():
    hop = begin_hop(BOX, HOST, "/a?b=c", now=NOW)

    assert read_hop(BOX, HOST, hop.hop_id, hop.cookie_value, now=NOW) == "/a?b=c"
    assert read_hop(BOX, "other.example", hop.hop_id, hop.cookie_value, now=NOW) is None
    assert read_hop(BOX, HOST, "other", hop.cookie_value, now=NOW) is None
    assert read_hop(BOX, HOST, hop.hop_id, hop.cookie_value, now=NOW + timedelta(seconds=HOP_SECONDS)) is None


def test_a_target_that_does_not_fit_a_cookie_is_dropped_and_the_hop_works():
    hop = begin_hop(BOX, HOST, "/?" + "x" * 10_000, now=NOW)

    assert len(hop.cookie_value) < 3900
    assert read_hop(BOX, HOST, hop.hop_id, hop.cookie_value, now=NOW) == "/"
    long = begin_hop(BOX, HOST, "/" + "y" * 2499, now=NOW)
    assert len(long.cookie_value) < 3900


async def test_a_ticket_is_redeemed_once_within_a_minute_on_its_host(database):
    actor = await console_session(database)
    reference = open_reference(BOX, begin_hop(BOX, HOST, "/", now=NOW).reference, now=NOW)
    async with database.write() as session:
        tickets = [(await mint_ticket(session, reference, actor=actor, now=NOW)).reveal() for _ in range(3)]

    async def redeem(ticket, host=HOST, after=0):
        async with database.write() as session:
            return await redeem_ticket(session, host, ticket, now=NOW + timedelta(seconds=after))

    found = await redeem(tickets[0], after=TICKET_SECONDS - 1)
    assert (found.session_id, found.user_id, found.hop_id) == (actor.session_id, actor.user_id, reference.hop_id)
    assert await redeem(tickets[0]) is None
    assert await redeem(tickets[1], after=TICKET_SECONDS) is None
    assert await redeem(tickets[2], host="other.example") is None
    assert await redeem(tickets[2]) is None  # shown at the wrong host it is used up
    assert await redeem("unknown") is None


async def test_a_key_gets_no_ticket(database):
    key = Actor(UserId("usr_1"), Role.ADMIN, frozenset(Scope), "key")
    reference = open_reference(BOX, begin_hop(BOX, HOST, "/", now=NOW).reference, now=NOW)

    async with database.write() as session:
        with pytest.raises(ForbiddenError):
            await mint_ticket(session, reference, actor=key, now=NOW)


async def test_tickets_of_yesterday_are_gone_when_one_is_made(database):
    actor = await console_session(database)
    reference = open_reference(BOX, begin_hop(BOX, HOST, "/", now=NOW).reference, now=NOW)
    async with database.write() as session:
        old = await mint_ticket(session, reference, actor=actor, now=NOW)
    async with database.write() as session:
        await mint_ticket(session, reference, actor=actor, now=NOW + timedelta(days=1))

    async with database.write() as session:
        assert await redeem_ticket(session, HOST, old.reveal(), now=NOW) is None


# ---- the whole way, as a browser goes it


async def test_a_visitor_signs_in_and_comes_back_to_where_they_wanted(database):
    async with serving(database.write) as served:
        actor = await console_session(database)
        served.visitors.sessions[actor.session_id] = Visitor(actor.user_id, Role.CLIENT, session_id=actor.session_id)
        pod = Recorder()
        route = await served.pod(pod, owner_id=actor.user_id)
        browser = Browser(served, route)

        away = await browser.get("/lab/tree?token=secret&x=%2F")
        assert away.status == 303
        assert away["location"].startswith(f"{served.gateway.addresses.console_origin}/gate/continue?ref=")
        assert "secret" not in away.raw.decode()
        assert away["cache-control"] == "no-store"
        assert away["referrer-policy"] == "no-referrer"

        back = await browser.post_ticket(await ticket_for(served, database, actor, reference_of(away)))
        assert back.status == 303
        assert back["location"] == f"{served.origin(route)}/lab/tree?token=secret&x=%2F"
        assert back["cache-control"] == "no-store"
        assert list(browser.cookies) == ["__Host-neuropod-pass"]

        assert (await browser.get("/lab/tree?token=secret&x=%2F")).status == 200
        assert pod.requests[-1][0] == "GET /lab/tree?token=secret&x=%2F HTTP/1.1"
        assert pod.sent("cookie") == []


async def test_two_tabs_sign_in_at_once_and_each_comes_back_to_its_own_place(database):
    async with serving(database.write) as served:
        actor = await console_session(database)
        route = await served.pod(Recorder(), owner_id=actor.user_id)
        browser = Browser(served, route)
        first, second = reference_of(await browser.get("/one")), reference_of(await browser.get("/two"))

        backs = [await browser.post_ticket(await ticket_for(served, database, actor, ref)) for ref in (second, first)]

        assert [back["location"] for back in backs] == [served.origin(route) + path for path in ("/two", "/one")]


async def test_a_stranger_who_signs_in_is_told_that_it_is_not_theirs(database):
    async with serving(database.write) as served:
        actor = await console_session(database)
        served.visitors.sessions[actor.session_id] = Visitor(actor.user_id, Role.CLIENT, session_id=actor.session_id)
        pod = Recorder()
        browser = Browser(served, await served.pod(pod))
        reference = reference_of(await browser.get())

        await browser.post_ticket(await ticket_for(served, database, actor, reference))
        answer = await browser.get()

        assert answer.status == 403
        assert b"not yours to open" in answer.body
        assert pod.requests == []


async def test_parts_of_pages_and_programs_are_not_sent_to_the_sign_in():
    async with serving() as served:
        route = await served.pod(Recorder())

        for headers in (
            ("Accept: */*",),
            ("Accept: text/html", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"),
            ("Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
        ):
            assert (await served.ask(route, "GET / HTTP/1.1", *headers, key=None)).status == 401
        assert (await served.ask(route, "POST / HTTP/1.1", "Accept: text/html", key=None)).status == 401


@pytest.mark.parametrize(
    ("start", "status"),
    [
        ("GET /.neuropod/enter HTTP/1.1", 404),
        ("POST /.neuropod/ HTTP/1.1", 404),
        ("GET /.neuropod HTTP/1.1", 404),
        ("GET /.neuropod?x HTTP/1.1", 404),
        ("POST /.neuropod/enter HTTP/1.1", 400),
    ],
)
async def test_the_gates_own_paths_never_reach_a_pod(start, status):
    async with serving() as served:
        served.key()
        pod = Recorder()
        route = await served.pod(pod)

        assert (await served.ask(route, start)).status == status
        assert (await served.ask(route, "GET /.neuropods HTTP/1.1")).status == 200
        assert len(pod.requests) == 1


async def test_a_form_that_is_too_large_is_refused():
    async with serving() as served:
        route = await served.pod(Recorder())

        answer = await served.ask(
            route, "POST /.neuropod/enter HTTP/1.1", "Content-Length: 100000", body=bytes(100_000)
        )

        assert answer.status == 413
