"""The small pages: what they may load, where they lead, what they show."""

import re

import pytest

from neuropod.api.pages.ways import way_back
from neuropod.gateway.tickets import begin_hop
from support.api import PASSWORD, POD, ApiWorld

PAGES = ("/", "/sign-in/link", "/password", "/connect", "/nothing")


async def _every_page(world: ApiWorld) -> dict[str, str]:
    browser = await world.browser("owner")
    await browser.post("/api/v1/pods", json=POD)
    asked = await world.http().post("/api/v1/key-requests", json={"name": "x", "scopes": ["read"]})
    answers = [await browser.get(path) for path in (*PAGES, f"/connect?code={asked.json()['code']}")]
    answers.append(await world.http().get("/sign-in"))
    answers.append(await world.http(origin=world.console).post("/sign-in", data={"email": "a", "password": "b"}))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
    return {str(answer.url): answer.text for answer in answers}


async def test_pages_hold_no_inline_script_or_style_and_load_from_this_host_alone(sqlite_world: ApiWorld):
    for url, html in (await _every_page(sqlite_world)).items():
        assert re.findall(r"<script(?![^>]*\bsrc=)", html) == [], url
        assert re.findall(r"\son\w+=|\sstyle=|javascript:", html) == [], url
        assert all(source.startswith("/static/") for source in re.findall(r'src="([^"]*)"', html)), url


async def test_a_page_may_run_scripts_only_where_it_needs_one(sqlite_world: ApiWorld):
    browser = await sqlite_world.browser("owner")

    policies = {path: (await browser.get(path)).headers["content-security-policy"] for path in PAGES}

    assert [path for path, policy in policies.items() if "script-src" in policy] == ["/sign-in/link"]


async def test_a_pods_page_may_lead_a_form_into_pods_and_no_other_page_may(sqlite_world: ApiWorld):
    browser = await sqlite_world.browser("owner")

    policies = {path: (await browser.get(path)).headers["content-security-policy"] for path in PAGES}

    into_pods = "form-action 'self' http://*.neuropod-pods.localhost:8080;"
    assert [path for path, policy in policies.items() if into_pods in policy] == ["/"]
    assert all("form-action 'self';" in policy for path, policy in policies.items() if path != "/")


async def test_who_has_no_pods_is_told_how_to_launch_one_from_any_machine(sqlite_world: ApiWorld):
    browser = await sqlite_world.browser("owner")

    html = (await browser.get("/")).text

    assert f"neuropod login {sqlite_world.console}" in html
    assert "neuropod pod create lab --template jupyterlab --wait" in html


async def test_a_port_is_opened_by_post_and_its_token_stands_in_no_page(world: ApiWorld):
    browser = await world.browser("owner")
    pod = (await browser.post("/api/v1/pods", json=POD)).json()["id"]

    page = await browser.get("/")
    opened = await browser.post(f"/pods/{pod}/ports/8888/open")

    token = opened.headers["location"].partition("token=")[2]
    assert opened.status_code == 303
    assert opened.headers["referrer-policy"] == "no-referrer"
    assert len(token) > 20
    assert token not in page.text


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/connect/../../x", "/gate/continue#x", "javascript:x",
     "/\t/evil.example", "/gate/continue?ref=a&b=<script>", "", "/pods/x", "/connect\r\nSet-Cookie: a=b"],
)  # fmt: skip
async def test_after_signing_in_nobody_is_led_elsewhere(sqlite_world: ApiWorld, to: str):
    page = sqlite_world.http(origin=sqlite_world.console)

    answer = await page.post("/sign-in", data={"email": "owner@example.org", "password": PASSWORD, "to": to})

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert way_back(to) == "/"


async def test_after_signing_in_one_goes_on_to_where_one_was_sent(sqlite_world: ApiWorld):
    nobody = sqlite_world.http(origin=sqlite_world.console)

    sent = await nobody.get("/gate/continue?ref=abc-_1")
    form = await nobody.get(sent.headers["location"])
    to = re.findall(r'name="to" value="([^"]*)"', form.text)[0]
    answer = await nobody.post("/sign-in", data={"email": "owner@example.org", "password": PASSWORD, "to": to})

    assert answer.headers["location"] == "/gate/continue?ref=abc-_1"


async def test_who_comes_from_another_site_is_asked_to_ask_again_from_here(sqlite_world: ApiWorld):
    """A Strict cookie is not sent along from there, so somebody signed in would be taken for a stranger."""
    nobody = sqlite_world.http()

    answer = await nobody.get("/gate/continue?ref=abc", headers={"sec-fetch-site": "cross-site"})

    assert answer.status_code == 200
    assert 'content="0; url=/gate/continue?ref=abc"' in answer.text


async def test_texts_of_people_are_escaped(sqlite_world: ApiWorld):
    browser = await sqlite_world.browser("owner")
    evil = '"><script>alert(1)</script>'
    asked = await sqlite_world.http().post("/api/v1/key-requests", json={"name": evil, "scopes": ["read"]})
    signed = await sqlite_world.http(origin=sqlite_world.console).post(
        "/sign-in", data={"email": evil, "password": "x"}
    )

    shown = await browser.get(f"/connect?code={asked.json()['code']}")

    for page in (shown, signed):
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;" in page.text


async def test_the_gates_page_posts_a_ticket_to_the_pod_that_asked(world: ApiWorld):
    browser = await world.browser("outsider")
    owner = await world.browser("owner")
    host = (await owner.post("/api/v1/pods", json=POD)).json()["ports"][0]["host"]
    await world.load_routes()
    hop = begin_hop(world.parts.box, host, "/lab", now=world.clock.now())

    page = await browser.get("/gate/continue", params={"ref": hop.reference})
    unsigned = await world.http().get("/gate/continue", params={"ref": hop.reference})

    action = re.findall(r'action="(http[^"]*)"', page.text)
    ticket = re.findall(r'name="ticket" value="([^"]*)"', page.text)
    assert action == [f"http://{host}:8080/.neuropod/enter"]
    assert len(ticket[0]) > 30
    assert page.headers["referrer-policy"] == "strict-origin"
    assert "form-action 'self' http://*.neuropod-pods.localhost:8080;" in page.headers["content-security-policy"]
    assert unsigned.headers["location"].startswith("/sign-in?to=")


async def test_the_gates_page_leads_to_no_host_that_is_no_route(world: ApiWorld):
    browser = await world.browser("owner")
    box, now = world.parts.box, world.clock.now()
    await world.load_routes()

    gone = await browser.get("/gate/continue", params={"ref": begin_hop(box, "evil.example", "/", now=now).reference})
    forged = await browser.get("/gate/continue", params={"ref": "AAAA"})

    assert (gone.status_code, forged.status_code) == (404, 404)
    assert "evil.example" not in gone.text


async def test_static_files_are_kept_for_ever_under_an_address_that_changes_with_them(sqlite_world: ApiWorld):
    nobody = sqlite_world.http()
    page = await nobody.get("/sign-in")

    paths = set(re.findall(r'"(/static/[^"]*)"', page.text))
    answers = [await nobody.get(path) for path in sorted(paths)]

    assert {answer.headers["content-type"].partition(";")[0] for answer in answers} == {"image/svg+xml", "text/css"}
    assert all("immutable" in answer.headers["cache-control"] for answer in answers)
    assert (await nobody.get("/static/1/../rendering.py")).status_code == 404
    assert (await nobody.get("/static/1/nothing.css")).status_code == 404
