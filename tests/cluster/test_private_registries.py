"""Private images with credentials of each user's own: from the command to the Secret, and nobody else's pull."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from neuropod.kit.identifiers import new_id
from neuropod.kube.kinds import PODS, SECRETS
from support.cluster_account import admin_client
from support.cluster_orders import needs_throwaway, order
from support.cluster_server import client_of, cluster, isolates, server_on
from support.kubectl import kubectl
from support.servers import Server, wait_for

pytestmark = [needs_throwaway, pytest.mark.timeout(300)]

USER, PASSWORD = "puller", "correct-horse"  # of tools/cluster/registry.py


async def test_a_users_credentials_pull_their_images_and_nobody_elses(tmp_path: Path):
    _, private, _ = order("registry").split()
    # An image of its own: a kubelet that pulled one with a password asks again for whatever has the same layers.
    name = f"private-{new_id('x')[2:]}"
    order("push", name, "1")
    image = f"{private}/{name}:1"
    async with (
        admin_client() as admin,
        server_on(tmp_path / "data", cluster()) as server,
    ):
        isolates(server)
        with client_of(server, "bob@example.org") as bob:
            said = _keep(server, private)
            mine = _launch(server.api, image)
            running = _until(server.api, mine, "running")
            namespace = f"neuropod-{running['ports'][0]['host'].partition('.')[0].rsplit('-', 2)[1]}"
            secrets = [one for one in await admin.list(SECRETS) if one["type"] == "kubernetes.io/dockerconfigjson"]
            pod = await admin.get(PODS, secrets[0]["metadata"]["name"].removesuffix("-registry"), namespace)
            theirs = _launch(bob, image)  # which is in the node's store by now
            denied = wait_for(lambda: _denied(bob, theirs), "the pull to be denied", 90)

            assert [one["metadata"]["namespace"] for one in secrets] == [namespace]
            assert pod is not None
            assert secrets[0]["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
            assert json.loads(base64.b64decode(secrets[0]["data"][".dockerconfigjson"]))["auths"].keys() == {private}
            assert image in denied["message"]
            assert bob.get("/registries").json()["items"] == []
            told = [
                said, server.log.read_text(), kubectl("get", "pods,events", "-n", namespace, "-o", "json"),
                *(server.api.get(path).text for path in (f"/pods/{mine}", "/registries", "/audit", f"/pods/{mine}/logs")),
                *(bob.get(path).text for path in (f"/pods/{theirs}", "/registries", "/audit")),
            ]  # fmt: skip
            assert not [text for text in told if PASSWORD in text or _encoded() in text]

            server.api.delete(f"/pods/{mine}")
            wait_for(lambda: server.api.get(f"/pods/{mine}").status_code == 404, "the pod's end", 120)
            left = [one["metadata"]["name"] for one in await admin.list(SECRETS, namespace)]
            assert left == []

            server.run("registry", "rm", private)
            without = _launch(server.api, image)
            wait_for(lambda: _denied(server.api, without), "the pull to be denied", 90)


def _keep(server: Server, host: str) -> str:
    """Store them by the command, as a person does; return what it said."""
    done = subprocess.run(
        server.command("registry", "set", host, "--username", USER),
        env=server.env, cwd=server.data_dir.parent, input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _encoded() -> str:
    return base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def _launch(api: httpx.Client, image: str) -> str:
    wanted = {
        "name": "private", "image": image, "gpu_type": "cpu", "container_disk_gb": 1, "volume": None,
        "ports": [{"port": 8080}],
    }  # fmt: skip
    answer = api.post("/pods", json=wanted)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _until(api: httpx.Client, pod: str, status: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = api.get(f"/pods/{pod}").json()
        assert found["status"] != "failed", (found["reason"], found["message"])
        return found if found["status"] == status else None

    return wait_for(look, f"the pod to be {status}", 120)


def _denied(api: httpx.Client, pod: str) -> dict[str, Any] | None:
    found = api.get(f"/pods/{pod}").json()
    assert found["status"] != "running", (found["reason"], found["message"])
    return found if (found["status"], found["reason"]) == ("failed", "pull_denied") else None
