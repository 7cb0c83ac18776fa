"""Networks of pods made by root: a namespace and a veth for each, the internet by NAT, nftables in between.

Called by `network`. Names and addresses come from a slot's number: slot n has the interface `np<installation>-<n>` and
the n-th pair of addresses of the range that all installations of this machine share, the first of it the host's end.
"""

import ipaddress
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neuropod.runtimes.local import filters, linux, slots
from neuropod.runtimes.local.loop import Loop, Timer
from neuropod.runtimes.local.netlink import NETFILTER, NEWS_OF_TABLES, Netlink
from neuropod.runtimes.local.netplan import RESOLV_CONF, NetworkPlan, connect_loopback
from neuropod.runtimes.local.tools import ToolFailedError, Tools, run

_SLOTS = 16384
_LOOK_SECONDS = 5.0
_SYSCTL = Path("/proc/sys/net")
# Where pods' addresses are taken from: the first /16 that this host has no use for.
_CANDIDATES = (
    *(f"10.{number}.0.0/16" for number in (213, 214, 215, 87, 149, 231)),
    *(f"172.{number}.0.0/16" for number in (29, 30, 31, 28, 27)),
    *(f"100.{number}.0.0/16" for number in (113, 114, 115)),
    "192.168.0.0/16",
)


class NoRangeError(OSError):
    """Every range that pods' addresses could come from is in use by this host."""


def free_range(used: list[str], candidates: tuple[str, ...] = _CANDIDATES) -> str:
    """Return the first candidate that overlaps no network in use."""
    networks = [ipaddress.IPv4Network(each, strict=False) for each in used]
    for candidate in candidates:
        if not any(network.overlaps(ipaddress.IPv4Network(candidate)) for network in networks):
            return candidate
    raise NoRangeError("All private ranges are in use on this host; pods need a /16 of their own.")


def addresses_of(range_: str, slot: int) -> tuple[str, str]:
    """Return the host's and the pod's address of a slot."""
    first = int(ipaddress.IPv4Network(range_).network_address) + 2 * (slot + 1)
    return str(ipaddress.IPv4Address(first)), str(ipaddress.IPv4Address(first + 1))


def resolvers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """Return the host's name servers."""
    found = []
    with suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                with suppress(ValueError):
                    ipaddress.ip_address(words[1].partition("%")[0])
                    found.append(words[1])
    return found


def install(plan: NetworkPlan) -> str:
    """Prepare this host for the installation's pods; return the range. May be repeated, also while pods run."""
    run_dir = Path(plan.run_dir)
    with slots.alone(run_dir):
        range_ = plan.range or _range(run_dir)
        _load(plan, range_, plan.egress_allow)
    return range_


def _load(plan: NetworkPlan, range_: str, allowed: Sequence[str]) -> None:
    """Load the rules and note what they were made from."""
    guard = _forwards_nothing()
    run([*plan.tools.nft, "-f", "-"], stdin=filters.root_rules(plan.installation, range_, allowed, guard=guard))
    _note(plan).write_text(json.dumps({"allowed": list(allowed), "guard": guard}))


def _restore(plan: NetworkPlan) -> None:
    """Let the rules stand as the server loaded them last, which may allow other networks than this pod's plan."""
    if _stand(plan):
        return
    with slots.alone(Path(plan.run_dir)):
        if not _stand(plan):  # nobody else was quicker
            _load(plan, plan.range, _noted(plan).get("allowed", plan.egress_allow))


def _stand(plan: NetworkPlan) -> bool:
    """Tell whether the rules are there, and made for what this host does now.

    A host that begins to forward for others, such as containers, must not be kept from it by what was right before.
    """
    with Netlink(NETFILTER) as netlink:
        if not netlink.has_table(filters.table_name(plan.installation)):
            return False
    return _noted(plan).get("guard") == _forwards_nothing()


def _forwards_nothing() -> bool:
    return (_SYSCTL / "ipv4/ip_forward").read_text().strip() == "0"


def _note(plan: NetworkPlan) -> Path:
    return Path(plan.run_dir, f"rules-{filters.digest(plan.installation)}")


def _noted(plan: NetworkPlan) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        noted = json.loads(_note(plan).read_bytes())
        if isinstance(noted, dict):
            return noted
    return {}


def _range(run_dir: Path) -> str:
    """Return the range that this machine's installations share, chosen anew only while there is no pod."""
    file = run_dir / "range"
    with Netlink() as netlink:
        busy = any(link.startswith(filters.LINKS) for link in netlink.links())
        used = [network for network, _ in netlink.routes() if not network.endswith("/0")]
        used += [f"{address}/32" for address in netlink.addresses() if ":" not in address]
    used += [f"{address}/32" for address in resolvers() if ":" not in address]
    with suppress(OSError, ValueError):
        known = str(ipaddress.IPv4Network(file.read_text().strip()))
        return known if busy else free_range(used, (known,))
    chosen = free_range(used)
    file.write_text(chosen)
    return chosen


def uninstall(plan: NetworkPlan) -> None:
    """Undo `install` when no pod of this installation is left, and what all share when none of any is."""
    run_dir = Path(plan.run_dir)
    with slots.alone(run_dir):
        sweep(plan)
        if plan.installation in _live(run_dir):
            return
        table = filters.table_name(plan.installation)
        run([*plan.tools.nft, "-f", "-"], stdin=f"add table inet {table}\ndelete table inet {table}\n")
        live = _live(run_dir)
        _note(plan).unlink(missing_ok=True)
        if plan.installation in live:  # one that began meanwhile, and had seen the table just before
            _load(plan, plan.range, plan.egress_allow)
        elif not live and not _other_tables(plan.tools):
            _stop_forwarding(run_dir)


def _live(run_dir: Path) -> set[str]:
    return {str(note.get("installation")) for note in slots.held(run_dir)}


def _other_tables(tools: Tools) -> bool:
    return "table inet neuropod_" in run([*tools.nft, "list", "tables"])


def sweep(plan: NetworkPlan) -> int:
    """Take away the interfaces that dead shims of this installation left."""
    count = 0
    with Netlink() as netlink:
        for slot in slots.abandoned(Path(plan.run_dir)):
            note = slot.note()
            if note.get("installation") == plan.installation:
                count += netlink.delete_link(str(note.get("link")))
                slot.leave()
    return count


class RootNetwork:
    """A pod's network; this process goes in and out of its namespace."""

    def __init__(self, plan: NetworkPlan, slot: slots.Slot) -> None:
        self.egress_allow = plan.egress_allow
        self.resolv_conf = RESOLV_CONF
        self.address: str | None = None
        self.internet = False
        self.message = ""
        self._plan = plan
        self._slot = slot
        self._loop: Loop | None = None
        self._news: Netlink | None = None
        self._timer: Timer | None = None
        self._link = f"{filters.link_prefix(plan.installation)}{slot.number}"
        self._depth = 0
        self._host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._pod = -1

    def open(self) -> None:
        """Make it; what fails is raised, and `close` takes back what was made until then."""
        plan = self._plan
        host_end, pod_end = addresses_of(plan.range, self._slot.number)
        linux.unshare(linux.CLONE_NEWNET)
        try:
            self._pod = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            inner = Netlink()
        finally:
            linux.setns(self._host, linux.CLONE_NEWNET)
        with inner, Netlink() as outer:
            if (left := self._slot.note().get("link")) is not None:
                outer.delete_link(str(left))
            outer.delete_link(self._link)
            self._slot.write({"installation": plan.installation, "link": self._link})
            _restore(plan)  # from now on nobody takes it away
            ways = _ways(outer)
            mtus = outer.links()
            mtu = min((mtus[way] for way in ways if way in mtus), default=1500)
            outer.add_veth(self._link, "eth0", peer_namespace=self._pod, mtu=mtu)
            _set(f"ipv6/conf/{self._link}/disable_ipv6", 1)
            outer.set_up(self._link)
            outer.add_address(self._link, host_end, 31)
            for link in (self._link, *ways):
                _let_forward(Path(plan.run_dir), link, remember=link != self._link)
            with self.inside():
                inner.set_up("lo")
                _set("ipv6/conf/eth0/disable_ipv6", 1)
                _set("ipv4/ip_unprivileged_port_start", 0)
                inner.set_up("eth0")
                inner.add_address("eth0", pod_end, 31)
                inner.add_default_route(host_end)
        self.address = pod_end
        self.internet = bool(ways)
        self.message = (
            f"A network of its own at {pod_end}, with a way to the internet by {', '.join(ways)}."
            if ways
            else f"A network of its own at {pod_end}; this host has no way to the internet."
        )

    @contextmanager
    def inside(self) -> Iterator[None]:
        if self._pod < 0:
            raise OSError("the pod's network is closed")
        self._depth += 1
        try:
            linux.setns(self._pod, linux.CLONE_NEWNET)
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                linux.setns(self._host, linux.CLONE_NEWNET)

    def connect(self, port: int) -> socket.socket:
        with self.inside():
            return connect_loopback(port)

    def outside(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket | None:
        try:
            return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:  # too many are open, or a host without that family
            return None

    def give_back(self, connection: socket.socket) -> None:
        connection.close()

    def keep(self, loop: Loop) -> None:
        # A firewall that is loaded anew takes all tables away, ours too: that is told.
        self._loop = loop
        self._news = Netlink(NETFILTER, news=NEWS_OF_TABLES)
        loop.add_reader(self._news.fileno(), self._heard)
        self._look()

    def _heard(self) -> None:
        if self._news is not None:
            self._news.heard()
            with suppress(OSError, ToolFailedError):
                _restore(self._plan)

    def _look(self) -> None:
        # A laptop goes by another interface; a host begins to forward for others. Nobody tells that.
        if self._loop is None:
            return
        with suppress(OSError, ToolFailedError):
            _restore(self._plan)
            with Netlink() as netlink:
                ways = _ways(netlink)
            for link in ways:
                _let_forward(Path(self._plan.run_dir), link, remember=True)
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None and self._news is not None:
            self._loop.remove(self._news.fileno())
            self._news.close()
        self._loop = self._news = None
        if self._slot.fd < 0:
            return
        with Netlink() as netlink:
            netlink.delete_link(self._link)
        for fd in (self._pod, self._host):
            if fd >= 0:
                os.close(fd)
        self._pod = self._host = -1
        self._slot.leave()


def open_network(plan: NetworkPlan) -> RootNetwork:
    """Open a network for one pod."""
    network = RootNetwork(plan, slots.take(Path(plan.run_dir), _SLOTS))
    try:
        network.open()
    except BaseException:
        network.close()
        raise
    return network


def _ways(netlink: Netlink) -> list[str]:
    """Return the interfaces by which this host goes to the internet."""
    return sorted({link for network, link in netlink.routes() if network == "0.0.0.0/0" and link})


def _set(name: str, value: int) -> None:
    with suppress(FileNotFoundError):  # a kernel without IPv6
        (_SYSCTL / name).write_text(str(value))


def _let_forward(run_dir: Path, link: str, *, remember: bool) -> None:
    """Switch forwarding on for one interface; what was off and is not ours is remembered, to be switched off again."""
    switch = _SYSCTL / "ipv4/conf" / link / "forwarding"
    if switch.read_text().strip() == "1":
        return
    if remember:
        with (run_dir / "forwarding").open("a") as file:
            file.write(f"{link}\n")
    switch.write_text("1")


def _stop_forwarding(run_dir: Path) -> None:
    file = run_dir / "forwarding"
    with suppress(FileNotFoundError):
        if (_SYSCTL / "ipv4/ip_forward").read_text().strip() == "0":
            for link in set(file.read_text().split()):
                _set(f"ipv4/conf/{link}/forwarding", 0)
        file.unlink()
