"""Somebody deletes a user's namespace by hand, and the claims die with it: their owner is told which volumes are lost."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from support.cluster_server import cluster, isolates, server_on, small_type
from support.cluster_wishes import SLEEPER, await_wishes, namespace_of_admin
from support.kubectl import kubectl
from support.servers import Server, wait_for

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with server_on(tmp_path_factory.mktemp("lost") / "data", cluster()) as server:
        small_type(server)
        isolates(server)
        yield server


def _volume(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = server.api.get(f"/volumes/{name}").json()
    return found


async def test_a_volume_whose_claim_died_with_its_namespace_is_lost_and_no_empty_one_takes_its_place(server: Server):
    server.create("with", **SLEEPER | {"volume": {"name": "papers", "size_gb": 1}})
    server.create("without", **SLEEPER)
    await_wishes(server, {"with": "running", "without": "running"})
    namespace = namespace_of_admin(server)
    before = _volume(server, "papers")

    kubectl("delete", "namespace", namespace, "--wait=false")
    failed = server.wait_for_status("with", "failed", seconds=150)
    server.wait_for_status("without", "running", seconds=120)
    shown = server.run("volume", "show", "papers")
    lost = _volume(server, "papers")
    server.verb("with", "start")
    again = server.wait_for_status("with", "failed", seconds=60)
    claims = kubectl("-n", namespace, "get", "pvc", "-o", "name")
    edited = server.api.patch("/pods/with", json={"volume": {"name": "anew", "size_gb": 1}, "restart": True})
    assert edited.is_success, edited.text
    server.wait_for_status("with", "running", seconds=120)
    removed = server.api.delete("/volumes/papers")

    assert (before["lost"], lost["lost"], lost["use"]) == (False, True, None)
    assert failed["reason"] == again["reason"] == "volume_lost"
    assert "volume papers was there" in failed["message"]
    assert "Lost" in shown.stdout
    assert claims == ""
    assert removed.is_success, removed.text
    assert not _volume(server, "anew")["lost"]
    for name in ("with", "without"):
        server.api.delete(f"/pods/{name}").raise_for_status()
    wait_for(lambda: not server.api.get("/pods").json()["items"], "the pods' end", 90)
