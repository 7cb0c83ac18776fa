"""A network of its own for each pod: namespace, address, egress filter, and the way in for the gateway.

Called by the server (`install` at open, `sweep`) and by each pod's shim (`open_network`, once, before it starts a
thread or an event loop). How it is made is `rootnet`'s and `usernet`'s; names are served by `dns`.
"""

import dataclasses
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuropod.runtimes.local import rootnet, usernet
from neuropod.runtimes.local.loop import Loop
from neuropod.runtimes.local.netplan import NetworkMode, NetworkPlan, PodNetwork, connect_loopback
from neuropod.runtimes.local.tools import Tools

__all__ = ["NetworkPlan", "PodNetwork", "install", "open_network", "sweep", "uninstall"]


def install(
    *,
    mode: NetworkMode,
    installation: str,
    run_dir: Path,
    tools: Tools,
    egress_allow: tuple[str, ...] = (),
    tun: bool = False,
) -> NetworkPlan:
    """Prepare the host (root mode: range, filter table, forwarding) and return the plan for shims; may be repeated."""
    plan = NetworkPlan(mode, installation, str(run_dir), tools, egress_allow=egress_allow, tun=tun)
    if mode != "none":
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if run_dir.stat().st_uid != os.getuid():
            raise OSError(f"{run_dir} belongs to somebody else")
    if mode == "root":
        plan = dataclasses.replace(plan, range=rootnet.install(plan))
    return plan


def uninstall(plan: NetworkPlan) -> None:
    """Undo `install` when no pod of this installation is left (leaves everything otherwise); may be repeated."""
    if plan.mode == "root":
        rootnet.uninstall(plan)


def open_network(plan: NetworkPlan) -> PodNetwork:
    """Open a network for one pod. The caller has one thread and no event loop yet.

    In user mode this process itself moves: it is in a user namespace of its own afterwards, uid 0 there, and in the
    pod's network namespace. Raises OSError or ToolFailedError when it cannot be had; nothing is left then.
    """
    if plan.mode == "root":
        return rootnet.open_network(plan)
    if plan.mode == "user":
        return usernet.open_network(plan)
    return _HostNetwork(plan)


def sweep(plan: NetworkPlan) -> int:
    """Take away what dead shims of this installation left, and tell how many things that were."""
    if plan.mode == "root":
        return rootnet.sweep(plan)
    return usernet.sweep(plan) if plan.mode == "user" else 0


class _HostNetwork:
    """Mode `none`: the host's own network, shared by all."""

    internet = True
    message = "The host's own network: pods reach each other and the host."

    def __init__(self, plan: NetworkPlan) -> None:
        self.address: str | None = "127.0.0.1"
        self.egress_allow = plan.egress_allow
        self.resolv_conf = "".join(f"nameserver {address}\n" for address in rootnet.resolvers())

    @contextmanager
    def inside(self) -> Iterator[None]:
        yield

    def connect(self, port: int) -> socket.socket:
        return connect_loopback(port)

    def outside(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket | None:  # noqa: ARG002
        return None

    def give_back(self, connection: socket.socket) -> None:
        connection.close()

    def keep(self, loop: Loop) -> None:
        pass

    def close(self) -> None:
        pass
