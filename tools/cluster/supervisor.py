"""What runs inside the cluster's namespaces, below tini: the network, the control plane, the nodes, and their orders.

Started by `lifetime.up`. It takes orders on a socket (one JSON line in, one out; see `_ORDERS`), so that tests can kill
the API server, cut a node's cable or start an ingress controller. When it ends everything in the namespaces ends.
"""

import json
import os
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from . import control, ingress, registry, volumes
from .api import MERGE, Api, RefusedError
from .node import prepare_folders
from .places import CONTROL, HERE, NODES, OUTSIDE, OUTSIDE_GATEWAY, SERVICE_NETWORK, Cluster, Node
from .processes import Process, run, wait_until
from .programs import program


class Supervisor:
    """Owns the cluster's processes. Every public method is one order and may be repeated."""

    def __init__(self, cluster: Cluster, *, policies: bool) -> None:
        self._cluster = cluster
        self._policies = policies
        self._lock = threading.RLock()
        self.api = Api(cluster)
        self._processes = {
            process.name: process
            for process in (
                self._program("etcd", partial(control.etcd, cluster)),
                self._program("kube-apiserver", partial(control.api_server, cluster)),
                self._program("kube-controller-manager", partial(control.controller_manager, cluster)),
                self._program("kube-scheduler", partial(control.scheduler, cluster)),
                self._program("outside", _outside),
                *(self._program(name, partial(registry.command, cluster, name)) for name in registry.NAMES),
                *(self._program(node.name, partial(self._node_command, node)) for node in NODES.values()),
            )
        }

    def _program(self, name: str, command: Callable[[], list[str]]) -> Process:
        return Process(name, command, self._cluster.logs)

    def _node_command(self, node: Node) -> list[str]:
        policies = "policies" if self._policies else "no-policies"
        return [
            *("nsenter", f"--net=/run/netns/{node.name}"),
            *("unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"),
            *("tini", "--", sys.executable, "-m", "cluster.node", self._cluster.name, node.name, policies),
        ]

    def status(self) -> dict[str, str]:
        with self._lock:
            return {
                name: "running" if process.alive else "ended by itself" if process.wanted else "off"
                for name, process in self._processes.items()
            }

    def start(self, name: str) -> str:
        """Start a program or an ingress controller, or switch a node on, which is ready some seconds later."""
        if name in ingress.NAMES:
            ingress.start(self.api, name)
            wait_until(f"the readiness of {name}", partial(ingress.ready, self.api, name), seconds=60)
            return f"{name} is ready"
        with self._lock:
            if self._processes[name].alive:
                return f"{name} runs"
            since = time.time()
            if name in NODES:
                self._switch_on(NODES[name])
            self._processes[name].start()
        if name in NODES:
            threading.Thread(target=self._offer_gpus, args=(NODES[name], since), daemon=True).start()
        return f"{name} started"

    def kill(self, name: str) -> str:
        with self._lock:
            self._processes[name].end(signal.SIGKILL)
        return f"{name} killed"

    def stop(self, name: str) -> str:
        if name in ingress.NAMES:
            ingress.stop(self.api, name)
            return f"{name} stopped"
        with self._lock:
            self._processes[name].end(signal.SIGKILL if name in NODES else signal.SIGTERM)
        return f"{name} stopped"

    def restart(self, name: str) -> str:
        self.stop(name)
        return self.start(name)

    def freeze(self, name: str) -> str:
        """Stop a program of the control plane without ending it: connections stay open and nothing answers."""
        return self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> str:
        return self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> str:
        with self._lock:
            pid = self._processes[name].pid
        if pid is None:
            raise ValueError(f"{name} does not run")
        os.kill(pid, number)
        return f"{name} got {number.name}"

    def cut(self, name: str) -> str:
        """Pull the node's cable: its pods go on, and nobody reaches it."""
        run("ip", "link", "set", NODES[name].cable, "down")
        return f"{name} is cut off"

    def join(self, name: str) -> str:
        run("ip", "link", "set", NODES[name].cable, "up")
        return f"{name} is connected"

    def gpus(self, name: str, number: str) -> str:
        """Say how many GPUs the node has, until it is started again."""
        amount = {"nvidia.com/gpu": str(int(number))}
        status = {"status": {"capacity": amount, "allocatable": amount}}
        self.api.call("PATCH", f"/api/v1/nodes/{name}/status", status, kind=MERGE)
        return f"{name} has {number} GPUs"

    def registry(self) -> str:
        """Start the registries and fill them."""
        for name in registry.NAMES:
            self.start(name)
        wait_until("the registry's readiness", registry.answers, seconds=20)
        registry.fill("busybox", "http")
        return f"{registry.OPEN} {registry.PRIVATE} {registry.SLOW}"

    def push(self, name: str, megabytes: str) -> str:
        """Put a new image of about that size into the registries, `<registry>/<name>:1`; no node has a part of it."""
        registry.push_new(name, int(megabytes))
        return f"{name}:1 pushed"

    def bring_up(self, nodes: list[str]) -> None:
        """From nothing to a cluster whose first node takes pods and whose names are answered."""
        _make_network()
        for name in ("etcd", "kube-apiserver", "outside"):
            self.start(name)
        wait_until("the API server's readiness", self._api_ready, seconds=120)
        for name in ("kube-controller-manager", "kube-scheduler", *nodes):
            self.start(name)
        run(
            program("kubectl"),
            "--kubeconfig",
            self._cluster.kubeconfig,
            "apply",
            "--server-side",
            "-f",
            HERE / "objects",
        )
        threading.Thread(target=volumes.serve, args=(self._cluster, self.api), daemon=True).start()
        wait_until("the readiness of the nodes", lambda: all(map(self._node_ready, nodes)), seconds=120)
        wait_until("the readiness of the cluster's DNS", self._dns_ready, seconds=120)

    def _switch_on(self, node: Node) -> None:
        """Make what must be there before the kubelet: folders, control groups, the Node with its share of addresses."""
        prepare_folders(self._cluster, node)
        for hierarchy in cgroup_hierarchies():
            (hierarchy / self._cluster.cgroup / node.name).mkdir(parents=True, exist_ok=True)
        labels = {"nvidia.com/gpu.product": node.gpu_product, "nvidia.com/gpu.present": "true"}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        # As a kubelet registers: without a condition the Node would take Pods before there is a kubelet.
        not_ready = {
            "type": "Ready",
            "status": "False",
            "reason": "KubeletNotReady",
            "message": "the kubelet has not started yet",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "labels": labels},
            "spec": {"podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr]},
            "status": {"conditions": [not_ready]},
        }
        try:
            self.api.call("POST", "/api/v1/nodes", body)
        except RefusedError as refused:
            if refused.status != 409:
                raise

    def _offer_gpus(self, node: Node, since: float) -> None:
        """Tell its GPUs once it is ready: a starting kubelet forgets amounts that no device plugin told it."""
        wait_until(f"the readiness of {node.name}", lambda: self._node_ready(node.name, since), seconds=120)
        self.gpus(node.name, str(node.gpus))

    def _api_ready(self) -> bool:
        try:
            return bool(self.api.call("GET", "/readyz") == "ok")
        except (OSError, RefusedError):
            return False

    def _node_ready(self, name: str, since: float = 0) -> bool:
        """Whether the kubelet has said so after `since` (seconds of the epoch), and not at an earlier start."""
        node = self._found(f"/api/v1/nodes/{name}")
        for condition in node.get("status", {}).get("conditions", []):
            if condition["type"] == "Ready":
                said_at = datetime.fromisoformat(condition["lastHeartbeatTime"]).timestamp()
                return condition["status"] == "True" and said_at > since
        return False

    def _dns_ready(self) -> bool:
        deployment = self._found("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
        return bool(deployment.get("status", {}).get("readyReplicas"))

    def _found(self, path: str) -> dict[str, Any]:
        """Return the object as it is now; nothing of it while an API server that is busy, or gone, does not tell."""
        try:
            found: dict[str, Any] = self.api.call("GET", path)
        except (OSError, RefusedError):
            return {}
        return found


_ORDERS = ("status", "start", "kill", "stop", "restart", "freeze", "thaw", "cut", "join", "gpus", "registry", "push")


def cgroup_hierarchies() -> list[Path]:
    """List the folders in which a control group is made: one of version 2, or one for each controller of version 1."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root]
    return [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]


def _make_network() -> None:
    """Make a bridge with a cable to each node, and a machine outside that stands for the internet."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "lan", "type", "bridge")
    run("ip", "address", "add", f"{CONTROL}/24", "dev", "lan")
    run("ip", "link", "set", "lan", "up")
    for node in NODES.values():
        _lay_cable(node.name, node.cable, f"{node.address}/24", gateway=CONTROL)
        run("ip", "link", "set", node.cable, "master", "lan", "up")
        run("ip", "route", "add", node.pod_cidr, "via", node.address)
    # The first node's kube-proxy turns the addresses of Services into those of pods for whoever is no node.
    run("ip", "route", "add", SERVICE_NETWORK, "via", NODES["node-1"].address)
    _lay_cable("outside", "wan", f"{OUTSIDE}/24", gateway=OUTSIDE_GATEWAY)
    run("ip", "address", "add", f"{OUTSIDE_GATEWAY}/24", "dev", "wan")
    run("ip", "link", "set", "wan", "up")


def _lay_cable(machine: str, cable: str, address: str, *, gateway: str) -> None:
    run("ip", "netns", "add", machine)
    run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", machine)
    for command in (
        ["link", "set", "lo", "up"],
        ["address", "add", address, "dev", "eth0"],
        ["link", "set", "eth0", "up"],
        ["route", "add", "default", "via", gateway],
    ):
        run("ip", "-n", machine, *command)


def _outside() -> list[str]:
    return ["nsenter", "--net=/run/netns/outside", "env", "PORT=80", str(program("http"))]


class _Orders(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        order, *arguments = json.loads(self.rfile.readline())
        supervisor: Supervisor = self.server.supervisor  # type: ignore[attr-defined]
        answer: dict[str, Any]
        try:
            if order not in _ORDERS:
                raise ValueError(f"no such order: {order}")
            answer = {"done": getattr(supervisor, order)(*arguments)}
        except Exception as error:  # noqa: BLE001 - whatever it was, the one who ordered is told
            answer = {"error": f"{type(error).__name__}: {error}"}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def _serve_orders(cluster: Cluster, supervisor: Supervisor) -> None:
    server = socketserver.ThreadingUnixStreamServer(str(cluster.socket), _Orders)
    server.supervisor = supervisor  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _end_with_standard_input() -> None:
    """Whoever started a tied cluster holds a pipe open; its end, for whatever reason, is ours."""
    while os.read(0, 1024):
        pass
    os._exit(0)


def main(name: str, policies: str, tied: str, *nodes: str) -> None:
    cluster = Cluster(name)
    if tied == "tied":
        threading.Thread(target=_end_with_standard_input, daemon=True).start()
    supervisor = Supervisor(cluster, policies=policies == "policies")
    supervisor.bring_up(list(nodes))
    _serve_orders(cluster, supervisor)
    cluster.ready.touch()
    print("ready", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
