"""A server with a kubeconfig and nothing else, as on Minikube: its ports are reached through the API server."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import pytest_asyncio

from support.cluster_account import admin_kubeconfig
from support.cluster_server import server_on, small_type
from support.jupyter import Kernel, run_cell
from support.servers import Server

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

JUPYTER = "neuropod.test/jupyterlab:1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    async with server_on(tmp_path_factory.mktemp("up") / "data", kubeconfig=str(admin_kubeconfig())) as server:
        small_type(server)
        yield server


@pytest.mark.parametrize("jupyter", ["platform", "from_log"])
async def test_jupyter_opens_signed_in_and_runs_a_cell(server: Server, jupyter: str):
    """The token is handed in, or read from the log of an image that makes its own."""
    name = jupyter.replace("_", "-")
    words = ("--image", JUPYTER, "--port", "8888", "--jupyter", jupyter, "--gpu-type", "cpu", "--disk", "1")
    made = server.run("pod", "create", name, *words, "--no-volume")
    assert made.returncode == 0, made.stdout + made.stderr
    pod = server.wait_for_status(name, "running")
    opened = server.run("pod", "open", name, "8888")
    link = opened.stdout.strip()
    token = parse_qs(urlsplit(link).query)["token"][0]
    url, headers = server.visit(pod, 8888)

    with httpx.Client(base_url=url, headers=headers, timeout=30) as visitor:
        without = visitor.get("/lab")
        lab = visitor.get(f"/lab?token={token}")
        signed_in = visitor.get("/api/contents")  # by the cookie of Jupyter's that the link brought
    kernel = Kernel(url, headers, token)
    with kernel.open() as channel:
        printed = run_cell(channel, "print(6 * 7)")
    server.api.delete(f"/pods/{pod['id']}")

    assert urlsplit(link).hostname == pod["ports"][0]["host"]
    assert (lab.status_code, signed_in.status_code) == (200, 200)
    assert "/login" in without.headers.get("location", "")
    assert printed == "42\n"


async def test_it_runs_nothing_on_its_own_machine_and_says_which_cluster_it_is_on(server: Server):
    (runtime,) = server.api.get("/system").json()["runtimes"]
    doctor = server.run("doctor")

    assert runtime["id"].startswith("kubernetes:")
    assert "Kubernetes v1." in doctor.stdout
