"""SECURITY 13. Who steals the server's account is no administrator of the cluster, and confined whatever its roles say."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio

from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ForbiddenError
from neuropod.kube.kinds import NAMESPACES, NODES, PODS
from neuropod.kube.kubeconfig import from_kubeconfig
from neuropod.runtimes.kubernetes import fences
from neuropod.runtimes.kubernetes.fences import Tenant
from neuropod.runtimes.kubernetes.tenancy import Tenancy, server_subject
from support.cluster_account import ACCOUNT, NAMESPACE, account_client, admin_client, admin_kubeconfig
from support.cluster_pods import clear

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one namespace serves them all

USERNAME = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
POLICY = "neuropod-confinement"
MERGE = "application/merge-patch+json"
DRY = {"dryRun": "All"}  # should one succeed, the cluster may be somebody's

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stolen"}, "type": "Opaque"}
# Nothing is wrong with it, but where it is.
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "stolen"},
    "spec": {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "main",
                "image": "neuropod.test/busybox:1",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}


@dataclass(frozen=True)
class Attack:
    """A request that must be refused. HOME in its path is a user's namespace."""

    what: str
    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"
    params: dict[str, str] = field(default_factory=lambda: dict(DRY))


def _binding(role: str, kind: str = "ClusterRole", **subject: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "stolen"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE, **subject}],
    }


def _namespace(name: str, **labels: str) -> dict[str, Any]:
    marks = {
        "neuropod.io/installation": "ins_x",
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": marks | labels, "annotations": {"neuropod.io/user-id": "usr_x"}},
    }


def _service(**spec: Any) -> dict[str, Any]:
    port = {"port": 80, "targetPort": 80}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "stolen"}, "spec": {"ports": [port], **spec}}


def _labels(**labels: str | None) -> dict[str, Any]:
    return {"metadata": {"labels": labels}}


RBAC = "/apis/rbac.authorization.k8s.io/v1"
READS = [
    Attack("Secrets of kube-system", "GET", "/api/v1/namespaces/kube-system/secrets", params={}),
    Attack("Secrets of everybody", "GET", "/api/v1/secrets", params={}),
    Attack("Secrets of its own namespace", "GET", f"/api/v1/namespaces/{NAMESPACE}/secrets", params={}),
    Attack("Secrets of a user", "GET", "/api/v1/namespaces/HOME/secrets", params={}),
    Attack("ConfigMaps of kube-system", "GET", "/api/v1/namespaces/kube-system/configmaps", params={}),
    Attack("logs of others' Pods", "GET", "/api/v1/namespaces/kube-system/pods/x/log", params={}),
    Attack("kubelets by the API server", "GET", "/api/v1/nodes/NODE/proxy/pods", params={}),
    Attack("Services by the API server", "GET", "/api/v1/namespaces/HOME/services/x/proxy/", params={}),
]
# Each of these is refused by the policy too, whatever roles the account is given.
CONFINED = [
    Attack("a Secret in kube-system", "POST", "/api/v1/namespaces/kube-system/secrets", SECRET),
    Attack("a Secret in its own namespace", "POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", SECRET),
    Attack("a Pod in kube-system", "POST", "/api/v1/namespaces/kube-system/pods", POD),
    Attack("a Pod in default", "POST", "/api/v1/namespaces/default/pods", POD),
    Attack("a Pod in its own namespace", "POST", f"/api/v1/namespaces/{NAMESPACE}/pods", POD),
    Attack("a Pod in a namespace that looks like a user's", "POST", "/api/v1/namespaces/FOREIGN/pods", POD),
    Attack("a command in others' Pods", "POST", "/api/v1/namespaces/kube-system/pods/x/exec", params={"command": "id"}),
    Attack("a token of an account", "POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default/token", {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {},
    }),
    Attack("kube-system, relabelled", "PATCH", "/api/v1/namespaces/kube-system", _labels(stolen="yes"), MERGE),
    Attack("its own namespace, relabelled", "PATCH", f"/api/v1/namespaces/{NAMESPACE}", _labels(stolen="yes"), MERGE),
    Attack("a user's namespace, privileged", "PATCH", "/api/v1/namespaces/HOME",
           _labels(**{"pod-security.kubernetes.io/enforce": "privileged"}), MERGE),
    Attack("a user's namespace, without Pod Security", "PATCH", "/api/v1/namespaces/HOME",
           _labels(**{"pod-security.kubernetes.io/enforce": None}), MERGE),
    Attack("a user's namespace, of an old Pod Security", "PATCH", "/api/v1/namespaces/HOME",
           _labels(**{"pod-security.kubernetes.io/enforce-version": "v1.0"}), MERGE),
    Attack("a user's namespace, of another installation", "PATCH", "/api/v1/namespaces/HOME",
           _labels(**{"neuropod.io/installation": "ins_other"}), MERGE),
    Attack("a user's namespace, of another user", "PATCH", "/api/v1/namespaces/HOME",
           {"metadata": {"annotations": {"neuropod.io/user-id": "usr_other"}}}, MERGE),
    Attack("a user's namespace, called a canary's", "PATCH", "/api/v1/namespaces/HOME",
           _labels(**{"neuropod.io/canary": "true"}), MERGE),
    Attack("a user's namespace, deleted", "DELETE", "/api/v1/namespaces/HOME"),
    Attack("somebody's namespace, taken over", "PATCH", "/api/v1/namespaces/FOREIGN",
           {"metadata": {mark: _namespace("x")["metadata"][mark] for mark in ("labels", "annotations")}}, MERGE),
    Attack("somebody's namespace, deleted", "DELETE", "/api/v1/namespaces/FOREIGN"),
    Attack("a namespace of another name", "POST", "/api/v1/namespaces", _namespace("somebodys")),
    Attack("a namespace of nearly that name", "POST", "/api/v1/namespaces", _namespace("neuropod-abcdefghi")),
    Attack("a privileged namespace", "POST", "/api/v1/namespaces",
           _namespace("neuropod-zzzzzzz2", **{"pod-security.kubernetes.io/enforce": "privileged"})),
    Attack("rights in kube-system", "POST", f"{RBAC}/namespaces/kube-system/rolebindings", _binding("neuropod-pods")),
    Attack("more rights in a user's", "POST", f"{RBAC}/namespaces/HOME/rolebindings", _binding("cluster-admin")),
    Attack("rights for another", "POST", f"{RBAC}/namespaces/HOME/rolebindings", _binding("neuropod-pods", name="x")),
    Attack("rights in all of it", "POST", f"{RBAC}/clusterrolebindings",
           _binding("neuropod-pods") | {"kind": "ClusterRoleBinding"}),
    Attack("its own role, widened", "PATCH", f"{RBAC}/clusterroles/neuropod-pods", {"rules": []}, MERGE),
    Attack("an end of the policy", "DELETE",
           f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{POLICY}"),
    Attack("a PersistentVolume of a node's files", "POST", "/api/v1/persistentvolumes", {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "stolen"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/"}},
    }),
    Attack("a node, cordoned", "PATCH", "/api/v1/nodes/NODE", {"spec": {"unschedulable": True}}, MERGE),
]  # fmt: skip
# The policy cannot be asked about itself (nobody's can), so there the roles alone stand.
BY_ROLES_ALONE = {"an end of the policy"}
# In a user's namespace, where its role lets it write.
WITHIN = [
    Attack("a port of the node's", "POST", "/api/v1/namespaces/HOME/services", _service(type="NodePort")),
    Attack("a load balancer", "POST", "/api/v1/namespaces/HOME/services", _service(type="LoadBalancer")),
    Attack("an address of others", "POST", "/api/v1/namespaces/HOME/services", _service(externalIPs=["8.8.8.8"])),
    Attack("a name of others", "POST", "/api/v1/namespaces/HOME/services",
           _service(type="ExternalName", externalName="kubernetes.default")),
    Attack("a privileged Pod", "POST", "/api/v1/namespaces/HOME/pods", POD | {"spec": {
        "automountServiceAccountToken": False,
        "containers": [{"name": "main", "image": "x", "securityContext": {"privileged": True}}],
    }}),
    Attack("a Pod with the node's files", "POST", "/api/v1/namespaces/HOME/pods", POD | {"spec": {
        "automountServiceAccountToken": False,
        "containers": [{"name": "main", "image": "x"}],
        "volumes": [{"name": "node", "hostPath": {"path": "/"}}],
    }}),
]  # fmt: skip


@dataclass
class Stage:
    """A user's namespace, made by the account as the runtime makes it, and one of that form that is somebody's."""

    account: KubeClient
    home: str
    foreign: str
    node: str

    def at(self, path: str) -> str:
        return path.replace("HOME", self.home).replace("FOREIGN", self.foreign).replace("NODE", self.node)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    clock = SystemClock()
    owner = UserId(new_id("usr"))
    tenant = Tenant(InstallationId(new_id("ins")), owner, user_hash(owner))
    foreign = f"neuropod-{user_hash(UserId(new_id('usr')))}"
    async with admin_client() as admin, account_client() as account:
        node = (await account.list(NODES))[0]["metadata"]["name"]
        await Tenancy(account, clock, lambda: fences.Fence(server=server_subject(USERNAME))).prepare(tenant)
        await admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": foreign}})
        try:
            yield Stage(account, tenant.namespace, foreign, node)
        finally:
            await admin.delete(NAMESPACES, foreign)
            await clear(tenant.installation)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def almighty() -> AsyncIterator[httpx.AsyncClient]:
    """The account as if it were in `system:masters`: whatever it may not, the policy alone keeps it from."""
    access = from_kubeconfig(admin_kubeconfig())
    identity = await access.credentials.identity(SystemClock())
    headers = [("Impersonate-User", USERNAME), ("Impersonate-Group", "system:masters")]
    if identity.token is not None:
        headers.append(("Authorization", f"Bearer {identity.token.reveal()}"))
    context = access.ssl_context(identity.certificate)
    assert context is not None
    async with httpx.AsyncClient(
        base_url=access.server, headers=headers, verify=context, trust_env=False, timeout=30
    ) as client:
        yield client


def _named(attacks: list[Attack]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attack", attacks, ids=lambda attack: attack.what)


@_named([*READS, *CONFINED, *WITHIN])
async def test_it_may_not(stage: Stage, attack: Attack):
    with pytest.raises(ForbiddenError) as caught:
        await stage.account.request_json(
            attack.method,
            stage.at(attack.path),
            params=attack.params,
            body=attack.body,
            content_type=attack.content_type,
        )

    assert caught.value.status == 403


@_named([attack for attack in CONFINED if attack.what not in BY_ROLES_ALONE])
async def test_it_may_not_even_with_all_rights(stage: Stage, almighty: httpx.AsyncClient, attack: Attack):
    answer = await almighty.request(
        attack.method,
        stage.at(attack.path),
        params=attack.params,
        json=attack.body,
        headers={"Content-Type": attack.content_type},
    )

    assert (answer.status_code, POLICY in answer.text) == (403, True), answer.text


async def test_with_all_rights_it_is_the_policy_that_stands_in_its_way(stage: Stage, almighty: httpx.AsyncClient):
    """Else the test above would pass for another reason."""
    allowed = await almighty.get("/api/v1/namespaces/kube-system/secrets")
    within = await almighty.post(f"/api/v1/namespaces/{stage.home}/secrets", params=DRY, json=SECRET)

    assert (allowed.status_code, within.status_code) == (200, 201)


async def test_in_users_namespaces_it_may_do_its_work(stage: Stage):
    for obj in (SECRET, POD, _service()):
        there = obj | {"metadata": obj["metadata"] | {"namespace": stage.home}}
        kind = obj["kind"].lower() + "s"
        await stage.account.request_json("POST", f"/api/v1/namespaces/{stage.home}/{kind}", params=DRY, body=there)

    assert isinstance(await stage.account.list(PODS, stage.home), list)
