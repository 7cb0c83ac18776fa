"""The server's account on the cluster of the tests: deploy/ applied, a kubeconfig with its token, clients as it.

Tests of the runtime and the carriers run as it, so that the rights of deploy/ are those that pass. What an operator or
a stranger does by hand there is done with KUBECONFIG, the administrator's.
"""

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

import yaml

from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ForbiddenError, KubeError
from neuropod.kube.kinds import VALIDATING_ADMISSION_POLICIES
from neuropod.kube.kubeconfig import from_kubeconfig

DEPLOY = Path(__file__).parents[2] / "deploy"
# What gives and takes rights; the server itself is started by tests.
RIGHTS = ("10-namespace.yaml", "20-rights.yaml", "30-confinement.yaml")
NAMESPACE, ACCOUNT = "neuropod", "neuropod"
VARIABLE = "NEUROPOD_TEST_ACCOUNT"
_TOKEN_SECONDS = 6 * 3600
_IN_FORCE_SECONDS = 60


def objects_of(*names: str) -> list[dict[str, Any]]:
    """Return the objects of files of deploy/."""
    return [obj for name in names for obj in yaml.safe_load_all((DEPLOY / name).read_text()) if obj is not None]


def admin_kubeconfig() -> Path:
    return Path(os.environ["KUBECONFIG"])


def account_kubeconfig() -> Path:
    """Return the kubeconfig of the server's account, which the session's fixture wrote."""
    return Path(os.environ[VARIABLE])


def account_client() -> KubeClient:
    """Return a client as the server's account, with the rights of deploy/."""
    return KubeClient(from_kubeconfig(account_kubeconfig()), SystemClock(), timeout_seconds=20)


def admin_client() -> KubeClient:
    """Return one as the administrator, for what the server never does."""
    return KubeClient(from_kubeconfig(admin_kubeconfig()), SystemClock(), timeout_seconds=20)


async def make_account(folder: Path) -> Path:
    """Apply what gives the account its rights, and return a kubeconfig for it, once all of it is in force."""
    access = from_kubeconfig(admin_kubeconfig())
    async with KubeClient(access, SystemClock()) as client:
        for obj in objects_of(*RIGHTS):
            await client.apply(obj)
        async with asyncio.timeout(_IN_FORCE_SECONDS):
            while not await _is_read(client):
                await asyncio.sleep(0.2)
        answer = await client.request_json(
            "POST",
            f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token",
            body={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": _TOKEN_SECONDS},
            },
        )
    path = folder / "account.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(_kubeconfig(access.server, access.ca_data, answer["status"]["token"]))
    async with KubeClient(from_kubeconfig(path), SystemClock()) as client, asyncio.timeout(_IN_FORCE_SECONDS):
        while not await _is_confined(client):
            await asyncio.sleep(0.2)
    return path


async def _is_read(client: KubeClient) -> bool:
    """Tell whether the policy was read as it stands: what was in force before could be an older one."""
    policy = await client.get(VALIDATING_ADMISSION_POLICIES, "neuropod-confinement")
    assert policy is not None
    return policy.get("status", {}).get("observedGeneration") == policy["metadata"]["generation"]


async def _is_confined(client: KubeClient) -> bool:
    """Tell whether roles and policy are in force: it may make namespaces, and not this one."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "somebodys"}}
    try:
        await client.request_json("POST", "/api/v1/namespaces", params={"dryRun": "All"}, body=body)
    except ForbiddenError as error:
        return "neuropod-confinement" in error.message
    except KubeError as error:
        raise AssertionError("a dry run was refused for another reason") from error
    return False


def _kubeconfig(server: str, ca_data: bytes | None, token: str) -> str:
    ca = {} if ca_data is None else {"certificate-authority-data": base64.b64encode(ca_data).decode()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "account",
        "contexts": [{"name": "account", "context": {"cluster": "tests", "user": "account"}}],
        "clusters": [{"name": "tests", "cluster": {"server": server, **ca}}],
        "users": [{"name": "account", "user": {"token": token}}],
    }
    return json.dumps(config, indent=1)
