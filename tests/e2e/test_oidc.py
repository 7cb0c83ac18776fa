"""A person signs in by their organisation: a real server, a real provider, a real browser, and the commands after it."""

import json
import os
from pathlib import Path

import pytest

from support.browser import chromium
from support.oidc import RealProvider
from support.servers import running_server

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("browser")]

ARTIFACTS = Path(os.environ.get("NEUROPOD_TEST_ARTIFACTS", Path(__file__).parent / "artifacts"))


async def test_the_button_leads_to_the_provider_and_back_signed_in(tmp_path: Path, provider: RealProvider):
    provider.tell("e2e-ada", email="ada@lab.example", email_verified=True, name="Ada Byron", groups=["gpu"])
    provider.tell("e2e-eve", email="eve@lab.example", email_verified=True, name="Eve", groups=["guests"])
    settings = {
        "fake_runtime": "true",
        "oidc__issuer": provider.issuer,
        "oidc__client_id": "neuropod",
        "oidc__client_secret": "s3cret",
        "oidc__name": "Example Lab",
        "oidc__allowed_claim": "groups",
        "oidc__allowed_values": '["gpu"]',
    }
    with running_server(tmp_path / "data", **settings) as server:
        console = f"http://app.neuropod.localhost:{server.port}"
        async with chromium() as browser:
            page = await browser.page()

            async def press_and_be(subject: str) -> None:
                await page.wait("location.pathname === '/sign-in' && document.querySelector('a.button')")
                await page.run("document.querySelector('a.button').click()")
                await page.wait("document.querySelector('input[name=sub]') !== null")
                await page.run(f"document.querySelector('input[name=sub]').value = {subject!r}")
                await page.run("document.querySelector('form:has(input[name=sub])').requestSubmit()")

            await page.goto(f"{console}/sign-in")
            ARTIFACTS.mkdir(exist_ok=True)
            await page.screenshot(ARTIFACTS / "sign-in-provider-1440.png")
            await press_and_be("e2e-eve")
            refused = await page.wait(
                "location.pathname === '/auth/oidc/callback' && document.querySelector('main p').textContent"
            )
            await page.goto(f"{console}/password")  # leads to the sign-in, and back here
            await press_and_be("e2e-ada")
            await page.wait("location.pathname === '/password' && document.querySelector('.email')")
            who = await page.run("document.querySelector('.email').textContent")
            cookies = {cookie["name"]: cookie for cookie in (await page.send("Network.getCookies"))["cookies"]}

        users = json.loads(server.run("user", "ls", "--search", "lab.example", "--json").stdout)
        acts = json.loads(server.run("audit", "--user", "ada@lab.example", "--json").stdout)

    assert "not in a group" in refused
    assert who == "ada@lab.example"
    assert list(cookies) == ["__Host-neuropod-session"]
    assert cookies["__Host-neuropod-session"]["sameSite"] == "Strict"
    assert [(user["email"], user["role"], user["has_password"]) for user in users] == [
        ("ada@lab.example", "client", False)
    ]
    assert [act["verb"] for act in acts] == ["create_user", "link_identity", "sign_in"]
    log = server.log.read_text()
    assert "code=" not in log
    assert "s3cret" not in log
