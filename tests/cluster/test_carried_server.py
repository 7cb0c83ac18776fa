"""A real server whose pods an ingress controller carries: from launch to delete, with the server killed in between."""

import asyncio
import json
import time

import httpx
import pytest

from neuropod.kube.kinds import ENDPOINT_SLICES, INGRESSES, MIDDLEWARES, NAMESPACES, SERVICES
from neuropod.kube.kubeconfig import from_kubeconfig
from support.carrying import controller_of, own_address, prepare
from support.cluster_account import account_kubeconfig, admin_client, admin_kubeconfig
from support.cluster_pods import BUSYBOX
from support.servers import ADMIN_KEY, Server, wait_for

IMAGE = "neuropod.test/http:1"


class _Visitor:
    """Who goes to a pod's address through the controller, with the owner's key or without."""

    def __init__(self, address, port, host):
        self._url, self._host = f"http://{address}:{port}", host

    def get(self, path="/echo", *, key=ADMIN_KEY, **headers):
        shown = {"Host": self._host} | ({"X-Neuropod-Key": key} if key else {}) | headers
        return httpx.get(self._url + path, headers=shown, timeout=10)

    def sees(self, status, text=""):
        """Tell whether that is the answer; one that the controller asks of a pod that has just ended may not come."""
        try:
            answer = self.get("/", Accept="text/html")
        except httpx.TimeoutException:
            return False
        return answer.status_code == status and text in answer.text

    def status(self, **more):
        return self.get(**more).status_code


@pytest.mark.timeout(600)  # two starts of a server and of a pod, on a machine that runs a cluster beside
@pytest.mark.parametrize("carrier", ["ingress", "nginx"])
async def test_a_pod_is_carried_from_its_launch_to_its_end(carrier, tmp_path):
    address = own_address(from_kubeconfig(admin_kubeconfig()).server)
    async with (
        admin_client() as admin,
        controller_of(carrier, tmp_path, address) as controller,
    ):
        await prepare(admin)
        server = _server(tmp_path / "data", carrier, address, controller.port)
        server.start()
        namespace = None
        try:
            pod = _launch(server)
            port = pod["ports"][0]
            namespace = f"neuropod-{port['host'].partition('.')[0].rsplit('-', 2)[1]}"
            assert port["url"] == f"http://{port['host']}:{controller.port}/"
            visitor = _Visitor(address, controller.port, f"{port['host']}:{controller.port}")
            wait_for(lambda: visitor.sees(200), "the port", 60)
            assert "x-neuropod-key" not in visitor.get().text.lower()
            assert visitor.status(key=None) == (401 if carrier == "ingress" else 403)

            server.kill()
            seen = {visitor.status() for _ in range(5)}
            assert min(seen) >= 500  # nobody is let in while nobody can be asked
            server.start()
            wait_for(lambda: visitor.sees(200), "the port after the server's return", 60)

            server.api.post(f"/pods/{pod['id']}/stop")
            _until(server, pod, "stopped")
            # Traefik takes changes over every two seconds: for that long it may still ask where the pod was.
            wait_for(lambda: visitor.sees(503, "is stopped"), "the page of a stopped pod", 60)
            server.api.post(f"/pods/{pod['id']}/start")
            wait_for(lambda: visitor.sees(200), "the port after a start", 120)

            server.api.delete(f"/pods/{pod['id']}")
            wait_for(lambda: server.api.get(f"/pods/{pod['id']}").status_code == 404, "the pod's end", 90)
            wait_for(lambda: visitor.sees(404), "the controller to follow", 60)
            deadline = time.monotonic() + 60
            while left := [
                one["metadata"]["name"]
                for kind in (SERVICES, INGRESSES, ENDPOINT_SLICES, MIDDLEWARES)
                for one in await admin.list(kind, namespace)
            ]:
                assert time.monotonic() < deadline, f"still there: {left}"
                await asyncio.sleep(0.2)
        finally:
            server.kill()
            server.api.close()
            if namespace is not None:
                await admin.delete(NAMESPACES, namespace)


def _server(data, carrier, address, controller_port):
    made = Server(
        data, host="0.0.0.0", accept_plain_http="true", pods_url=f"http://neuropod-pods.localhost:{controller_port}",
        local='{"enabled": false}',
    )  # fmt: skip
    cluster = {
        "name": "lab",
        "kubeconfig": str(account_kubeconfig()),
        "carrier": carrier,
        "gate_url": f"http://{address}:{made.port}",
        "canary_image": BUSYBOX,
        "cpu_overcommit": 20,
        "disk_overcommit": 20,
        "gateway_networks": [f"{address}/32"],
        "reach": "direct",
    }
    made.env["NEUROPOD_KUBERNETES"] = json.dumps([cluster])
    return made


def _launch(server):
    wanted = {
        "name": "lab", "image": IMAGE, "gpu_type": "cpu", "container_disk_gb": 1, "volume": None,
        "ports": [{"port": 8080}], "env": {"PORT": "8080"},
    }  # fmt: skip
    answer = server.api.post("/pods", json=wanted)
    assert answer.status_code == 201, answer.text
    return _until(server, answer.json(), "running")


def _until(server, pod, status):
    def look():
        found = server.api.get(f"/pods/{pod['id']}").json()
        assert found["status"] != "failed", found
        return found if found["status"] == status else None

    return wait_for(look, f"the pod to be {status}", 120)
