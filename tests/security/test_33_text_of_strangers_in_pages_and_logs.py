"""SECURITY 33, the server's part: names, logs and reasons are text, in pages, in JSON and in the server's own log.

Sanitised Markdown comes with the console; that the CLI strips control characters is tested with the CLI.
"""

from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from neuropod.observability.logs import redacted
from neuropod.runtimes.fake.world import Script
from support.api import POD, ApiWorld

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b]0;owned\x07\x1b[2J\x9b31m",
    "</title><svg/onload=alert(1)>",
]


class Parts(HTMLParser):
    """What a browser would run, or has in a place that a page of ours never has it in."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"svg", "iframe", "object"} or (tag == "script" and "src" not in given):
            self.found.append(tag)
        if tag == "img" and not (given["src"] or "").startswith("/static/"):
            self.found.append(tag)
        self.found += [name for name in given if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if "49" in data:
            self.found.append("an evaluated template")


def _dangerous(page: str) -> list[str]:
    parts = Parts()
    parts.feed(page)
    return parts.found


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_a_name_is_text_in_every_page(sqlite_world: ApiWorld, payload: str):
    world = sqlite_world
    owner = await world.browser("owner")
    await owner.post("/api/v1/pods", json=POD)
    port = await owner.patch("/api/v1/pods/lab/ports/8888", json={"name": payload[:30]})
    asked = await world.http().post("/api/v1/key-requests", json={"name": payload, "scopes": ["read"]})
    sign_in = await world.http(origin=world.console).post("/sign-in", data={"email": payload, "password": "x"})
    async with world.database.write() as session:
        (await session.merge(world.person("owner"))).email = payload

    pages = [(await owner.get("/")).text, sign_in.text, (await owner.get("/connect", params={"code": payload})).text]
    if asked.status_code == 201:
        pages.append((await owner.get(f"/connect?code={asked.json()['code']}")).text)

    assert [_dangerous(page) for page in pages] == [[]] * len(pages)
    assert asked.status_code == (422 if "\x1b" in payload else 201)
    assert port.status_code in {200, 422}


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_a_log_is_served_as_text_that_no_browser_runs(sqlite_world: ApiWorld, payload: str):
    world = sqlite_world
    world.fake.scripts["lab"] = Script(prints=(payload,))
    owner = await world.browser("owner")
    pod = (await owner.post("/api/v1/pods", json=POD)).json()["id"]
    await world.run(pod)

    answer = await owner.get(f"/api/v1/pods/{pod}/logs")

    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text == payload + "\n"  # as the pod wrote it: who shows it on a terminal strips it


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_errors_repeat_nothing_as_html(sqlite_world: ApiWorld, payload: str):
    owner = await sqlite_world.browser("owner")

    answers = [
        await owner.get("/api/v1/pods/x", params={"cursor": payload}),
        await owner.post("/api/v1/pods", json={"name": payload, "template": payload}),
        await owner.get(f"/api/v1/pods/{quote(payload.replace('/', ''))}x"),
    ]

    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert {answer.headers["x-content-type-options"] for answer in answers} == {"nosniff"}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_terminal_escape_gets_into_the_servers_log(payload: str):
    assert not any(ord(character) < 32 or 0x7F <= ord(character) <= 0x9F for character in redacted(payload))
