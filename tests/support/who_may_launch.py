"""Who may launch pods on a cluster, by what its canary finds out about NetworkPolicies: asked of a real server there.

`test_14` asks it on the cluster of the tests, and by `main` in one that enforces no policies.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from support.cluster_account import make_account
from support.cluster_pods import BUSYBOX, clear_of_users
from support.servers import Server, running_server, wait_for

_CANARY_SECONDS = 240


def who_may_launch(folder: Path, kubeconfig: Path, **cluster: Any) -> dict[str, Any]:
    """Return what the cluster's report says of its network, and how a client's and an administrator's launch ended."""
    settings = {"name": "lab", "kubeconfig": str(kubeconfig), "canary_image": BUSYBOX, "cpu_overcommit": 20} | cluster
    with running_server(folder / "data", kubernetes=json.dumps([settings])) as server:
        network = wait_for(lambda: _network(server), "the canary", _CANARY_SECONDS)
        user = server.api.post("/users", json={"email": "client@example.org"})
        assert user.status_code == 201, user.text
        told = {
            "holds": network["holds"],
            "message": network["message"],
            "client": _launch(server, "clients", owner="client@example.org"),
            "administrator": _launch(server, "mine"),
        }
        for pod in server.api.get("/pods?owner=*").json()["items"]:
            server.api.delete(f"/pods/{pod['id']}")
        wait_for(lambda: not server.api.get("/pods?owner=*").json()["items"], "the pods' end", 180)
        users = [one["hash"] for one in server.api.get("/users").json()["items"]]
    asyncio.run(clear_of_users(users))
    return told


def _network(server: Server) -> dict[str, Any] | None:
    """Return the guarantee once it is known, be it at a second try: until then nobody's pods count as kept apart."""
    for runtime in server.api.get("/system").json()["runtimes"]:
        for guarantee in runtime["guarantees"] or ():
            told = guarantee["message"]
            if guarantee["name"] == "network" and "being found out" not in told and "not known" not in told:
                return guarantee
    return None


def _launch(server: Server, name: str, **values: str) -> str:
    wanted = {"name": name, "image": BUSYBOX, "command": ["sleep", "3600"], "gpu_type": "cpu", "container_disk_gb": 1}
    answer = server.api.post("/pods", json=wanted | {"volume": None} | values)
    return "launched" if answer.status_code == 201 else answer.json()["code"]


def main(folder: Path, answer: Path) -> None:
    """Ask twice on KUBECONFIG's cluster, which belongs to the caller: as it is, and with a setting that accepts it."""
    account = asyncio.run(make_account(folder))
    told = []
    for accepted in (False, True):
        place = folder / f"accepted-{accepted}"
        place.mkdir()
        told.append(who_may_launch(place, account, accept_unenforced_policies=accepted))
    answer.write_text(json.dumps(told))


if __name__ == "__main__":
    assert os.environ["KUBECONFIG"]
    main(Path(sys.argv[1]), Path(sys.argv[2]))
