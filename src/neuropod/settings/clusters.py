"""The settings of a Kubernetes cluster that runs pods; several stand side by side, each with a name of its own.

Read by `runtimes.kubernetes` (how it is reached, what pods may do there), by the ingress adapters (the carrier), and by
`settings.addresses` (its pods domain).
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from neuropod.settings.addresses import PodsAddress
from neuropod.settings.group import Group, Seconds

# What a cluster cannot be called: names of the other runtimes.
RESERVED_NAMES = frozenset({"local", "fake"})


class ClusterSettings(Group):
    """A Kubernetes cluster that runs pods.

    In the file each is a table `[[kubernetes]]`; in the environment the list is JSON:
    `NEUROPOD_KUBERNETES='[{"name": "lab", "kubeconfig": "/etc/neuropod/lab.yaml"}]'`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$")]
    """What GPU types, the log and people call it: 1 to 40 of a-z, 0-9 and -. Default none: it must be given. GPU types
    keep to it, so a cluster keeps its name; which cluster it is, is told by the uid of its kube-system."""

    kubeconfig: Path | None = None
    """The kubeconfig file by which it is reached. Default none: `in_cluster` must be true then."""

    context: str | None = None
    """Which context of that file. Default none: its current one."""

    in_cluster: bool = False
    """Reach the cluster that this server itself runs in, by its ServiceAccount. Default false."""

    reach: Literal["auto", "direct", "portforward"] = "auto"
    """How ports of pods are reached: `direct` dials their addresses, `portforward` goes through the API server. Default
    `auto`: direct with `in_cluster`, else portforward, which works from anywhere and is slower."""

    pods_domain: str | None = None
    """Hosts of its pods are below this domain. Default none: the installation's own `pods_domain`."""

    pods_url: str | None = None
    """Scheme, parent domain and port under which browsers reach its pods. Default none: with the installation's domain
    the installation's own `pods_url`; with a domain of its own `https://<pods domain>`, and with the carrier `gateway`
    the scheme and port of the installation's."""

    carrier: Literal["gateway", "ingress", "nginx"] = "gateway"
    """What carries traffic to ports: `gateway` is Neuropod's own, reached by a wildcard; `ingress` makes an Ingress for
    each port, for Traefik; `nginx` one with NGINX's annotations. Default `gateway`."""

    ingress_class: str | None = None
    """The IngressClass of those. Default none: `traefik`, with the carrier `nginx` `neuropod-nginx`."""

    ingress_tls_secret: str | None = None
    """The TLS Secret that each Ingress names, in each user's namespace. Default none: the controller's own
    certificate, which is what a wildcard wants."""

    gate_url: str | None = None
    """Where the ingress controller reaches Neuropod's gateway: `http://host:port` as seen from within the cluster.
    Default none; the carriers `ingress` and `nginx` need it. Plain http, as controllers speak to pods. It is checked at
    start; until it leads to a gateway of this installation only public ports are carried."""

    gateway_namespace: str | None = None
    """The namespace of what carries traffic to pods: the gateway's, or the ingress controller's. The NetworkPolicy of
    pods lets in from there alone. Default none: from nowhere in the cluster, which suits `portforward`."""

    gateway_labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the Pods there that may reach pods. Default none: all Pods of that namespace."""

    gateway_networks: tuple[str, ...] = ()
    """Networks (CIDR) outside the cluster's own from which pods are reached: of a gateway, an ingress controller or a
    server that dials pods from a machine beside the cluster. Default none."""

    storage_class: str | None = None
    """The StorageClass of volumes. Default none: the cluster's default class."""

    volume_access: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    """How volumes are mounted: `ReadWriteOnce` on one machine at a time, which ties all pods of a volume to it;
    `ReadWriteMany` on any, where the class can. Default ReadWriteOnce."""

    accept_unenforced_policies: bool = False
    """Let clients launch pods although this cluster does not enforce NetworkPolicies. Default false: then only
    administrators may (SECURITY 14)."""

    egress_allow: tuple[str, ...] = ()
    """Networks (CIDR) that pods may reach although they are private, such as a NAS. Default none."""

    images: tuple[str, ...] = ()
    """Images that clients may run here, as patterns with * for full names without tags (`ghcr.io/lab/*`,
    `docker.io/library/*`). Default none: any. Administrators may run any, and clients what templates of administrators
    name (SECURITY 15)."""

    user_namespaces: Literal["auto", "always", "never"] = "auto"
    """Whether root in a pod is nobody on its node (`hostUsers: false`). Default `auto`: where the cluster can; `always`
    refuses pods where it cannot."""

    runtime_class: str | None = None
    """The RuntimeClass of pods, such as `gvisor` or `nvidia`. Default none: the node's own."""

    fs_group: Annotated[int, Field(ge=0)] | None = 100
    """The group that may write to volumes, given to each pod's processes besides their own (`fsGroup`). Default 100,
    the `users` of Jupyter's images; none leaves volumes as their class makes them, for root alone."""

    cpu_overcommit: Annotated[float, Field(ge=1)] = 1
    """How many times over CPU cores are promised: what a pod asks its node for is that part of its type's cores, its
    limit is all of them. Default 1; 4 suits notebooks, which mostly wait."""

    disk_overcommit: Annotated[float, Field(ge=1)] = 1
    """How many times over nodes' disks are promised to container disks. Default 1: a promise is kept."""

    canary_image: str = "busybox:1.37"
    """The image of the two small pods that find out at each start whether NetworkPolicies are enforced; it needs `sh`
    and `nc`. Default `busybox:1.37`."""

    user_cpu_cores: Annotated[int, Field(gt=0)] | None = None
    """CPU cores that one user's pods may have here in all, held by a ResourceQuota. Default none: no quota of it."""

    user_memory_gb: Annotated[int, Field(gt=0)] | None = None
    """Memory in GB (10^9 bytes) that one user's pods may have here in all. Default none: no quota of it."""

    declare_lost_after_seconds: Seconds | None = None
    """How long a node may give no answer until its pods count as lost and start elsewhere. Default none: never by time
    alone, since they may still run and write to their volumes; a node that was deleted, or tainted `out-of-service`,
    is fenced, and its pods are lost at once."""

    @field_validator("name")
    @classmethod
    def _is_its_own(cls, name: str) -> str:
        if name in RESERVED_NAMES:
            raise ValueError(f"{name!r} is the name of another runtime")
        return name

    @field_validator("gate_url")
    @classmethod
    def _is_a_gate(cls, url: str | None) -> str | None:
        if url is not None and PodsAddress.of_url(url).scheme != "http":
            raise ValueError("gate_url must be http://host:port: controllers reach the gateway as they reach pods")
        return url

    @field_validator("pods_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is not None:
            PodsAddress.of_url(url)
        return url

    @model_validator(mode="after")
    def _belongs_together(self) -> "ClusterSettings":
        if self.in_cluster == (self.kubeconfig is not None):
            raise ValueError("give either kubeconfig or in_cluster")
        if self.context is not None and self.kubeconfig is None:
            raise ValueError("context belongs to kubeconfig")
        if self.carrier != "gateway" and self.gate_url is None:
            raise ValueError(f"carrier {self.carrier!r} needs gate_url")
        if self.carrier == "gateway" and self.ingress_class is not None:
            raise ValueError("ingress_class belongs to the carriers ingress and nginx")
        if self.gateway_labels and self.gateway_namespace is None:
            raise ValueError("gateway_labels belong to gateway_namespace")
        return self

    @property
    def effective_ingress_class(self) -> str:
        """`ingress_class` or its default."""
        return self.ingress_class or ("neuropod-nginx" if self.carrier == "nginx" else "traefik")

    def pods_address(self, usual: PodsAddress) -> PodsAddress:
        """Return where its pods are; `usual`: where the installation's are."""
        if self.pods_url is not None:
            said = PodsAddress.of_url(self.pods_url)
            return said if self.pods_domain is None else said.model_copy(update={"domain": self.pods_domain})
        if self.pods_domain is None or self.pods_domain == usual.domain:
            return usual
        if self.carrier == "gateway":
            return usual.model_copy(update={"domain": self.pods_domain})
        return PodsAddress(scheme="https", domain=self.pods_domain, port=None)

    @property
    def dials_directly(self) -> bool:
        """Whether addresses of pods are dialled, else the API server's portforward is used."""
        return self.in_cluster if self.reach == "auto" else self.reach == "direct"
