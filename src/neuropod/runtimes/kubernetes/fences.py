"""What stands in a user's namespace before his pods do: what keeps him from others, and others from him. Pure.

Called by `tenancy`, which lets it be so and puts back what somebody changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from neuropod.ids import InstallationId, UserId
from neuropod.kube.objects import Object
from neuropod.runtimes.kubernetes import names

# The literal list of DESIGN §4: what no pod reaches although it is no pod.
PRIVATE_V4 = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
PRIVATE_V6 = ("::/96", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8")

NAME = "neuropod"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose namespace it is."""

    installation: InstallationId
    owner: UserId
    owner_hash: str

    @property
    def namespace(self) -> str:
        """Its name."""
        return names.namespace_of(self.owner_hash)


@dataclass(frozen=True, slots=True)
class Fence:
    """What is the same for all users of a cluster: from its settings and its nodes."""

    gateway_namespace: str | None = None
    gateway_labels: dict[str, str] = field(default_factory=dict)
    gateway_networks: tuple[str, ...] = ()
    egress_allow: tuple[str, ...] = ()
    cluster_networks: tuple[str, ...] = ()  # of nodes, pods and the API server, as far as they are not private anyway
    cpu_cores: int | None = None  # of one user's pods in all
    memory_bytes: int | None = None
    server: Object | None = None  # who we are, as the subject of a RoleBinding; None: no binding is needed
    server_role: str = "neuropod-pods"


def namespace(tenant: Tenant) -> Object:
    """Return the namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": tenant.namespace,
            "labels": {
                names.INSTALLATION: tenant.installation,
                names.USER: tenant.owner_hash,
                "pod-security.kubernetes.io/enforce": "baseline",
                "pod-security.kubernetes.io/enforce-version": "latest",
            },
            "annotations": {names.USER_ID: tenant.owner},
        },
    }


def belongs(found: Object, tenant: Tenant) -> bool:
    """Tell whether a namespace that is there is this user's, of this installation (SECURITY 16)."""
    metadata = found["metadata"]
    marks = metadata.get("labels", {}).get(names.INSTALLATION), metadata.get("annotations", {}).get(names.USER_ID)
    return marks == (tenant.installation, tenant.owner)


def fences(tenant: Tenant, fence: Fence) -> list[Object]:
    """Return what stands in it, in the order in which it is made: the policy first."""
    made = [
        network_policy(tenant, fence),
        _service_account(tenant),
        resource_quota(tenant, fence),
        _limit_range(tenant),
    ]
    if fence.server is not None:
        made.insert(0, role_binding(tenant, fence.server, fence.server_role))
    return made


def role_binding(tenant: Tenant, server: Object, role: str) -> Object:
    """Return what gives us Secrets, exec, portforward and logs here, and here alone (SECURITY 13).

    Should somebody delete the namespace, our finalizer lets us keep these rights until its Pods' ends were read.
    """
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _metadata(tenant, NAME) | {"finalizers": [names.FINALIZER]},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [server],
    }


def network_policy(tenant: Tenant, fence: Fence) -> Object:
    """Return who reaches the user's pods, and what they reach."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(tenant, NAME),
        "spec": policy_spec(fence),
    }


def policy_spec(fence: Fence) -> Object:
    """Return the rules: in from the gateway alone; out to the cluster's DNS and the internet."""
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": _ingress(fence),
        "egress": [
            {"to": [_dns()], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
            {"to": [_internet("0.0.0.0/0", PRIVATE_V4, fence), _internet("::/0", PRIVATE_V6, fence)]},
            *({"to": [{"ipBlock": {"cidr": cidr}}]} for cidr in fence.egress_allow),
        ],
    }


def _ingress(fence: Fence) -> list[Object]:
    peers: list[Object] = [{"ipBlock": {"cidr": cidr}} for cidr in fence.gateway_networks]
    if fence.gateway_namespace is not None:
        peer: Object = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": fence.gateway_namespace}}}
        if fence.gateway_labels:
            peer["podSelector"] = {"matchLabels": dict(fence.gateway_labels)}
        peers.append(peer)
    # Without any, only the node itself, by which portforward comes: every implementation lets that in.
    return [{"from": peers}] if peers else []


def _dns() -> Object:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }


def _internet(whole: str, private: Sequence[str], fence: Fence) -> Object:
    version = ip_network(whole).version
    own = [network for network in map(ip_network, fence.cluster_networks) if network.version == version]
    covered = [ip_network(cidr) for cidr in private]
    more = {str(network) for network in own if not _within(network, covered)}
    return {"ipBlock": {"cidr": whole, "except": [*private, *sorted(more)]}}


def _within(network: IPv4Network | IPv6Network, others: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(network.subnet_of(other) for other in others)  # type: ignore[arg-type]  # of one version, see above


def _service_account(tenant: Tenant) -> Object:
    """Return the account that Pods need to be accepted; made here, else they wait for a controller to do it."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(tenant, "default"),
        "automountServiceAccountToken": False,
    }


def resource_quota(tenant: Tenant, fence: Fence) -> Object:
    """Return what a user's pods may have in all, and what he has none of."""
    hard = {"services.loadbalancers": "0", "services.nodeports": "0"}
    if fence.cpu_cores is not None:
        hard["limits.cpu"] = str(fence.cpu_cores)
    if fence.memory_bytes is not None:
        hard["limits.memory"] = str(fence.memory_bytes)
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": _metadata(tenant, NAME),
        "spec": {"hard": hard},
    }


def beyond_quota(tenant: Tenant, fence: Fence) -> Object | None:
    """Return a Pod that the user's quota lets nobody make; None: it limits none. To be asked about, not made."""
    if fence.cpu_cores is None and fence.memory_bytes is None:
        return None
    amounts = {
        "cpu": str((fence.cpu_cores or 0) + 1),
        "memory": str((fence.memory_bytes or 0) + 1),
        "ephemeral-storage": "1",
    }
    container = {"name": "none", "image": "none", "resources": {"limits": amounts, "requests": amounts}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(tenant, f"{NAME}-beyond-quota"),
        "spec": {"containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False},
    }


def _limit_range(tenant: Tenant) -> Object:
    """Return what a container gets that says nothing; ours say everything."""
    default = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "5Gi"}
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": _metadata(tenant, NAME),
        "spec": {"limits": [{"type": "Container", "default": default, "defaultRequest": default}]},
    }


def _metadata(tenant: Tenant, name: str) -> Object:
    return {
        "name": name,
        "namespace": tenant.namespace,
        "labels": {names.INSTALLATION: tenant.installation, names.USER: tenant.owner_hash},
    }
