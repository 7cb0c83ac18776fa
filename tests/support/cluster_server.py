"""A real server process that runs pods on the cluster of the tests; at its end nothing of its installation is left.

`cluster(name, …)` is an entry of its settings as tests need it; a server with a kubeconfig alone has none.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from neuropod.kube.kubeconfig import from_kubeconfig
from support.carrying import own_address
from support.cluster_account import account_kubeconfig, admin_kubeconfig
from support.cluster_pods import BUSYBOX, clear_of_users
from support.servers import Server, wait_for

# For servers that are disturbed: they find soon what a disturbance made them miss.
QUICK = {"reconcile__resync_seconds": "2", "reconcile__sweep_grace_seconds": "2"}


def here() -> str:
    """Return the address of this machine that the cluster reaches."""
    return own_address(from_kubeconfig(admin_kubeconfig()).server)


def cluster(name: str = "lab", **changes: Any) -> dict[str, Any]:
    """Return the settings of the tests' cluster as the server's account: far more pods than it has cores for."""
    usual = {
        "name": name,
        "kubeconfig": str(account_kubeconfig()),
        "canary_image": BUSYBOX,
        "cpu_overcommit": 20,
        "disk_overcommit": 20,
        "gateway_networks": [f"{here()}/32"],
        "reach": "direct",
    }
    return usual | changes


@asynccontextmanager
async def server_on(
    data_dir: Path, *clusters: dict[str, Any], local: bool = False, **settings: str
) -> AsyncIterator[Server]:
    """Run a server on these clusters, with `local` on this machine too. It is the gate of their ingress controllers."""
    server = Server(data_dir, **settings)
    if clusters:
        gate = {"gate_url": f"http://{here()}:{server.port}"}
        told = [one | (gate if one.get("carrier", "gateway") != "gateway" else {}) for one in clusters]
        server.env["NEUROPOD_KUBERNETES"] = json.dumps(told)
        server.env["NEUROPOD_LOCAL__ENABLED"] = str(local).lower()
    server.start()
    try:
        yield server
    finally:
        users = [one["hash"] for one in server.api.get("/users").json()["items"]]
        if local:
            server.run("down", "--stop-pods")
        server.kill()
        server.api.close()
        await clear_of_users(users)


def isolates(server: Server) -> None:
    """Wait until the server has found out that the cluster keeps pods apart, so that clients may launch."""

    def holds() -> bool:
        (runtime,) = server.api.get("/system").json()["runtimes"]
        return any(one["name"] == "network" and one["holds"] for one in runtime["guarantees"] or ())

    wait_for(holds, "the canary", 120)


def small_type(server: Server, name: str = "cpu", **changes: Any) -> None:
    """Let pods of a type be so small that a cluster of the tests has room for some."""
    answer = server.api.patch(f"/gpu-types/{name}", json={"cpu_cores": 1, "memory_gb": 1} | changes)
    assert answer.status_code == 200, answer.text


def client_of(server: Server, email: str) -> httpx.Client:
    """Return the API as a new client of that address sees it, in a session of theirs."""
    transport = httpx.HTTPTransport(uds=str(server.data_dir / "server.sock"))
    with httpx.Client(transport=transport, base_url="http://machine", timeout=30) as machine:
        machine.post("/machine/users", json={"email": email, "role": "client"}).raise_for_status()
        link = machine.post("/machine/sign-in-link", json={"email": email}).json()["url"]
    host = f"app.neuropod.localhost:{server.port}"
    page = {"Host": host, "Origin": f"http://{host}"}
    answer = httpx.post(f"{server.url}/sign-in/link", headers=page, data={"token": link.partition("#")[2]}, timeout=30)
    assert answer.status_code == 303, answer.text
    cookie = answer.headers["set-cookie"].partition(";")[0]
    return httpx.Client(base_url=f"{server.url}/api/v1", headers=page | {"Cookie": cookie}, timeout=30)
