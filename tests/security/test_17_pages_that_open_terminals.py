"""SECURITY 17, terminals: a browser sends the session's cookie with every WebSocket; only the console's page opens one."""

import pytest

from neuropod.words import Scope
from support.api import ApiWorld
from support.terminals import served


async def test_only_the_consoles_own_page_opens_a_terminal_with_a_session(sqlite_world: ApiWorld):
    addresses = sqlite_world.parts.addresses
    async with served(sqlite_world) as here:
        pod = await here.running_pod()
        cookie = {"Cookie": (await here.cookie("owner"))["Cookie"]}
        pod_page = f"http://lab-abcdefgh-8888.{addresses.pods.domain}:8080"
        origins = (
            None,
            "null",
            pod_page,
            f"http://{addresses.api_host}:8080",
            f"https://{addresses.console_host}:8080",
            f"http://{addresses.console_host}",
            f"http://{addresses.console_host}:8080.evil.example",
            f"http://{addresses.console_host}:8080, {pod_page}",
        )

        for origin in origins:
            headers = cookie if origin is None else cookie | {"Origin": origin}
            assert await here.refusal(pod, headers) == (403, "wrong_origin"), origin

        async with here.command(pod, cookie | {"Origin": sqlite_world.console}, "true") as command:
            await command.to_the_end()
    assert command.end is not None
    assert command.end["exit_code"] == 0


@pytest.mark.parametrize("host", ["api", "127.0.0.1"])
async def test_a_session_opens_none_on_the_hosts_for_programs(sqlite_world: ApiWorld, host: str):
    async with served(sqlite_world) as here:
        pod = await here.running_pod()
        headers = await here.cookie("owner")
        name = sqlite_world.parts.addresses.api_host if host == "api" else host

        refused = await here.refusal(pod, headers, host=name)

    assert refused == ((403, "wrong_origin") if host == "api" else (401, "unauthenticated"))


async def test_a_wrong_key_beside_a_good_session_is_nobody(sqlite_world: ApiWorld):
    async with served(sqlite_world) as here:
        pod = await here.running_pod()
        both = await here.cookie("owner") | {"Authorization": "Bearer npk_wrong"}
        a_pods_page = await here.key("owner", Scope.WRITE) | {"Origin": "http://evil.example"}

        refused = await here.refusal(pod, both)
        async with here.command(pod, a_pods_page, "true") as command:  # no browser sends a key by itself
            await command.to_the_end()

    assert refused == (401, "unauthenticated")
    assert command.end is not None
    assert command.end["exit_code"] == 0
