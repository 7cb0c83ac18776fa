"""Where things are: folders of the cache and of a cluster, names and addresses of its machines.

Everything here is constant or follows from the cluster's name; nothing is looked up.
"""

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
CACHE = Path(os.environ.get("NEUROPOD_CLUSTER_CACHE") or Path.home() / ".cache" / "neuropod-cluster")

# The cluster's own network exists in its own network namespace alone, so that its addresses meet nobody's.
LAN = "172.31.77.0/24"
CONTROL = "172.31.77.1"  # the API server, the registry, the ingress controllers and the tests
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
OUTSIDE_GATEWAY = "203.0.113.1"
OUTSIDE = "203.0.113.10"  # a web server that stands for the internet (a documentation address, routed nowhere)
API_PORT = 6443
REGISTRY_PORT = 5000


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: a network, mount and process namespace with a cable to the cluster's bridge."""

    name: str
    number: int
    gpu_product: str
    gpus: int

    @property
    def address(self) -> str:
        return f"172.31.77.{10 + self.number}"

    @property
    def pod_cidr(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def cable(self) -> str:
        """The bridge's end of the node's cable; its other end is eth0 inside the node."""
        return f"lan-{self.number}"


NODES = {
    node.name: node
    for node in (
        Node("node-1", 1, gpu_product="NVIDIA-GeForce-RTX-4090", gpus=4),
        Node("node-2", 2, gpu_product="NVIDIA-GeForce-RTX-4070", gpus=2),
    )
}


@dataclass(frozen=True)
class Cluster:
    """The folder of one cluster. Several run beside each other under different names."""

    name: str

    @property
    def folder(self) -> Path:
        return CACHE / "clusters" / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def socket(self) -> Path:
        """Where the supervisor takes commands."""
        return self.folder / "control.sock"

    @property
    def ready(self) -> Path:
        """Is there from the moment when the first node takes pods."""
        return self.folder / "ready"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def cgroup(self) -> str:
        return f"neuropod-cluster-{self.name}"

    def node(self, node: Node) -> Path:
        """Name the folder that the node keeps while it is off, as a machine keeps its disk."""
        return self.folder / node.name
