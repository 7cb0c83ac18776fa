"""A network of its own for each pod: namespace, address, egress filter, and the way in for the gateway.

Called by the server (`install` at open, `sweep`) and by each pod's shim (`open_network`, once, before it starts a
thread or an event loop). Names are served by `dns`.
"""

import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from neuropod.runtimes.local.tools import Tools


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What a shim needs to know to open its pod's network. The server makes it with `install`."""

    mode: Literal["root", "user", "none"]
    installation: str
    run_dir: str  # locks of slots; root-only, gone with a reboot
    tools: Tools
    range: str = ""  # root mode: the network (CIDR) that slots are cut from
    egress_allow: tuple[str, ...] = ()
    tun: bool = False  # user mode: /dev/net/tun can be used, so there is an internet to offer

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "NetworkPlan":
        """Return the plan that `as_json` wrote."""
        raise NotImplementedError


class PodNetwork(Protocol):
    """An open network of one pod; the shim keeps it until the pod's processes are gone, then closes it."""

    internet: bool  # a way to the internet was set up
    message: str  # one sentence: what this network is, or what it lacks
    address: str | None  # the pod's own, for people; the gateway uses `connect`
    resolv_conf: str  # text for the pod's /etc/resolv.conf

    def inside(self) -> AbstractContextManager[None]:
        """What this thread starts or opens within the block is in the pod's network (sockets, child processes)."""
        ...

    def connect(self, port: int) -> socket.socket:
        """Return a socket connected to the pod's own loopback; OSError (refused) at once when nothing listens."""
        ...

    def close(self) -> None:
        """Take it away; may be repeated. What a crash leaves is taken away by the next user of the slot or `sweep`."""
        ...


def install(
    *,
    mode: Literal["root", "user", "none"],
    installation: str,
    run_dir: Path,
    tools: Tools,
    egress_allow: tuple[str, ...] = (),
    tun: bool = False,
) -> NetworkPlan:
    """Prepare the host (root mode: range, filter table, forwarding) and return the plan for shims; may be repeated."""
    raise NotImplementedError


def uninstall(plan: NetworkPlan) -> None:
    """Undo `install` when no pod of this installation is left (leaves everything otherwise); may be repeated."""
    raise NotImplementedError


def open_network(plan: NetworkPlan) -> PodNetwork:
    """Open a network for one pod. The caller has one thread and no event loop yet.

    In user mode this process itself moves: it is in a user namespace of its own afterwards, uid 0 there, and in the
    pod's network namespace. Raises OSError or ToolFailedError when it cannot be had; nothing is left then.
    """
    raise NotImplementedError


def sweep(plan: NetworkPlan) -> int:
    """Take away what dead shims of this installation left, and tell how many things that were."""
    raise NotImplementedError
