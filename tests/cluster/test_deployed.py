"""The server in the cluster, as deploy/ puts it there: by its ServiceAccount, behind a real Traefik."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import yaml

from support.cluster_account import DEPLOY, NAMESPACE, objects_of
from support.cluster_orders import needs_throwaway, order
from support.cluster_pods import BUSYBOX, clear_of_users
from support.kubectl import kubectl
from support.server_image import NODE, REFERENCE, import_image
from support.servers import ADMIN_KEY, wait_for

TRAEFIK = "http://10.96.0.80"
CONSOLE, API = "app.neuropod.example.org", "api.neuropod.example.org"
FOR_TESTS = f'canary_image = "{BUSYBOX}"\ncpu_overcommit = 20\n'

pytestmark = [needs_throwaway, pytest.mark.timeout(900)]


class Deployed:
    """Asks as visitors do: by Traefik, which knows hosts alone."""

    def ask(self, method: str, path: str, *, host: str = API, **values: Any) -> httpx.Response:
        headers = {"Host": host, **values.pop("headers", {})}
        return httpx.request(method, f"{TRAEFIK}{path}", headers=headers, timeout=30, trust_env=False, **values)

    def api(self, method: str, path: str, **values: Any) -> Any:
        answer = self.ask(method, f"/api/v1{path}", headers={"Authorization": f"Bearer {ADMIN_KEY}"}, **values)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return self.ask("GET", "/readyz").status_code == 200
        return False

    def running(self, name: str) -> dict[str, Any] | None:
        pod = self.api("GET", f"/pods/{name}")
        assert pod["status"] != "failed", pod
        return pod if pod["status"] == "running" else None


def _carried_by_traefik(obj: dict[str, Any]) -> dict[str, Any]:
    """Return the object where Traefik carries ports itself, as docs/howto/carry-ports-on-kubernetes.md has it."""
    if obj["kind"] == "ConfigMap":
        text = obj["data"]["neuropod.toml"].replace('gateway_namespace = "neuropod"', 'gateway_namespace = "traefik"')
        text = text.replace('gateway_labels = {app = "neuropod"}\n', "")
        # The Traefik of the tests speaks no TLS.
        text = text.replace('pods_url = "https:', 'pods_url = "http:')
        obj["data"]["neuropod.toml"] = text + 'carrier = "ingress"\ngate_url = "http://neuropod.neuropod.svc"\n'
    if obj["kind"] == "Ingress":
        obj["spec"]["rules"] = [rule for rule in obj["spec"]["rules"] if not rule["host"].startswith("*")]
    return obj


def _for_tests(obj: dict[str, Any], image: str) -> dict[str, Any]:
    """Return the object with the image, a key, and what a throwaway cluster has; all else is as it stands."""
    if obj["kind"] == "ConfigMap":
        obj["data"]["neuropod.toml"] += FOR_TESTS
    if obj["kind"] == "Deployment":
        spec = obj["spec"]["template"]["spec"]
        spec["nodeSelector"] = {"kubernetes.io/hostname": NODE}
        spec["containers"][0]["image"] = image
        spec["containers"][0]["env"].append({"name": "NEUROPOD_ADMIN_API_KEY", "value": ADMIN_KEY})
    return obj


def _objects() -> list[dict[str, Any]]:
    objects = [_for_tests(obj, REFERENCE) for obj in objects_of("40-server.yaml")]
    return [*objects, *yaml.safe_load_all((DEPLOY / "examples/ingress.yaml").read_text())]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    import_image(tmp_path_factory.mktemp("image"))
    order("start", "traefik")
    text = yaml.safe_dump_all(_objects())
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    try:
        server = Deployed()
        try:
            wait_for(server.is_ready, "the server", 180)
        except AssertionError as error:
            told = kubectl("-n", NAMESPACE, "describe", "pods") + kubectl("-n", NAMESPACE, "logs", "deploy/neuropod")
            raise AssertionError(told[-6000:]) from error
        yield server
        for pod in server.api("GET", "/pods?owner=*")["items"]:
            server.api("DELETE", f"/pods/{pod['id']}")
        wait_for(lambda: not server.api("GET", "/pods?owner=*")["items"], "the pods' end", 120)
        users = [one["hash"] for one in server.api("GET", "/users")["items"]]
        kubectl("-n", NAMESPACE, "delete", "deployment", "neuropod")
        asyncio.run(clear_of_users(users))
    finally:
        kubectl("delete", "--ignore-not-found", "--timeout=100s", "-f", "-", stdin=text)


def test_it_runs_pods_in_its_own_cluster_and_reaches_them(deployed: Deployed):
    def network() -> dict[str, Any] | None:
        (runtime,) = deployed.api("GET", "/system")["runtimes"]
        return next((one for one in runtime["guarantees"] or () if one["name"] == "network" and one["holds"]), None)

    wait_for(network, "the canary", 120)
    wanted = {
        "name": "web",
        "image": "neuropod.test/http:1",
        "gpu_type": "cpu",
        "container_disk_gb": 1,
        "volume": {"name": "workspace", "size_gb": 1},
        "ports": [{"port": 8080}],
    }
    deployed.api("POST", "/pods", json=wanted)
    pod = wait_for(lambda: deployed.running("web"), "the pod", 120)
    (port,) = pod["ports"]

    def known() -> bool:
        answer = deployed.ask("GET", "/", host=port["host"], headers={"X-Neuropod-Key": ADMIN_KEY})
        return answer.status_code == 200

    wait_for(known, "the pod's port, which its process that runs opens a moment later", 60)
    stranger = deployed.ask("GET", "/", host=port["host"])

    assert stranger.status_code == 401
    assert deployed.ask("GET", "/", host=CONSOLE).status_code < 400
    wait_for(lambda: _uses_memory(deployed), "what the pod uses, as its kubelet tells it", 120)


def _uses_memory(deployed: Deployed) -> bool:
    now = deployed.api("GET", "/pods/web/usage")["now"]
    return now is not None and bool(now["memory_bytes"])


def test_a_new_server_takes_up_the_pods_of_the_one_before(deployed: Deployed):
    before = deployed.running("web")
    assert before is not None
    kubectl("-n", NAMESPACE, "delete", "pod", "-l", "app=neuropod")
    wait_for(deployed.is_ready, "the next server", 180)

    after = wait_for(lambda: deployed.running("web"), "the pod", 60)

    assert (after["id"], after["since"]) == (before["id"], before["since"])
    (port,) = after["ports"]
    again = wait_for(
        lambda: deployed.ask("GET", "/", host=port["host"], headers={"X-Neuropod-Key": ADMIN_KEY}).status_code == 200,
        "the pod's port",
    )
    assert again


def test_traefik_carries_ports_itself_where_the_settings_say_so(deployed: Deployed):
    text = yaml.safe_dump_all([_carried_by_traefik(obj) for obj in _objects()])
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    kubectl("-n", NAMESPACE, "delete", "pod", "-l", "app=neuropod")
    wait_for(deployed.is_ready, "the next server", 180)
    pod = wait_for(lambda: deployed.running("web"), "the pod", 60)
    (port,) = pod["ports"]

    def known() -> bool:
        answer = deployed.ask("GET", "/", host=port["host"], headers={"X-Neuropod-Key": ADMIN_KEY})
        return answer.status_code == 200

    wait_for(known, "the port's own Ingress, and the policy that lets Traefik in", 120)
    stranger = deployed.ask("GET", "/", host=port["host"])

    assert stranger.status_code == 401
    assert f"{port['host'].partition('.')[0]}-ingress" in kubectl("get", "ingress", "-A", "-o", "name")
