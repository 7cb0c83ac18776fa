"""What the carriers' objects are called and labelled; the table of DESIGN §4. Pure.

Labels are the same as the runtime's (runtimes.kubernetes.names; a test holds them together), since Services select its
Pods by them; this package names no concrete runtime.
"""

from dataclasses import dataclass

from neuropod.gateway.routes import Route
from neuropod.ids import InstallationId

INSTALLATION = "neuropod.io/installation"
POD = "neuropod.io/pod"
INCARNATION = "neuropod.io/incarnation"
APP = "app"
USER = "user"
USER_ID = "neuropod.io/user-id"  # an annotation of namespaces
# Of Kubernetes' own: whose EndpointSlice it is, and of which Service.
SLICE_OWNER = "endpointslice.kubernetes.io/managed-by"
SLICE_SERVICE = "kubernetes.io/service-name"
OURS = "neuropod"

GATE = "neuropod-gate"  # in each namespace: the Service (and its EndpointSlice) that leads to our gateway
PRIVATE_ANSWERS = "neuropod-private-answers"  # in each namespace: Middlewares
PUBLIC_ANSWERS = "neuropod-public-answers"
NO_KEYS = "neuropod-no-keys"


@dataclass(frozen=True, slots=True)
class PortNames:
    """The names of one port's objects, all in its owner's namespace."""

    namespace: str
    pod: str
    user: str  # the owner's hash
    port: str  # `<pod>-<user hash>-<port>`

    @property
    def service(self) -> str:
        """At most 63 characters by construction, as a Service's name must be."""
        return f"{self.port}-service"

    @property
    def ingress(self) -> str:
        """What leads to the port."""
        return f"{self.port}-ingress"

    @property
    def gate(self) -> str:
        """What belongs to the port's gate: Middleware, EndpointSlice, and the Ingress of the gate's own paths."""
        return f"{self.port}-gate"


def port_names(route: Route) -> PortNames:
    """Return the names for a route; its host's first label is `<pod>-<user hash>-<port>` (pods.hosts)."""
    label = route.host.partition(".")[0]
    pod, user, _ = label.rsplit("-", 2)
    return PortNames(namespace=f"neuropod-{user}", pod=pod, user=user, port=label)


def port_labels(installation: InstallationId, route: Route, names: PortNames) -> dict[str, str]:
    """Return the labels of what belongs to a port: to the pod, not to one of its incarnations."""
    return {APP: names.pod, USER: names.user, INSTALLATION: installation, POD: route.pod_id}


def user_labels(installation: InstallationId, names: PortNames) -> dict[str, str]:
    """Return the labels of what all ports of a user share."""
    return {USER: names.user, INSTALLATION: installation}
