"""A real OpenID provider (oidc-provider-mock, a process of its own), and browsers that sign in by it.

`provider` is one per test session; subjects are named by the test, so tests do not meet.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from neuropod.accounts.oidc.provider import Provider
from neuropod.api.app import build_api
from neuropod.kit.clock import SystemClock
from neuropod.settings import OidcSettings
from support.api import ApiWorld

CLIENT_ID, CLIENT_SECRET = "neuropod", "s3cret: of the client"


@dataclass
class RealProvider:
    issuer: str
    notes: Path

    def tell(self, subject: str, **claims: Any) -> None:
        """Let the provider say this of a subject from now on."""
        httpx.put(f"{self.issuer}/users/{subject}", json=claims, trust_env=False).raise_for_status()

    def sign_in(self, url: str, subject: str | None) -> str:
        """Sign a subject in at the provider's own page (None: refuse there); return where it sends the browser."""
        form = {"action": "deny"} if subject is None else {"sub": subject}
        answer = httpx.post(url, data=form, trust_env=False)
        assert answer.status_code == 302, answer.text[:500]
        return unescape(answer.headers["location"])

    def token_requests(self) -> list[dict[str, Any]]:
        """Return what clients sent to the token endpoint."""
        return [json.loads(line) for line in self.notes.read_text().splitlines()]


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProvider]:
    notes = tmp_path_factory.mktemp("oidc") / "requests"
    notes.touch()
    script = Path(__file__).with_name("oidc_server.py")
    with subprocess.Popen([sys.executable, "-W", "ignore", script, notes], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield RealProvider(server.stdout.readline().strip(), notes)
        finally:
            server.terminate()


def with_provider(world: ApiWorld, issuer: str, **values: Any) -> Provider:
    """Let the world's API sign people in by this provider."""
    settings = OidcSettings(issuer=issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, name="Example", **values)
    made = Provider(settings, SystemClock(), redirect_url=f"{world.console}/auth/oidc/callback")
    world.parts = replace(world.parts, provider=made)
    world.app = build_api(world.parts)
    return made


@dataclass
class Visit:
    """A browser on its way to the provider and back; it keeps its cookies and leaves Strict ones out as browsers do."""

    world: ApiWorld
    cookies: dict[str, str] = field(default_factory=dict)
    strict: set[str] = field(default_factory=set)

    async def get(self, path: str, *, site: str = "same-origin", **params: str) -> httpx.Response:
        sent = {name: value for name, value in self.cookies.items() if site != "cross-site" or name not in self.strict}
        headers = {"sec-fetch-site": site, "cookie": "; ".join(f"{name}={value}" for name, value in sent.items())}
        answer = await self.world.http().get(path, params=params or None, headers=headers)
        for header in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(header).items():
                (self.strict.add if morsel["samesite"].lower() == "strict" else self.strict.discard)(name)
                self.cookies[name] = morsel.value
                if not morsel.value or morsel["max-age"] == "0":
                    del self.cookies[name]
        return answer

    async def begin(self, to: str = "/") -> httpx.Response:
        """Press the button; the answer's location is the provider's."""
        return await self.get("/auth/oidc/start", to=to)

    async def come_back(self, location: str) -> httpx.Response:
        """Follow the provider's redirect."""
        parts = urlsplit(location)
        return await self.get(f"{parts.path}?{parts.query}", site="cross-site")

    async def through(self, provider: RealProvider, subject: str | None, to: str = "/") -> httpx.Response:
        """Go the whole way."""
        begun = await self.begin(to)
        assert begun.status_code == 303, begun.text
        return await self.come_back(provider.sign_in(begun.headers["location"], subject))

    async def me(self) -> dict[str, Any]:
        return (await self.get("/api/v1/me")).json()
