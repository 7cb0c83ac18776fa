"""SECURITY 20: on a stopped pod's address its own scripts find nothing to press and nothing to keep. In Chromium."""

import contextlib
import json
import re

import pytest

from neuropod.accounts.visitors import Visitor
from neuropod.db.engine import Database
from neuropod.words import Access, Role, Status
from support.browser import chromium
from support.console import SESSION, SmallConsole
from support.gateway import answering, read_request, serving
from support.tickets import console_session

WORKER = b"""
self.addEventListener('install', event => event.waitUntil(self.skipWaiting()));
self.addEventListener('activate', event => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', event => {
  const url = new URL(event.request.url);
  if (url.pathname !== '/report') return;
  event.respondWith((async () => {
    const found = {};
    const look = async (name, address, options) => {
      try {
        const response = await fetch(address, options);
        found[name] = {type: response.type, status: response.status, text: await response.text(),
                       headers: [...response.headers].map(String)};
      } catch (error) { found[name] = {error: String(error)}; }
    };
    const console_ = url.searchParams.get('console');
    await look('page', '/', {headers: {accept: 'text/html'}});
    await look('enter', '/.neuropod/enter', {method: 'POST', body: new URLSearchParams({ticket: 'x'})});
    await look('start', '/.neuropod/start', {method: 'POST'});
    await look('console', console_ + '/api/v1/pods', {credentials: 'include'});
    await look('console start', console_ + '/api/v1/pods/mine/start', {method: 'POST', mode: 'no-cors', credentials: 'include'});
    await look('hop', console_ + '/gate/continue?ref=x', {mode: 'no-cors', credentials: 'include'});
    return new Response(JSON.stringify(found), {headers: {'content-type': 'application/json'}});
  })());
});
"""


async def _pod(reader, writer):
    while True:
        start, _, _ = await read_request(reader)
        script = start.startswith("GET /worker.js")
        body = WORKER if script else b"<!doctype html><title>pod</title>pod"
        kind = b"text/javascript" if script else b"text/html"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body))


async def test_a_service_worker_registered_before_the_stop_gets_nothing(sqlite_url):
    async with contextlib.AsyncExitStack() as stack:
        database = Database(sqlite_url)
        stack.push_async_callback(database.aclose)
        actor = await console_session(database)
        browser = await stack.enter_async_context(chromium())
        consoles = []

        def console(served):
            consoles.append(SmallConsole(served, database, actor))
            return consoles[0]

        served = await stack.enter_async_context(serving(database.write, console=console))
        served.visitors.sessions[actor.session_id] = Visitor(actor.user_id, Role.CLIENT, session_id=actor.session_id)
        route = await served.pod(_pod, "mine", owner_id=actor.user_id)
        page = await browser.page()
        console_origin = served.gateway.addresses.console_origin
        await page.goto(f"{console_origin}/")
        await page.goto(f"{served.origin(route)}/")
        await page.wait("document.title === 'pod'")
        await page.run(
            "navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(() => 1)"
        )
        await page.wait("navigator.serviceWorker.controller !== null")

        served.serve(route, incarnation=None, status=Status.STOPPED, message="Stopped.")
        await page.goto(f"{served.origin(route)}/")
        await page.wait("document.title === 'mine is stopped'")
        address = f"/report?console={console_origin}"
        # The page's own policy lets no script fetch, so the report is opened as a page.
        await page.goto(served.origin(route) + address)
        loaded = "location.pathname === '/report' && document.readyState === 'complete'"
        found = json.loads(await page.wait(f"{loaded} && document.body.innerText"))

        assert found["page"]["status"] == 503
        assert not re.search(r"<(form|button|script|input|iframe)", found["page"]["text"], re.IGNORECASE)
        assert found["enter"]["status"] == 403
        assert found["start"]["status"] == 404
        assert "error" in found["console"]  # no CORS: nothing can be read
        for name in ("console start", "hop"):
            assert found[name].get("text", "") == ""
        for path in ("/api/v1/pods", "/api/v1/pods/mine/start", "/gate/continue"):
            asked = consoles[0].cookies_seen(path)
            assert not any(SESSION.encode() in cookie or b"neuropod-pass" in cookie for cookie in asked[-1:])
        assert await page.run("document.cookie") == ""


STATUSES = [
    (Status.WAITING, True), (Status.STARTING, True), (Status.STOPPING, True), (Status.UNREACHABLE, True),
    (Status.STOPPED, False), (Status.FINISHED, False), (Status.FAILED, False), (Status.DELETING, False),
]  # fmt: skip


@pytest.mark.parametrize(("status", "reloads"), STATUSES)
async def test_a_page_says_what_is_escapes_everything_and_changes_nothing(status, reloads):
    evil = "<img src=x onerror=alert(1)>\"'&</p><script>alert(2)</script>"
    async with serving() as served:
        route = await served.pod(
            answering(), incarnation=None, status=status, message=evil, pod_name=evil, access=Access.PUBLIC
        )

        answer = await served.ask(route, "GET / HTTP/1.1", "Accept: text/html")

        text = answer.content.decode()
        assert answer.status == 503
        assert "&lt;img src=x onerror=alert(1)&gt;" in text
        assert not re.search(r"<(img|form|button|script|input|iframe|object|link)", text, re.IGNORECASE)
        assert ('http-equiv="refresh"' in text) is reloads
        assert f'href="{served.gateway.addresses.console_origin}/"' in text
        policy = answer["content-security-policy"]
        for rule in ("default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
            assert rule in policy
        assert "unsafe" not in policy


async def test_a_status_is_shown_to_those_alone_who_may_pass():
    async with serving() as served:
        route = await served.pod(answering(), incarnation=None, status=Status.FAILED, message="a secret reason")

        stranger = await served.ask(route, key=None)
        other = await served.ask(route, key=served.key("other", user_id="usr_other"))
        owner = await served.ask(route, key=served.key())

        assert b"secret" not in stranger.raw + other.raw
        assert b"a secret reason" in owner.body
        assert (stranger.status, other.status, owner.status) == (401, 403, 503)


async def test_a_pass_opens_nothing_on_the_consoles_host():
    async with serving() as served:
        route = await served.pod(answering())
        cookie = served.signed_in(route)
        raw = f"GET /api/v1/me HTTP/1.1\r\nHost: {route.host}\r\nCookie: {cookie}\r\nSec-Fetch-Site: none\r\nConnection: close\r\n\r\n"

        answer = await served.raw(raw.encode())

        assert answer.endswith(b"hello")  # the path is the pod's: on its host there is no API
        assert served.asgi_requests == []


async def test_the_pages_look_as_they_should(tmp_path):
    """Looks at a starting pod's page in a browser, and sees it go on by itself once the pod is ready."""
    async with serving() as served, chromium() as browser:
        route = await served.pod(answering(b"<title>ready</title>", "Content-Type: text/html"), access=Access.PUBLIC)
        served.serve(route, incarnation=None, status=Status.STARTING, message="Preparing what it runs on.")
        page = await browser.page()
        await page.goto(f"{served.origin(route)}/lab?x=1")

        # It loads itself again every other second, and may just do so.
        assert await page.wait("document.querySelector('h1')?.innerText") == "lab is starting"
        assert await page.wait("getComputedStyle(document.querySelector('main')).borderRadius") == "16px"
        served.serve(route)
        await page.wait("document.title === 'ready'")
        assert await page.run("location.pathname + location.search") == "/lab?x=1"
