"""The commands of tools/cluster/cluster, for the Makefile and by hand; `run` is what `make test-cluster` calls."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from . import lifetime
from .orders import order
from .places import NODES, Cluster
from .programs import program as built

# With its own mounts and process ids one sees what containerd sees; tests need no more than the network.
_NETWORK, _ALL = ["--net"], ["--net", "--mount", "--pid", "--uts"]

_WELCOME = """
The cluster {cluster.name} is ready. Its network is its own: enter it to reach the API server, pods and Services.

  {command} enter kubectl get pods -A
  {command} enter                        # a shell with KUBECONFIG and kubectl
  {command} down

KUBECONFIG={cluster.kubeconfig}
"""


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
    enter.add_argument("--node", choices=NODES, help="in this node's network, whose pods let it in by any policy")
    enter.add_argument("--all", action="store_true", help="in its mounts and processes too, where ctr and crictl work")
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
            print(_WELCOME.format(cluster=cluster, command=f"tools/cluster/cluster --name {cluster.name}"))
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


def _up(cluster: Cluster, given: argparse.Namespace, *, tied: bool) -> subprocess.Popen[bytes]:
    nodes = list(NODES) if given.two_nodes else ["node-1"]
    return lifetime.up(cluster, nodes=nodes, policies=not given.without_policies, tied=tied)


def _run(cluster: Cluster, given: argparse.Namespace) -> int:
    """Return the program's own exit status. Ctrl-C and SIGTERM reach it; the cluster ends after it in any case."""
    program = _without_dashes(given.program)
    if named := os.environ.get("KUBECONFIG"):
        running = Cluster(Path(named).parent.name)  # perhaps one of ours, which is entered and left as it is
        if running.kubeconfig == Path(named):
            os.execvpe("nsenter", _entered(lifetime.inside(running), _NETWORK, program), _environment(running))
        os.execvp(program[0], program)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with _up(cluster, given, tied=True):
            entered = subprocess.Popen(_entered(lifetime.inside(cluster), _NETWORK, program), env=_environment(cluster))
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the program too
            signal.signal(signal.SIGTERM, lambda *_: entered.terminate())
            return entered.wait()
    finally:
        lifetime.down(cluster)


def _enter(cluster: Cluster, given: argparse.Namespace) -> None:
    program = _without_dashes(given.program) or [os.environ.get("SHELL", "/bin/bash")]
    first = lifetime.inside_node(cluster, NODES[given.node]) if given.node else lifetime.inside(cluster)
    command = _entered(first, _ALL if given.all else _NETWORK, program)
    os.execvpe(command[0], command, _environment(cluster))


def _without_dashes(program: list[str]) -> list[str]:
    return program[1:] if program[:1] == ["--"] else program


def _entered(first: int | None, namespaces: list[str], program: list[str]) -> list[str]:
    if first is None:
        sys.exit("it does not run: see `tools/cluster/cluster status`, or bring it up")
    return ["nsenter", f"--target={first}", *namespaces, *program]


def _environment(cluster: Cluster) -> dict[str, str]:
    """With the cluster's kubeconfig and its programs, kubectl among them."""
    path = f"{built('kubectl').parent}:{os.environ['PATH']}"
    socket = str(cluster.socket)
    return {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "NEUROPOD_CLUSTER_SOCKET": socket, "PATH": path}


if __name__ == "__main__":
    sys.exit(main())
