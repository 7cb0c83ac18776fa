"""The pages in a real browser: cookies, links from other sites, forms that lead into pods, narrow and dark screens."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import uvicorn

from neuropod.api.machine import Machine
from neuropod.db.engine import Database
from neuropod.gateway.tickets import begin_hop
from support.api import PASSWORD, POD, ApiWorld, api_world
from support.browser import Page, chromium

pytestmark = pytest.mark.timeout(180)


@asynccontextmanager
async def _serving(app: object, listening: socket.socket) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))  # type: ignore[arg-type]
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield
    server.should_exit = True
    await task


class PodHosts:
    """In the gateway's place: a page at every pod host that links to the console, and remembers what came."""

    def __init__(self, world: ApiWorld) -> None:
        self.world = world
        self.posted: list[tuple[str, bytes, bytes]] = []
        self.link = ""

    async def __call__(self, scope, receive, send) -> None:
        host = dict(scope["headers"])[b"host"].decode()
        if ".neuropod-pods.localhost" not in host:
            await self.world.app(scope, receive, send)
            return
        body = (await receive()).get("body", b"")
        if scope["method"] == "POST":
            self.posted.append((host + scope["path"], dict(scope["headers"]).get(b"origin", b""), body))
        text = f'<h1>the pod</h1><a href="{self.link}">to the console</a>'
        headers = [(b"content-type", b"text/html"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})


@pytest.fixture
async def browsing(sqlite_url: str) -> AsyncIterator[tuple[ApiWorld, PodHosts, Page]]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        async with (
            aclosing(Database(sqlite_url)) as database,
            api_world(database, port=listening.getsockname()[1]) as world,
        ):
            pods = PodHosts(world)
            async with _serving(pods, listening), chromium() as browser:
                yield world, pods, await browser.page()


async def _is_at(page: Page, path: str) -> None:
    """Wait until the page has loaded: what is looked for in it is there, and no later one is taken for it."""
    await page.wait(f"location.pathname === '{path}' && document.readyState === 'complete'")


async def _sign_in(world: ApiWorld, page: Page, name: str = "owner") -> None:
    link = await Machine(world.parts).sign_in_link(f"{name}@example.org")
    await page.goto(link.url)
    await _is_at(page, "/")


async def test_a_one_time_link_signs_in_once_and_leaves_no_token_behind(browsing):
    world, _, page = browsing
    link = await Machine(world.parts).sign_in_link()
    token = link.url.partition("#")[2]

    await page.goto(link.url)
    await _is_at(page, "/")
    name = await page.run("document.querySelector('.email').textContent")
    cookies = await page.run("document.cookie")
    history = (await page.send("Page.getNavigationHistory"))["entries"]
    await page.goto("about:blank")
    await page.goto(link.url)
    again = await page.wait("document.querySelector('h1').textContent.includes('does not work')")

    assert (name, cookies, again) == ("admin@example.org", "", True)
    assert [entry["url"] for entry in history if token in entry["url"]] == []
    sent = [event["params"]["request"] for event in page.events if event["method"] == "Network.requestWillBeSent"]
    assert [request["url"] for request in sent if token in request["url"] + request["headers"].get("Referer", "")] == []


async def test_who_is_signed_in_stays_so_when_they_come_from_a_pods_page(browsing):
    world, pods, page = browsing
    await _sign_in(world, page)
    owner = await world.browser("owner")
    host = (await owner.post("/api/v1/pods", json=POD)).json()["ports"][0]["host"]
    await world.load_routes()
    hop = begin_hop(world.parts.box, host, "/lab", now=world.clock.now())
    pods.link = f"{world.console}/gate/continue?ref={hop.reference}"

    await page.goto(world.parts.addresses.pod_origin(host))
    await page.run("document.querySelector('a').click()")
    await page.wait("location.pathname === '/.neuropod/enter'")

    (where, origin, body) = pods.posted[0]
    assert where == f"{host}:{world.settings.port}/.neuropod/enter"
    assert origin.decode() == world.console
    assert len(parse_qs(body.decode())["ticket"][0]) > 30


async def test_the_open_button_leads_into_the_pod(browsing):
    world, _, page = browsing
    await _sign_in(world, page)
    owner = await world.browser("owner")
    host = (await owner.post("/api/v1/pods", json=POD)).json()["ports"][0]["host"]

    await page.goto(f"{world.console}/")
    await page.run("document.querySelector('.ports form').removeAttribute('target')")
    await page.run("document.querySelector('.ports button').click()")
    await page.wait("location.pathname === '/lab'")

    assert urlsplit(await page.run("location.href")).hostname == host
    assert await page.run("document.referrer") == ""


async def test_a_password_signs_in_without_scripts_and_signing_out_ends_it(browsing):
    world, _, page = browsing
    await page.send("Emulation.setScriptExecutionDisabled", value=True)
    await page.goto(f"{world.console}/")
    fields = {"email": "owner@example.org", "password": PASSWORD}
    for name, value in fields.items():
        await page.run(f"document.querySelector('[name={name}]').value = {value!r}")

    await page.run("document.querySelector('main button').click()")
    await page.wait("document.querySelector('header form button')")
    await page.run("document.querySelector('header form button').click()")
    await _is_at(page, "/sign-in")
    await page.goto(f"{world.console}/password")

    assert await page.run("location.pathname") == "/sign-in"


@pytest.mark.parametrize("dark", [False, True])
async def test_pages_fit_a_narrow_screen(browsing, dark: bool, tmp_path: Path):
    world, _, page = browsing
    await page.size(390, 800, dark=dark)
    owner = await world.browser("owner")
    long = "a" + "b" * 38 + "c"
    await owner.post("/api/v1/pods", json=POD | {"name": long})
    asked = await world.http().post("/api/v1/key-requests", json={"name": "x" * 100, "scopes": ["read"]})
    await page.goto(f"{world.console}/sign-in")
    widths = [await page.run("document.documentElement.scrollWidth")]
    await _sign_in(world, page)

    for path in ("/", "/password", "/connect", urlsplit(asked.json()["url"])._replace(scheme="", netloc="").geturl()):
        await page.goto(world.console + path)
        widths.append(await page.run("document.documentElement.scrollWidth"))
        await page.screenshot(tmp_path / f"page{len(widths)}.png")

    ground = await page.run("getComputedStyle(document.body).backgroundColor")
    lightness = sum(int(number) for number in re.findall(r"\d+", ground)) / 3
    assert all(width <= 390 for width in widths)
    assert (lightness < 80) is dark


async def test_the_browser_finds_nothing_to_complain_about(browsing):
    world, _, page = browsing
    await page.send("Log.enable")
    await _sign_in(world, page)

    for path in ("/", "/password", "/connect"):
        await page.goto(world.console + path)

    complaints = [
        event["params"] for event in page.events if event["method"] in {"Log.entryAdded", "Runtime.exceptionThrown"}
    ]
    assert complaints == []
