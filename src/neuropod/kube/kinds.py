"""The kinds of objects that Neuropod reads and writes, and their paths in the API.

Called by client, informer and whoever names a kind. A kind that is not here is a line more in KINDS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects. `api_version` is `v1` or `group/version`; `plural` is its word in paths."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of one object, of one namespace's objects, or of all. ValueError: a name that cannot be one.

        Without `namespace` and name: all of the cluster.
        """
        if name is not None and self.namespaced and not namespace:
            raise ValueError(f"a {self.kind} is named within a namespace")
        root = "/api/" if "/" not in self.api_version else "/apis/"
        parts = [root + self.api_version]
        if namespace and self.namespaced:
            parts += ["namespaces", _segment(namespace)]
        parts.append(self.plural)
        if name is not None:
            parts.append(_segment(name))
            if subresource is not None:
                parts += [_segment(word) for word in subresource.split("/")]
        return "/".join(parts)


def _segment(name: str) -> str:
    """Return the name as one segment of a path; what would lead elsewhere is refused."""
    if name in {"", ".", ".."} or "/" in name or "%" in name:
        raise ValueError(f"{name!r} is no name of an object")
    return quote(name, safe=":")


_NETWORKING = "networking.k8s.io/v1"
_RBAC = "rbac.authorization.k8s.io/v1"
_STORAGE = "storage.k8s.io/v1"
_ADMISSION = "admissionregistration.k8s.io/v1"
_AUTHORIZATION = "authorization.k8s.io/v1"
_TRAEFIK = "traefik.io/v1alpha1"

PODS = Kind("v1", "Pod", "pods")
SERVICES = Kind("v1", "Service", "services")
SECRETS = Kind("v1", "Secret", "secrets")
CONFIG_MAPS = Kind("v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNTS = Kind("v1", "ServiceAccount", "serviceaccounts")
EVENTS = Kind("v1", "Event", "events")
RESOURCE_QUOTAS = Kind("v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGES = Kind("v1", "LimitRange", "limitranges")
PERSISTENT_VOLUME_CLAIMS = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
PERSISTENT_VOLUMES = Kind("v1", "PersistentVolume", "persistentvolumes", namespaced=False)
NAMESPACES = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODES = Kind("v1", "Node", "nodes", namespaced=False)
ENDPOINT_SLICES = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
INGRESSES = Kind(_NETWORKING, "Ingress", "ingresses")
INGRESS_CLASSES = Kind(_NETWORKING, "IngressClass", "ingressclasses", namespaced=False)
NETWORK_POLICIES = Kind(_NETWORKING, "NetworkPolicy", "networkpolicies")
STORAGE_CLASSES = Kind(_STORAGE, "StorageClass", "storageclasses", namespaced=False)
ROLES = Kind(_RBAC, "Role", "roles")
ROLE_BINDINGS = Kind(_RBAC, "RoleBinding", "rolebindings")
CLUSTER_ROLES = Kind(_RBAC, "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDINGS = Kind(_RBAC, "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
DEPLOYMENTS = Kind("apps/v1", "Deployment", "deployments")
LEASES = Kind("coordination.k8s.io/v1", "Lease", "leases")
PRIORITY_CLASSES = Kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False)
SELF_SUBJECT_ACCESS_REVIEWS = Kind(
    _AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)
SELF_SUBJECT_RULES_REVIEWS = Kind(_AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", namespaced=False)
VALIDATING_ADMISSION_POLICIES = Kind(
    _ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False
)
VALIDATING_ADMISSION_POLICY_BINDINGS = Kind(
    _ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", namespaced=False
)
MIDDLEWARES = Kind(_TRAEFIK, "Middleware", "middlewares")
CUSTOM_RESOURCE_DEFINITIONS = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)

KINDS: Mapping[tuple[str, str], Kind] = MappingProxyType(
    {(kind.api_version, kind.kind): kind for kind in list(globals().values()) if isinstance(kind, Kind)}
)


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """Return the kind that an object says it is. LookupError: none that is known here."""
    api_version, kind = obj.get("apiVersion"), obj.get("kind")
    try:
        return KINDS[api_version, kind]  # type: ignore[index]
    except KeyError:
        raise LookupError(f"no kind {kind!r} of {api_version!r} is known in kube.kinds") from None
