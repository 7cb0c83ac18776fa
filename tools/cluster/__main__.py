"""The commands of tools/cluster/cluster, for the Makefile and by hand; `run` is what `make test-cluster` calls."""

import argparse
import os
import signal
import subprocess
import sys

from . import lifetime
from .orders import order
from .places import NODES, Cluster
from .programs import program as built

# With its own mounts and process ids one sees what containerd sees; tests need no more than the network.
_NETWORK, _ALL = ["--net"], ["--net", "--mount", "--pid", "--uts"]


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster", description="A real, throwaway Kubernetes on this machine.")
    parser.add_argument(
        "--name", default=os.environ.get("NEUROPOD_CLUSTER", "default"), help="several run side by side"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, purpose in (
        ("up", "bring a cluster up, which stays until it is told to go down"),
        ("run", "run a program in a cluster that ends with it; with KUBECONFIG set, just run it"),
    ):
        command = commands.add_parser(name, help=purpose)
        command.add_argument("--two-nodes", action="store_true", help="switch node-2 on from the start")
        command.add_argument("--without-policies", action="store_true", help="nothing enforces NetworkPolicies")
        if name == "run":
            command.add_argument("program", nargs=argparse.REMAINDER)
    commands.add_parser("prepare", help="install and build what is missing, and start nothing")
    commands.add_parser("down", help="end the cluster and remove what it left")
    commands.add_parser("status", help="what runs")
    enter = commands.add_parser("enter", help="run a program (or a shell) in the cluster's network")
    enter.add_argument("--node", choices=NODES, help="in the network, mounts and processes of this node")
    enter.add_argument("program", nargs=argparse.REMAINDER)
    orders = commands.add_parser(
        "order", help="tell the supervisor: restart kube-apiserver, start node-2, cut node-1, …"
    )
    orders.add_argument("words", nargs="+")
    return parser


def main() -> int:
    """Return the exit status; errors of the set-up are shown as they are."""
    given = _arguments().parse_args()
    cluster = Cluster(given.name)
    match given.command:
        case "prepare":
            lifetime.prepare()
        case "up":
            _up(cluster, given, tied=False)
            print(
                f"ready\n\n  export KUBECONFIG={cluster.kubeconfig}\n  tools/cluster/cluster enter kubectl get nodes\n"
            )
        case "run":
            return _run(cluster, given)
        case "down":
            lifetime.down(cluster)
        case "status":
            for name, state in order(cluster, "status").items():
                print(f"{name:26}{state}")
        case "enter":
            _enter(cluster, given)
        case "order":
            print(order(cluster, *given.words))
    return 0


def _up(cluster: Cluster, given: argparse.Namespace, *, tied: bool) -> None:
    nodes = list(NODES) if given.two_nodes else ["node-1"]
    lifetime.up(cluster, nodes=nodes, policies=not given.without_policies, tied=tied)


def _run(cluster: Cluster, given: argparse.Namespace) -> int:
    """Return the program's own exit status. Ctrl-C and SIGTERM reach it; the cluster ends after it in any case."""
    if os.environ.get("KUBECONFIG"):
        return subprocess.run(given.program, check=False).returncode
    try:
        _up(cluster, given, tied=True)
        program = subprocess.Popen(_entered(cluster, _NETWORK, given.program), env=_environment(cluster))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the program too
        signal.signal(signal.SIGTERM, lambda *_: program.terminate())
        return program.wait()
    finally:
        lifetime.down(cluster)


def _enter(cluster: Cluster, given: argparse.Namespace) -> None:
    program = given.program or [os.environ.get("SHELL", "/bin/bash")]
    command = _entered(cluster, _NETWORK, program)
    if given.node:
        command = _entered(cluster, _ALL, program, pid=lifetime.inside_node(cluster, NODES[given.node]))
    os.execvpe(command[0], command, _environment(cluster))


def _entered(cluster: Cluster, namespaces: list[str], program: list[str], pid: int | None = None) -> list[str]:
    first = pid or lifetime.inside(cluster)
    if first is None:
        sys.exit(f"the cluster {cluster.name} does not run: tools/cluster/cluster up")
    return ["nsenter", f"--target={first}", *namespaces, *program]


def _environment(cluster: Cluster) -> dict[str, str]:
    """With the cluster's kubeconfig and its programs, kubectl among them."""
    path = f"{built('kubectl').parent}:{os.environ['PATH']}"
    socket = str(cluster.socket)
    return {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "NEUROPOD_CLUSTER_SOCKET": socket, "PATH": path}


if __name__ == "__main__":
    sys.exit(main())
