"""SECURITY 17: a page of one pod cannot use the visitor's pass for another. In Chromium, with two pods."""

import asyncio
import contextlib
import json

import pytest
from websockets.asyncio.server import serve

from neuropod.accounts.visitors import Visitor
from neuropod.db.engine import Database
from neuropod.words import Access, Role
from support.browser import chromium
from support.console import SmallConsole
from support.gateway import Recorder, parse, read_request, serving
from support.tickets import console_session

EVERY_WAY = """
(async () => {
  const target = %s, socket = %s, tried = [];
  const attempt = async (name, start) => {
    try { tried.push([name, await Promise.race([start(), new Promise(r => setTimeout(r, 3000, "slow"))])]); }
    catch (error) { tried.push([name, String(error)]); }
  };
  const readable = async response => response.type + " " + (response.type === "opaque" ? "" : await response.text());
  for (const mode of ["no-cors", "cors"])
    for (const method of ["GET", "POST"])
      await attempt(mode + " " + method, async () =>
        readable(await fetch(target + "?" + mode + method, {mode, method, credentials: "include"})));
  await attempt("cors with a header", async () =>
    readable(await fetch(target + "?header", {credentials: "include", headers: {"X-Own": "1"}})));
  await attempt("PUT", async () => readable(await fetch(target + "?put", {method: "PUT", credentials: "include"})));
  await attempt("beacon", async () => navigator.sendBeacon(target + "?beacon", "x"));
  await attempt("image", () => new Promise(done => {
    const image = new Image(); image.onload = () => done("loaded"); image.onerror = () => done("error");
    image.src = target + "?image"; }));
  await attempt("script", () => new Promise(done => {
    const script = document.createElement("script"); script.onload = () => done("loaded");
    script.onerror = () => done("error"); script.src = target + "?script"; document.head.append(script); }));
  for (const method of ["get", "post"]) await attempt("frame by " + method, () => new Promise(done => {
    const frame = document.createElement("iframe"); frame.name = "f" + method; document.body.append(frame);
    const form = document.createElement("form"); form.method = method; form.action = target + "?frame" + method;
    form.target = frame.name; document.body.append(form);
    frame.onload = () => done("loaded"); form.submit(); }));
  await attempt("socket", () => new Promise(done => {
    const s = new WebSocket(socket); s.onopen = () => done("open"); s.onerror = () => done("error"); }));
  await attempt("event source", () => new Promise(done => {
    const e = new EventSource(target + "?events", {withCredentials: true});
    e.onopen = () => done("open"); e.onerror = () => { e.close(); done("error"); }; }));
  return tried;
})()
"""


def _page(text: str):
    """A pod whose every answer is a page, and that reflects any origin as a careless one would."""

    async def handle(reader, writer):
        while True:
            _, headers, _ = await read_request(reader)
            origin = {name.lower(): value for name, value in headers}.get("origin", "*")
            body = f"<!doctype html><title>{text}</title>{text}".encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAccess-Control-Allow-Credentials: true\r\n"
                b"Access-Control-Allow-Origin: %b\r\nContent-Length: %d\r\n\r\n%b" % (origin.encode(), len(body), body)
            )

    return handle


@contextlib.asynccontextmanager
async def _scene(sqlite_url):
    """A private pod with a visitor who has a pass, an evil pod, and a browser."""
    async with (
        contextlib.AsyncExitStack() as stack,
        chromium() as browser,
    ):
        database = Database(sqlite_url)
        stack.push_async_callback(database.aclose)
        actor = await console_session(database)
        served = await stack.enter_async_context(
            serving(database.write, console=lambda served: SmallConsole(served, database, actor))
        )
        served.visitors.sessions[actor.session_id] = Visitor(actor.user_id, Role.CLIENT, session_id=actor.session_id)
        victim = Recorder()
        pod = await served.pod(_watched(victim, _page("private")), "victim", owner_id=actor.user_id)
        evil = await served.pod(_page("evil"), "evil", access=Access.PUBLIC)
        yield served, await browser.page(), victim, pod, evil


def _watched(recorder: Recorder, handler):
    """Keep what a pod is asked, and let a handler answer."""

    async def handle(reader, writer):
        class Tee:
            async def readuntil(self, separator):
                head = await reader.readuntil(separator)
                if b"/favicon.ico" not in head:  # the browser asks for it by itself, some time
                    recorder.requests.append((head.decode("latin-1").split("\r\n")[0], [], b""))
                return head

            readexactly = reader.readexactly

        await handler(Tee(), writer)

    return handle


async def test_a_visitor_signs_in_by_the_console_and_another_pods_page_can_do_nothing_with_it(sqlite_url):
    async with _scene(sqlite_url) as (served, page, victim, pod, evil):
        await page.goto(f"{served.origin(pod)}/first?x=1")
        await page.wait("document.title === 'private'")
        assert await page.run("location.pathname + location.search") == "/first?x=1"
        assert await page.run("document.cookie") == ""
        victim.requests.clear()

        await page.goto(f"{served.origin(evil)}/")
        await page.wait("document.title === 'evil'")
        socket = served.origin(pod).replace("http", "ws") + "/socket"
        tried = await page.run(EVERY_WAY % (json.dumps(served.origin(pod) + "/attack"), json.dumps(socket)))

        assert len(tried) == 13
        assert victim.requests == []
        outcomes = dict(tried)
        assert outcomes["socket"] == "error"
        assert not any("private" in str(outcome) for outcome in outcomes.values())


async def test_links_own_pages_and_own_sockets_work(sqlite_url):
    async with _scene(sqlite_url) as (served, page, victim, pod, evil):
        await page.goto(f"{served.origin(pod)}/")
        await page.wait("document.title === 'private'")
        assert (await page.run("fetch('/own', {method: 'POST', body: 'x'}).then(r => r.status)")) == 200
        assert victim.requests[-1][0] == "POST /own HTTP/1.1"

        await page.goto(f"{served.origin(evil)}/")
        await page.wait("document.title === 'evil'")
        await page.run(f"location = {json.dumps(served.origin(pod) + '/linked')}")
        await page.wait("document.title === 'private'")
        assert victim.requests[-1][0] == "GET /linked HTTP/1.1"

        async def echo(connection):
            async for message in connection:
                await connection.send(message)

        async with serve(echo, "127.0.0.1", 0) as sockets:
            address = sockets.sockets[0].getsockname()
            served.runtime.listening[pod.pod_id, 2, pod.port] = address[:2]
            served.serve(pod, incarnation=2)
            answer = await page.run(
                "new Promise((done, fail) => { const s = new WebSocket('ws://' + location.host + '/s');"
                "s.onopen = () => s.send('hello'); s.onmessage = e => done(e.data); s.onerror = fail; })"
            )
        assert answer == "hello"


async def test_another_pods_page_posts_nothing_by_a_navigation_of_the_whole_tab(sqlite_url):
    async with _scene(sqlite_url) as (served, page, victim, pod, evil):
        await page.goto(f"{served.origin(pod)}/")
        await page.wait("document.title === 'private'")
        victim.requests.clear()
        await page.goto(f"{served.origin(evil)}/")
        await page.wait("document.title === 'evil'")

        await page.run(
            "(() => { const f = document.createElement('form'); f.method = 'post';"
            f"f.action = {json.dumps(served.origin(pod) + '/delete')}; document.body.append(f); f.submit(); }})()"
        )
        await page.wait(f"location.origin === {json.dumps(served.origin(pod))} && document.readyState === 'complete'")

        assert victim.requests == []
        assert "another site" in await page.run("document.body.innerText")


@pytest.mark.parametrize("access", [Access.PRIVATE, Access.MEMBERS])
async def test_preflights_are_answered_on_public_ports_only(access):
    preflight = ("Origin: https://evil.example", "Access-Control-Request-Method: PUT")
    async with serving() as served:
        pod = Recorder()
        route = await served.pod(pod, access=access)
        cookie = served.signed_in(route)

        refused = [
            await served.ask(route, "OPTIONS / HTTP/1.1", *preflight, key=None),
            await served.ask(route, "OPTIONS / HTTP/1.1", *preflight, f"Cookie: {cookie}", key=None),
            await served.ask(route, "OPTIONS / HTTP/1.1", *preflight, key=served.key()),
        ]

        assert [answer.status for answer in refused] == [403, 403, 403]
        assert all(answer["access-control-allow-origin"] is None for answer in refused)
        assert pod.requests == []
        served.serve(route, access=Access.PUBLIC)
        assert (await served.ask(route, "OPTIONS / HTTP/1.1", *preflight, key=None)).status == 200


async def test_a_program_with_a_pass_and_no_origin_is_not_let_in():
    async with serving() as served:
        pod = Recorder()
        route = await served.pod(pod)
        cookie = served.signed_in(route)

        answers = await asyncio.gather(
            served.ask(route, "GET / HTTP/1.1", f"Cookie: {cookie}", key=None),
            served.ask(route, "POST / HTTP/1.1", f"Cookie: {cookie}", "Sec-Fetch-Site: same-site", key=None),
            served.ask(
                route, "GET / HTTP/1.1", f"Cookie: {cookie}", "Connection: Upgrade", "Upgrade: websocket", key=None
            ),
        )

        assert {answer.status for answer in answers} == {403}
        assert pod.requests == []
        assert parse(answers[0].raw)["access-control-allow-origin"] is None
