"""SECURITY 13. The server's account has the rights that the server uses, and no others.

A walk through what the product does on a cluster, as that account; each request is written down as the right that it
needs, and each right of deploy/20-rights.yaml has to be among them.
"""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from neuropod.ids import InstallationId, UserId, VolumeId
from neuropod.kit.identifiers import new_id
from neuropod.kube.client import KubeClient
from neuropod.kube.connections import Connections
from neuropod.kube.kinds import ENDPOINT_SLICES, INGRESSES, MIDDLEWARES, PODS, SERVICES
from neuropod.runtimes.contract import Phase, VolumeMount, Workload
from neuropod.runtimes.execution import ExecRequest
from neuropod.runtimes.kubernetes import pids
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from neuropod.runtimes.volumes import volumes_of
from neuropod.words import Reason
from support.carrying import carrying
from support.cluster_account import objects_of
from support.cluster_pods import BUSYBOX, PORT, SERVE, SLEEP, cluster_settings, on, opened, shell
from support.cluster_waits import text_of, until, until_gone, until_reason

pytestmark = pytest.mark.timeout(300)

MIB = 1 << 20
Right = tuple[str, str, str]  # verb, group, resource

# Used where this walk does not go, or by another request.
ELSEWHERE: dict[Right, str] = {
    ("get", "", "nodes"): "a node that the watch does not know: test_reasons.TestNodeLost",
    ("bind", "rbac.authorization.k8s.io", "clusterroles"): "asked for by the API server when a RoleBinding is made",
}
# What every account may; and what is asked through the API server from outside the cluster, where a kubeconfig's user
# may be let: the account is not, and then what is asked for is not known.
UNGRANTED = {
    ("create", "authentication.k8s.io", "selfsubjectreviews"),
    ("get", "", "nodes/proxy/configz"),
    ("get", "", "nodes/proxy/stats/summary"),
}


@dataclass
class Used:
    """The rights that were used."""

    rights: set[Right] = field(default_factory=set)
    _applied: set[str] = field(default_factory=set)

    def note(self, method: str, target: str) -> None:
        """Take in a request to the API server."""
        parts, query = urlsplit(target), parse_qs(urlsplit(target).query)
        words = parts.path.strip("/").split("/")
        if words[0] not in {"api", "apis"} or len(words) < 3:
            return  # its version
        group, rest = ("", words[2:]) if words[0] == "api" else (words[1], words[3:])
        if rest[0] == "namespaces" and len(rest) > 2:
            rest = rest[2:]
        resource, named = "/".join([rest[0], *rest[2:]]), len(rest) > 1
        reading = "watch" if "watch" in query else "get" if named else "list"
        verb = {"GET": reading, "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]
        self.rights.add((verb, group, resource))
        if verb == "patch" and "force" in query and parts.path not in self._applied:
            self._applied.add(parts.path)  # applied for the first time it is made
            self.rights.add(("create", group, resource))


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Used:
    """What the account uses, and not what the tests do as administrators."""
    found = Used()
    head, open_socket = Connections.request_head, KubeClient._open_socket

    def noting(self: Connections, method: str, target: str, *more: Any) -> str:
        name = self._access.name
        if name == "account":
            found.note(method, target)
        elif name.startswith("kubelet of"):
            found.rights.add(("get", "", {"stats": "nodes/stats", "configz": "nodes/configz"}[target.split("/")[1]]))
        return head(self, method, target, *more)

    async def opening(self: KubeClient, make: Any, path: str) -> Any:
        if self.access.name == "account":
            found.note("GET", path)
            found.note("POST", path)  # which is asked for too, since Kubernetes 1.35
        return await open_socket(self, make, path)

    monkeypatch.setattr(Connections, "request_head", noting)
    monkeypatch.setattr(KubeClient, "_open_socket", opening)
    return found


def given() -> set[Right]:
    """Return the rights of deploy/."""
    rules = [rule for obj in objects_of("20-rights.yaml") if obj["kind"] == "ClusterRole" for rule in obj["rules"]]
    return {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


async def test_each_right_is_used_and_no_other(tmp_path: Path, used: Used, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pids, "_AGAIN_SECONDS", 2.0)  # should a kubelet be too busy to answer at once
    installation = InstallationId(new_id("ins"))
    async with opened(tmp_path / "direct", installation) as runtime:
        await _live(runtime, installation)
    through = cluster_settings(reach="portforward", gateway_networks=())
    async with opened(tmp_path / "through", installation, through) as runtime:
        await _reach(runtime, installation)
    await _carry(tmp_path)

    # Some of those may be used here too, when a watch is cut just then.
    assert given() - (used.rights - ELSEWHERE.keys()) == set(ELSEWHERE)
    assert used.rights - given() <= UNGRANTED


async def _live(runtime: KubernetesRuntime, installation: InstallationId) -> None:
    """A pod with a volume, from its start to the end of both, and one that finds no room."""
    owner = UserId(new_id("usr"))
    volume = VolumeMount(VolumeId(new_id("vol")), "data", 64 * MIB)
    workload = replace(shell(SERVE, installation=installation, owner=owner, port=PORT, image=BUSYBOX), volume=volume)
    large = on(shell(SLEEP, installation=installation, owner=owner), cpu_cores=1000)
    await runtime.ensure(workload)
    await runtime.ensure(large)
    await until(runtime, workload, Phase.READY)
    await until_reason(runtime, large, Reason.UNSCHEDULABLE)
    command = await runtime.exec(workload.id, ExecRequest(("true",), 1))
    assert await command.wait() == 0
    await command.aclose()
    await runtime.usage([workload.id])
    volumes = volumes_of(runtime)
    assert volumes is not None
    await volumes.grow_volume(volume.id, 128 * MIB)
    await volumes.volume_use([volume.id])
    async with asyncio.timeout(120):
        while not await _is_known(runtime):
            await asyncio.sleep(0.2)
    await _end(runtime, workload, large)
    await text_of(runtime, workload)
    await volumes.remove_volume(volume.id)


async def _is_known(runtime: KubernetesRuntime) -> bool:
    """Tell whether it was found out what the cluster isolates: by the canary, and of the kubelets."""
    told = {one.name: one for one in (await runtime.report()).guarantees}
    return told["network"].holds and told["pids"].holds


async def _end(runtime: KubernetesRuntime, *workloads: Workload) -> None:
    for workload in workloads:
        await runtime.stop(workload.id, grace_seconds=1, reason=Reason.REQUESTED)
    for workload in workloads:
        await until(runtime, workload, Phase.EXITED)
        await runtime.remove(workload.id)
        await until_gone(runtime, workload)


async def _reach(runtime: KubernetesRuntime, installation: InstallationId) -> None:
    """A port through the API server."""
    workload = shell(SERVE, installation=installation, owner=UserId(new_id("usr")), port=PORT)
    await runtime.ensure(workload)
    await until(runtime, workload, Phase.READY)
    await _end(runtime, workload)


async def _carry(folder: Path) -> None:
    """A port by Traefik, made and taken away."""
    async with carrying("ingress", folder) as user:
        route = await user.pod()
        await user.until_carried(route)
        await user.client.delete(PODS, "lab", user.namespace)
        user.served.withdraw(route)

        async def nothing_left() -> bool:
            kinds = (SERVICES, INGRESSES, ENDPOINT_SLICES, MIDDLEWARES)
            return not [one for kind in kinds for one in await user.client.list(kind, user.namespace)]

        await user.until(nothing_left, "the objects to go")
