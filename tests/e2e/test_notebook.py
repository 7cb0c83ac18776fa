"""The path that matters most, with nothing replaced: a server process, a real JupyterLab, its kernel's WebSocket."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from support.jupyter import Kernel, run_cell, send_cell
from support.servers import Server, gateway_of, wait_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("notebook")]


@pytest.fixture(scope="module")
def lab(server: Server):
    server.create("lab", template="jupyterlab")
    return _running(server)


def _running(server: Server) -> dict[str, Any]:
    """Wait until the pod runs and is reached: the gateway hears of it a moment after whoever asks the API."""
    lab = server.wait_for_status("lab", "running", seconds=400)
    url, headers = server.visit(lab, 8888)
    wait_for(lambda: httpx.get(f"{url}/api", headers=headers, timeout=30).is_success, "the gateway to follow")
    return lab


def _token(server: Server) -> str:
    answer = server.api.post("/pods/lab/ports/8888/link")
    assert answer.status_code == 200, answer.text
    return parse_qs(urlsplit(answer.json()["url"]).query)["token"][0]


def test_a_cell_runs_through_the_kernels_websocket(server: Server, lab):
    url, headers = server.visit(lab, 8888)

    kernel = Kernel(url, headers, _token(server))
    with kernel.open() as channel:
        assert run_cell(channel, "print(6 * 7)") == "42\n"


def test_the_pods_own_packages_can_be_installed_and_imported(server: Server, lab):
    url, headers = server.visit(lab, 8888)

    kernel = Kernel(url, headers, _token(server))
    with kernel.open() as channel:
        run_cell(channel, "%pip install --quiet --disable-pip-version-check iniconfig==2.1.0", timeout=300)
        assert run_cell(channel, "import iniconfig, sys; print(iniconfig.__file__.startswith(sys.prefix))") == "True\n"


def test_without_the_key_nobody_gets_in(server: Server, lab):
    url, headers = server.visit(lab, 8888)
    del headers["X-Neuropod-Key"]

    assert httpx.get(f"{url}/lab", headers=headers).status_code == 401


def test_a_kernel_that_works_keeps_the_pod_from_being_idle_though_nobody_is_connected(server: Server, lab):
    server.api.patch("/pods/lab", json={"idle_stop_after_seconds": 3600}).raise_for_status()
    url, headers = server.visit(lab, 8888)
    kernel = Kernel(url, headers, _token(server))

    with kernel.open() as channel:
        send_cell(channel, "import time; time.sleep(600)")
    # A busy kernel that sleeps uses no CPU: its Jupyter's own word is all there is.
    alone = wait_for(lambda: (one := _idle(server))["kept_by"] == ["kernels"] and one, "the kernel alone to keep it")
    interrupt = f"{url}/api/kernels/{kernel.id}/interrupt?token={_token(server)}"
    httpx.post(interrupt, headers=headers, timeout=30).raise_for_status()
    idle = wait_for(lambda: (one := _idle(server))["since"] and one, "the pod to be idle", 60)

    assert (alone["since"], alone["stops_at"]) == (None, None)
    assert idle["kept_by"] == []
    assert idle["stops_at"] is not None
    assert server.api.get("/pods/lab/usage").json()["now"]["memory_bytes"] > 10_000_000


def _idle(server: Server) -> dict[str, Any]:
    return server.pod("lab")["idle"]


def test_after_sigkill_the_kernel_still_runs_and_its_variables_are_there(server: Server, lab):
    url, headers = server.visit(lab, 8888)
    kernel = Kernel(url, headers, _token(server))
    with kernel.open() as channel:
        run_cell(channel, "answer = 42")

    server.kill()
    server.start()

    assert _running(server)["incarnation"]["number"] == lab["incarnation"]["number"]
    with kernel.open() as channel:
        assert run_cell(channel, "print(answer)") == "42\n"


def test_a_websocket_through_a_gateway_of_its_own_outlives_the_server(server: Server, lab):
    with gateway_of(server) as url:
        headers = server.visit(lab, 8888)[1]
        kernel = Kernel(url, headers, _token(server))
        with kernel.open() as channel:
            run_cell(channel, "answer = 42")

            server.kill()
            while_away = run_cell(channel, "print(answer)")
            server.start()
            afterwards = run_cell(channel, "print(answer + 1)")

    assert (while_away, afterwards) == ("42\n", "43\n")


def test_after_stop_and_start_the_address_and_the_workspace_are_the_same(server: Server, lab):
    url, headers = server.visit(lab, 8888)
    kernel = Kernel(url, headers, _token(server))
    with kernel.open() as channel:
        run_cell(channel, "open('/workspace/kept.txt', 'w').write('still here')")

    server.verb("lab", "stop")
    server.wait_for_status("lab", "stopped")
    server.verb("lab", "start")
    again = _running(server)

    assert [port["url"] for port in again["ports"]] == [port["url"] for port in lab["ports"]]
    kernel = Kernel(url, headers, _token(server))
    with kernel.open() as channel:
        assert run_cell(channel, "print(open('/workspace/kept.txt').read())") == "still here\n"
