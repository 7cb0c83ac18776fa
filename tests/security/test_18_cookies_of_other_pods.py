"""SECURITY 18: a pod's cookies for the parent domain neither take passes over nor shut anybody out. In Chromium."""

import contextlib
import json

import pytest

from neuropod.accounts.visitors import Visitor
from neuropod.db.engine import Database
from neuropod.words import Access, Role
from support.browser import chromium
from support.console import SESSION, SmallConsole
from support.gateway import Recorder, answering, parse, serving
from support.tickets import console_session

PAGE = answering(b"<!doctype html><title>pod</title>pod", "Content-Type: text/html")
BOMB = """
(() => {
  const domains = ['', 'localhost', 'neuropod.localhost', %s];
  for (const domain of domains)
    for (let i = 0; i < 180; i++)
      document.cookie = 'bomb' + i + '=' + 'x'.repeat(4000) + (domain ? '; domain=' + domain : '') + '; path=/';
  for (const name of ['__Host-neuropod-pass', '__Host-neuropod-session', '__Secure-neuropod-pass', 'neuropod-gate-pass'])
    for (const rest of ['; domain=' + domains[3], '; Secure; path=/; domain=' + domains[3], '; Secure; path=/deep'])
      document.cookie = name + '=forged' + rest;
  return document.cookie.length;
})()
"""


@pytest.mark.parametrize(
    "pods_domain", ["neuropod-pods.localhost", "neuropod.localhost"], ids=["two sites", "one site"]
)
async def test_a_cookie_bomb_from_a_pod_shuts_nobody_out(sqlite_url, pods_domain):
    async with contextlib.AsyncExitStack() as stack:
        database = Database(sqlite_url)
        stack.push_async_callback(database.aclose)
        actor = await console_session(database)
        browser = await stack.enter_async_context(chromium())
        consoles = []

        def console(served):
            consoles.append(SmallConsole(served, database, actor))
            return consoles[0]

        served = await stack.enter_async_context(serving(database.write, console=console, pods_domain=pods_domain))
        served.visitors.sessions[actor.session_id] = Visitor(actor.user_id, Role.CLIENT, session_id=actor.session_id)
        mine = await served.pod(PAGE, "mine", owner_id=actor.user_id)
        evil = await served.pod(PAGE, "evil", access=Access.PUBLIC)
        page = await browser.page()
        console_url = f"{served.gateway.addresses.console_origin}/"
        await page.goto(console_url)
        await page.goto(f"{served.origin(mine)}/")
        await page.wait("document.title === 'pod'")

        await page.goto(f"{served.origin(evil)}/")
        await page.wait(f"location.origin === {json.dumps(served.origin(evil))} && document.title === 'pod'")
        assert await page.run(BOMB % json.dumps(pods_domain)) > 100_000

        await page.goto(console_url)
        await page.wait("document.title === 'console'")
        await page.goto(f"{served.origin(mine)}/again")
        # By the old pass, or by a new one.
        await page.wait("location.pathname === '/again' && document.title === 'pod'")
        sizes = [len(cookie) for cookie in consoles[0].cookies_seen("/")]
        if pods_domain == "neuropod.localhost":
            assert sizes[-1] > 100_000  # it was sent, and there was room
        else:
            assert SESSION.encode() in consoles[0].cookies_seen("/")[-1]
            assert sizes[-1] < 100
        seen = b"; ".join(consoles[0].cookies_seen("/"))
        assert b"__Host-neuropod-session=forged" not in seen
        assert b"__Host-neuropod-pass=forged" not in seen


async def test_heads_full_of_cookies_are_read_on_every_host():
    cookies = "; ".join(f"bomb{number}={'x' * 4000}" for number in range(180))
    async with serving() as served:
        served.key()
        pod = Recorder()
        route = await served.pod(pod)

        answer = await served.ask(route, "GET / HTTP/1.1", f"Cookie: {cookies}")
        console = parse(
            await served.raw(
                f"GET / HTTP/1.1\r\nHost: app.neuropod.localhost\r\nCookie: {cookies}\r\nConnection: close\r\n\r\n".encode()
            )
        )

        assert (answer.status, console.status) == (200, 200)
        assert pod.sent("cookie") == [cookies]


async def test_a_pods_answer_sets_none_of_our_cookies():
    forged = ("Set-Cookie: __Host-neuropod-pass=forged; Path=/; Secure", "Set-Cookie: __host-NEUROPOD-hop-1=forged")
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"x", *forged, "Set-Cookie: own=1"))

        answer = await served.ask(route)

        assert answer.all("set-cookie") == ["own=1"]


async def test_a_forged_pass_beside_the_real_one_does_not_take_its_place():
    async with serving() as served:
        route = await served.pod(answering())
        real = served.signed_in(route)
        name = served.cookie_name

        for cookies in (f"{name}=forged; {real}", f"{real}; {name}=forged"):
            answer = await served.ask(route, "GET / HTTP/1.1", f"Cookie: {cookies}", "Sec-Fetch-Site: none", key=None)
            assert answer.status == 200
