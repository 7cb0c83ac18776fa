"""Networks of pods made by an ordinary user: the shim moves into namespaces of its own, pasta is the internet.

Called by `network`. The pod gets a user namespace below the shim's (by bubblewrap), so it has no power over this one:
it can neither take away the filter nor touch pasta, whose processes it does not even see.

What must stay in the host's network is a `keeper`, forked before the shim moves: it starts pasta, hands the name server
sockets of the host's network, and ends pasta when the shim's end of their socket closes, however that came. (pasta
itself outlives the process whose namespace it serves: ran, 2023-03.)
"""

import array
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neuropod.runtimes.local import filters, linux, slots
from neuropod.runtimes.local.loop import Loop
from neuropod.runtimes.local.netlink import NEWS_OF_ADDRESSES, Netlink
from neuropod.runtimes.local.netplan import RESOLV_CONF, NetworkPlan, connect_loopback
from neuropod.runtimes.local.state import ProcessId
from neuropod.runtimes.local.tools import ToolFailedError, run

_SLOTS = 16384
_ADDRESS, _GATEWAY, _PREFIX = "10.213.0.2", "10.213.0.1", "30"  # the same in each pod: nobody else is there
_READY_SECONDS = 10.0
_PAUSE_SECONDS = 0.001
_NO_TUN = "A network of its own, without a way to the internet: /dev/net/tun cannot be used by this user."
_PASTA = (
    "-f", "-q", "-4", "--config-net", "-I", "eth0", "-a", _ADDRESS, "-n", _PREFIX, "-g", _GATEWAY,
    "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw",
    "--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra",
)  # fmt: skip


def pasta_arguments(pid: int) -> tuple[str, ...]:
    """Return pasta's arguments for the namespaces of a process: no port in either direction, no way to the host."""
    return (*_PASTA, str(pid))


class UserNetwork:
    """A pod's network; this process is in it."""

    def __init__(self, plan: NetworkPlan, slot: slots.Slot, *, has_way: bool) -> None:
        self.egress_allow = plan.egress_allow
        self.resolv_conf = RESOLV_CONF
        self.address: str | None = None
        self.internet = plan.tun and bool(plan.tools.pasta) and has_way
        self.message = _NO_TUN if not plan.tun else "A network of its own; this host has no way to the internet."
        self._tools = plan.tools
        self._slot = slot
        self._loop: Loop | None = None
        self._host: Netlink | None = None  # in the host's network for good, though this process leaves it
        self._news: Netlink | None = None
        self._addresses: list[str] = []  # of the host, as the filter knows them
        self._keeper: socket.socket | None = None
        self._keeper_pid = 0

    def open(self, plan: NetworkPlan) -> None:
        """Move and connect; what fails is raised, and `close` takes back what was made until then."""
        self._host = Netlink()
        self._news = Netlink(news=NEWS_OF_ADDRESSES)  # before the look, so that nothing is missed
        self._addresses = self._host.addresses()
        if self.internet:
            self._keeper, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            shim = os.getpid()
            self._keeper_pid = os.fork()
            if self._keeper_pid == 0:
                self._keeper.close()
                _keep(theirs, [*plan.tools.pasta, *pasta_arguments(shim)], self._slot.fd)
            theirs.close()
            self._slot.write({"installation": plan.installation, "processes": [_identity(self._keeper_pid)]})
        enter_namespaces()
        self._prepare(plan)
        if self._keeper is not None:
            self._keeper.send(b"pasta")
            pasta = _identity(int(self._keeper.recv(64)))
            self._slot.write({"installation": plan.installation, "processes": [_identity(self._keeper_pid), pasta]})
            self._wait_for_pasta(self._keeper)
            self.address = _ADDRESS
            self.message = "A network of its own, with a way to the internet by pasta."

    def _prepare(self, plan: NetworkPlan) -> None:
        with Netlink() as netlink:
            netlink.set_up("lo")
        for name, value in (("ipv4/ip_unprivileged_port_start", "0"), ("ipv6/conf/default/disable_ipv6", "1")):
            with suppress(OSError):
                Path("/proc/sys/net", name).write_text(value)
        run([*plan.tools.nft, "-f", "-"], stdin=filters.user_rules(plan.egress_allow, self._addresses))

    def _wait_for_pasta(self, keeper: socket.socket) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        keeper.setblocking(False)
        with Netlink() as netlink:
            while not any(network == "0.0.0.0/0" for network, _ in netlink.routes()):
                with suppress(BlockingIOError):
                    said = keeper.recv(4096)
                    raise ToolFailedError(f"pasta did not start: {said.decode('utf-8', 'replace').strip()}")
                if time.monotonic() > deadline:
                    raise ToolFailedError(f"pasta did not connect the pod within {_READY_SECONDS:.0f} s")
                time.sleep(_PAUSE_SECONDS)
        keeper.setblocking(True)
        keeper.settimeout(1)

    @contextmanager
    def inside(self) -> Iterator[None]:
        yield

    def connect(self, port: int) -> socket.socket:
        return connect_loopback(port)

    def outside(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket | None:
        if self._keeper is None:
            return None
        with suppress(OSError):
            self._keeper.send(f"{int(family)} {int(kind)}".encode())
            _, ancillary, _, _ = self._keeper.recvmsg(16, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
            for level, what, data in ancillary:
                if level == socket.SOL_SOCKET and what == socket.SCM_RIGHTS:
                    fds = array.array("i", data[:4])
                    return socket.socket(fileno=fds[0])
        return None

    def give_back(self, connection: socket.socket) -> None:
        connection.close()

    def keep(self, loop: Loop) -> None:
        # A host that gets another address is no more a pod's to reach by it than by the first.
        if self._news is not None:
            self._loop = loop
            loop.add_reader(self._news.fileno(), self._heard)
            self._heard()

    def _heard(self) -> None:
        if self._host is None or self._news is None:
            return
        self._news.heard()
        addresses = self._host.addresses()
        if addresses != self._addresses:
            run([*self._tools.nft, "-f", "-"], stdin=filters.user_host_rules(addresses))
            self._addresses = addresses

    def close(self) -> None:
        if self._loop is not None and self._news is not None:
            self._loop.remove(self._news.fileno())
        for netlink in (self._host, self._news):
            if netlink is not None:
                netlink.close()
        self._loop = self._host = self._news = None
        if self._keeper is not None:
            with suppress(OSError):
                self._keeper.shutdown(socket.SHUT_RDWR)
            self._keeper.close()
            self._keeper = None
            with suppress(ChildProcessError):
                os.waitpid(self._keeper_pid, 0)
            self._keeper_pid = 0
        self._slot.leave()


def enter_namespaces() -> None:
    """Move this process, which has one thread, into a user and a network namespace of its own, as uid 0 there."""
    uid, gid = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def open_network(plan: NetworkPlan) -> UserNetwork:
    """Open a network for one pod; this process is in it afterwards."""
    with Netlink() as netlink:
        has_way = any(network == "0.0.0.0/0" for network, _ in netlink.routes())
    slot = slots.take(Path(plan.run_dir), _SLOTS)
    _end_left(slot.note())
    network = UserNetwork(plan, slot, has_way=has_way)
    try:
        network.open(plan)
    except BaseException:
        network.close()
        raise
    return network


def sweep(plan: NetworkPlan) -> int:
    """End what dead shims of this installation left: keepers end with them, so as a rule there is nothing."""
    count = 0
    for slot in slots.abandoned(Path(plan.run_dir)):
        note = slot.note()
        if note.get("installation") == plan.installation:
            count += _end_left(note)
            slot.leave()
    return count


def _identity(pid: int) -> list[int]:
    process = ProcessId.of(pid)
    return [process.pid, process.start_time]


def _end_left(note: dict[str, Any]) -> int:
    """Kill the processes that a note names, where they are those very ones still; tell how many."""
    count = 0
    for pid, start_time in note.get("processes", ()):
        process = ProcessId(pid, start_time)
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                if process.alive:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    count += 1
            finally:
                os.close(pidfd)
    return count


# ---- the keeper, a process of its own


def _keep(shim: socket.socket, pasta: list[str], slot: int) -> None:
    """Live until the shim's end of the socket closes; never returns."""
    child = -1
    try:
        os.close(slot)  # held by the shim alone: that it is free tells that the shim is dead
        os.setsid()
        linux.set_process_name("np-keeper")
        signal.signal(signal.SIGTERM, lambda *_: shim.shutdown(socket.SHUT_RDWR))
        while order := shim.recv(64):
            if order == b"pasta":
                child = _run_pasta(pasta, shim)
            else:
                _hand_out(shim, order)
    except OSError:
        pass
    finally:
        if child >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
            select.select([child], [], [])
        os._exit(0)


def _hand_out(shim: socket.socket, order: bytes) -> None:
    family, kind = (int(word) for word in order.split())
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(socket.AddressFamily(family), kind | flags) as connection:
        socket.send_fds(shim, [b"socket"], [connection.fileno()])


def _run_pasta(argv: list[str], shim: socket.socket) -> int:
    """Start pasta and tell the shim its number; if it ends before the next order, tell why. Returns a pidfd."""
    errors = os.memfd_create("pasta", os.MFD_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for fd, place in ((null, 0), (null, 1), (errors, 2)):
                os.dup2(fd, place)
            signal.signal(
                signal.SIGPIPE, signal.SIG_DFL
            )  # Python ignores it, and pasta fails where it is ignored (ran)
            os.execve(argv[0], argv, {})  # noqa: S606 - a list, and no shell is wanted
        finally:
            os._exit(127)
    pidfd = os.pidfd_open(pid)
    shim.send(str(pid).encode())
    if pidfd in select.select([shim.fileno(), pidfd], [], [])[0]:
        shim.send(os.pread(errors, 4000, 0) or b"it ended without a word")
    os.close(errors)
    return pidfd
