"""What is said about a pod's network between the server, the shim and the two ways of making one: values alone.

Used by `network` (which callers import these names from), `rootnet`, `usernet` and `dns`.
"""

import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from neuropod.runtimes.local.loop import Loop
from neuropod.runtimes.local.tools import Tools

NetworkMode = Literal["root", "user", "none"]
NAME_SERVER = "127.0.0.53"  # in the pod's own network, where nobody else is
RESOLV_CONF = f"nameserver {NAME_SERVER}\noptions edns0\n"


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What a shim needs to know to open its pod's network. The server makes it with `install`."""

    mode: NetworkMode
    installation: str
    run_dir: str  # locks of slots; root-only, gone with a reboot
    tools: Tools
    range: str = ""  # root mode: the network (CIDR) that slots are cut from
    egress_allow: tuple[str, ...] = ()
    tun: bool = False  # user mode: /dev/net/tun can be used, so there is an internet to offer

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "mode": self.mode,
            "installation": self.installation,
            "run_dir": self.run_dir,
            "tools": self.tools.as_json(),
            "range": self.range,
            "egress_allow": list(self.egress_allow),
            "tun": self.tun,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "NetworkPlan":
        """Return the plan that `as_json` wrote."""
        return cls(
            mode=data["mode"],
            installation=data["installation"],
            run_dir=data["run_dir"],
            tools=Tools.from_json(data["tools"]),
            range=data["range"],
            egress_allow=tuple(data["egress_allow"]),
            tun=data["tun"],
        )


class PodNetwork(Protocol):
    """An open network of one pod; the shim keeps it until the pod's processes are gone, then closes it."""

    internet: bool  # a way to the internet was set up
    message: str  # one sentence: what this network is, or what it lacks
    address: str | None  # the pod's own, for people; the gateway uses `connect`
    resolv_conf: str  # text for the pod's /etc/resolv.conf
    egress_allow: tuple[str, ...]

    def inside(self) -> AbstractContextManager[None]:
        """Be in the pod's network within the block: what this thread opens or starts there is in it."""
        ...

    def connect(self, port: int) -> socket.socket:
        """Return a socket connected to the pod's own loopback; OSError (refused) at once when nothing listens."""
        ...

    def outside(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket | None:
        """Return an unconnected socket in the host's network, for `dns` alone; None while there is none to spare."""
        ...

    def give_back(self, connection: socket.socket) -> None:
        """Take back what `outside` gave; it is the caller's no more."""
        ...

    def keep(self, loop: Loop) -> None:
        """See to it now and then, until `close`, that what others may change on the host is as it was."""
        ...

    def close(self) -> None:
        """Take it away; may be repeated. What a crash leaves is taken away by the next user of the slot or `sweep`."""
        ...


def connect_loopback(port: int) -> socket.socket:
    """Connect to a port of this thread's own loopback, whichever family it listens on."""
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=5)
    except OSError:
        return socket.create_connection(("::1", port), timeout=5)
