"""One server with this machine and a cluster side by side, each with its own carrier and pods domain."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from support.browser import chromium
from support.carrying import controller_of, prepare
from support.cluster_account import admin_client
from support.cluster_orders import needs_throwaway
from support.cluster_server import cluster, server_on, small_type
from support.notebook import run_first_cell
from support.servers import ADMIN_KEY, Server, wait_for

pytestmark = [needs_throwaway, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

ARTIFACTS = Path(os.environ.get("NEUROPOD_TEST_ARTIFACTS", Path(__file__).parent.parent / "e2e/artifacts"))
PRODUCT = "NVIDIA-GeForce-RTX-4090"  # of node-1 (tools/cluster/places.py)
# Runs on this machine by its recipe, on a cluster by its image.
EITHER = {
    "name": "either", "title": "Either", "image": "neuropod.test/http:1",
    "recipe": {"packages": [], "command": ["python3", "-m", "http.server", "8080"]},
    "env": {"PORT": "8080"}, "ports": [{"port": 8080}], "ready_when": "port", "ready_port": 8080,
    "container_disk_gb": 1, "volume_gb": None, "gpu_type": "cpu",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The server, and where Traefik carries the ports of the cluster `lab`."""

    server: Server
    port: int

    def launch(self, name: str, **values: Any) -> dict[str, Any]:
        self.server.create(name, **({"template": "either"} | values))
        return self.server.wait_for_status(name, "running")

    def visit(self, pod: dict[str, Any], *, key: bool = True) -> httpx.Response:
        """Go to its port as a program does, by whatever carries it."""
        (port,) = pod["ports"]
        at = self.port if port["host"].endswith(".lab-pods.localhost") else self.server.port
        headers = {"Host": f"{port['host']}:{at}"} | ({"X-Neuropod-Key": ADMIN_KEY} if key else {})
        return httpx.get(f"http://127.0.0.1:{at}/", headers=headers, timeout=30)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("several")
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(admin_client())
        await prepare(admin)
        traefik = await stack.enter_async_context(controller_of("ingress", folder, "0.0.0.0"))
        lab = cluster("lab", carrier="ingress", pods_url=f"http://lab-pods.localhost:{traefik.port}")
        # The same cluster by another name: it is recognized, and not taken for a second one.
        twin = cluster("twin", pods_domain="twin-pods.localhost")
        data = folder / "data"
        server = await stack.enter_async_context(
            server_on(data, lab, twin, local=True, host="0.0.0.0", accept_plain_http="true")
        )
        small_type(server)
        made = server.api.post("/templates", json=EITHER)
        assert made.status_code == 201, made.text
        yield Place(server, traefik.port)


async def test_a_cluster_that_two_entries_name_is_one(place: Place):
    runtimes = place.server.api.get("/system").json()["runtimes"]
    doctor = place.server.run("doctor")

    assert sorted(one["id"].partition(":")[0] for one in runtimes if one["id"]) == ["kubernetes", "local"]
    assert "runtime twin cannot be opened: it is the same one as 'lab'" in doctor.stderr


async def test_a_type_of_both_goes_to_the_one_with_room_and_each_is_reached_at_its_own_address(place: Place):
    free = next(one for one in place.server.api.get("/gpu-types").json()["items"] if one["name"] == "cpu")["free"]
    here = []
    while (quote := place.server.api.post("/pods/quote", json={"name": "next", "template": "either"}).json())[
        "runtime"
    ].startswith("local:"):
        assert len(here) < free
        here.append(place.launch(f"here-{len(here)}"))
    there = place.launch("there")
    places = {pod["name"]: pod["runtime"] for pod in (*here, there)}
    wait_for(lambda: place.visit(there).status_code == 200, "Traefik to follow")
    seen = {pod["name"]: (place.visit(pod).status_code, place.visit(pod, key=False).status_code)
            for pod in (here[0], there)}  # fmt: skip
    for pod in (*here, there):
        place.server.api.delete(f"/pods/{pod['id']}")

    assert here
    assert quote["fits"]
    assert {name: runtime.partition(":")[0] for name, runtime in places.items()} == {
        **{pod["name"]: "local" for pod in here}, "there": "kubernetes",
    }  # fmt: skip
    assert here[0]["ports"][0]["host"].endswith(".neuropod-pods.localhost")
    assert there["ports"][0]["host"].endswith(".lab-pods.localhost")
    assert seen == {"here-0": (200, 401), "there": (200, 401)}


async def test_a_type_of_gpus_goes_where_they_are(place: Place):
    found = {"gpu_resource": "nvidia.com/gpu", "node_selector": {"nvidia.com/gpu.product": PRODUCT}}
    small_type(place.server, "rtx-4090", **found)
    pod = place.launch("gpu", gpu_type="rtx-4090")
    place.server.api.delete(f"/pods/{pod['id']}")

    assert pod["runtime"].startswith("kubernetes:")


async def test_jupyter_opens_signed_in_through_traefik_in_a_browser_and_runs_a_cell(place: Place):
    """By the link alone: the visitor is signed in at the console, and comes back to the pod's own address."""
    server = place.server
    server.create("lab", image="neuropod.test/jupyterlab:1", ports=[{"port": 8888}], jupyter="platform",
                  container_disk_gb=1, volume=None)  # fmt: skip
    pod = await asyncio.to_thread(server.wait_for_status, "lab", "running")
    link = server.api.post("/pods/lab/ports/8888/link").json()["url"]
    sign_in = server.run("admin", "sign-in-link").stdout.strip()
    wait_for(lambda: place.visit(pod).status_code < 400, "Traefik to follow")
    ARTIFACTS.mkdir(exist_ok=True)

    async with chromium() as browser:
        page = await browser.page()
        await page.size(1440, 900)
        await page.goto(sign_in)
        await page.wait("location.pathname === '/password'")
        await page.goto(link)
        await page.wait("!!document.querySelector('.jp-LabShell, #jp-main-dock-panel')", 60)
        host = await page.run("location.host")
        await run_first_cell(page, "print(6 * 7)", "42")
        await page.screenshot(ARTIFACTS / "jupyter-traefik.png")
    server.api.delete(f"/pods/{pod['id']}")

    assert host == f"{pod['ports'][0]['host']}:{place.port}"
    assert host.startswith("lab-")
