"""A host with an internet of its own, in network namespaces: what pods reach is tried without a packet outside.

Run as a program of its own (it moves into namespaces) by `tried`, by root or by an ordinary user:

    internet: 192.0.2.1 the host's gateway, 198.51.100.7 somebody's server, 198.51.100.53 a resolver,
              10.77.0.9 a private machine, 169.254.169.254 the cloud's metadata
    host:     192.0.2.2 and 10.77.0.1 on its way out; listens on port 9999 of all its addresses
    pods:     `first` looks around; `second`, in mode root, listens on port 8888 of all its addresses

It prints, as JSON, what became of each look. Each of the internet's servers answers with the address that it was asked
from, so who pretends to be another is seen there.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuropod.runtimes.local import dns, linux, network, slots, usernet
from neuropod.runtimes.local.loop import Loop
from neuropod.runtimes.local.netlink import Netlink
from neuropod.runtimes.local.state import ProcessId
from runtimes.local.internet import NAMES, RESOLVER, SERVERS, serve, serve_internet, until_ready
from support.programs import machine_tools

# Looked up before the world is built: its root is this user, and a real root trusts no program that a user keeps.
_TOOLS = machine_tools()
_ROOT = Path(__file__).parents[3]
_SURELY = 15.0  # seconds, for who answers or refuses for certain: a lost packet comes again after one, three, seven


def tried(what: str, work: Path) -> dict[str, Any]:
    """Run `what` (a function of this module) in a process of its own and return what it found."""
    done = subprocess.run(
        [sys.executable, "-m", "runtimes.local.world", what, str(work)],
        env={"PYTHONPATH": ":".join([str(_ROOT / "src"), str(_ROOT / "tests"), *sys.path]), "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---- the world


def build(work: Path) -> int:
    """Become the host of a new world; return a descriptor of its internet's namespace."""
    if os.getuid() == 0:
        linux.unshare(linux.CLONE_NEWNET)
    else:
        usernet.enter_namespaces()
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    linux.unshare(linux.CLONE_NEWNET)
    internet = os.open("/proc/self/ns/net", os.O_RDONLY)
    with Netlink() as netlink:
        netlink.set_up("lo")
        for address in (*SERVERS, RESOLVER):
            netlink.add_address("lo", address, 32)
    serve_internet()
    linux.setns(host, linux.CLONE_NEWNET)
    with Netlink() as netlink:
        netlink.set_up("lo")
        netlink.add_veth("up0", "in0", peer_namespace=internet, mtu=1400)
        netlink.set_up("up0")
        netlink.add_address("up0", "192.0.2.2", 24)
        netlink.add_address("up0", "10.77.0.1", 24)
    linux.setns(internet, linux.CLONE_NEWNET)
    with Netlink() as netlink:
        netlink.set_up("in0")
        netlink.add_address("in0", "192.0.2.1", 24)
        netlink.add_default_route("192.0.2.2")  # a neighbour that knows where pods are
    linux.setns(host, linux.CLONE_NEWNET)
    with Netlink() as netlink:
        netlink.add_default_route("192.0.2.1")
    serve("", 9999)
    resolv_conf = work / "resolv.conf"
    resolv_conf.write_text(f"nameserver 192.0.2.1\nnameserver {RESOLVER}\n")  # the first one says nothing
    dns._RESOLV_CONF = resolv_conf
    return internet


# ---- looking around


def look(address: str, port: int, *, family: int = socket.AF_INET, seconds: float = 1.5) -> str:
    """Return what answers there, or the name of the error."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect((address, port))
            return connection.recv(100).decode()
    except OSError as error:
        return type(error).__name__


def send(source: str, target: str) -> str:
    """Send a datagram from an address and return what became of that."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind((source, 0))
            datagrams.sendto(b"x", (target, 7))
            return "sent"
    except OSError as error:
        return type(error).__name__


def senders() -> str:
    """Ask the internet who sent it datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(_SURELY)
        datagrams.connect(("198.51.100.7", 7))
        datagrams.send(b"who")
        return datagrams.recv(4096).decode()


def _around() -> dict[str, str]:
    return {
        "internet": look("198.51.100.7", 80, seconds=_SURELY),
        "private machine": look("10.77.0.9", 80, seconds=_SURELY),
        "metadata": look("169.254.169.254", 80),
        "host": look("192.0.2.2", 9999),
        "host's private address": look("10.77.0.1", 9999),
        "own loopback": look("127.0.0.1", 9999),
        "everything": look("0.0.0.0", 9999),
        "over IPv6": look("2001:db8::1", 80, family=socket.AF_INET6),
    }


def _plan(
    mode: Any, work: Path, *, installation: str = "inst_world", allow: tuple[str, ...] = ()
) -> network.NetworkPlan:
    return network.install(
        mode=mode, installation=installation, run_dir=work / "run", tools=_TOOLS, egress_allow=allow, tun=mode == "user"
    )


def as_root(work: Path) -> dict[str, Any]:
    """What the first pod sees, what reaches it, and what is left afterwards."""
    internet = build(work)
    forwarding = Path("/proc/sys/net/ipv4/conf/up0/forwarding")
    plan = _plan("root", work)
    first, second = network.open_network(plan), network.open_network(plan)
    gateway = first.address.rsplit(".", 1)[0] + "." + str(int(first.address.rsplit(".", 1)[1]) - 1)
    with second.inside():
        serve("", 8888)
    with first.inside():
        serve("127.0.0.1", 8888)
        found: dict[str, Any] = _around()
        found["gateway"] = look(gateway, 9999)
        found["neighbour"] = look(second.address, 8888)
        found["honest datagram"] = send(first.address, "198.51.100.7")
        with Netlink() as netlink:
            netlink.add_address("eth0", second.address, 32)
            netlink.add_address("eth0", "198.51.100.99", 32)
        found["senders as the pod hears"] = senders()
        found["forged datagrams"] = [send(forged, "198.51.100.7") for forged in (second.address, "198.51.100.99")]
    found["senders"] = senders()
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    found["from the host"] = look(second.address, 8888)
    with first.connect(8888) as connection:
        found["by the shim"] = connection.recv(100).decode()
    linux.setns(internet, linux.CLONE_NEWNET)
    found["from outside"] = look(second.address, 8888)
    linux.setns(host, linux.CLONE_NEWNET)
    found["forwarding"] = [
        Path("/proc/sys/net/ipv4/ip_forward").read_text().strip(), forwarding.read_text().strip(),
    ]  # fmt: skip
    rules = subprocess.run([*plan.tools.nft, "list", "tables"], capture_output=True, text=True, check=True).stdout
    found["one table"] = rules.count("table inet neuropod_")
    network.uninstall(plan)  # refused: two pods are there
    with first.inside():
        found["internet after an early uninstall"] = look("198.51.100.7", 80, seconds=_SURELY)
        found["host after an early uninstall"] = look("192.0.2.2", 9999)
    # A firewall that is loaded anew.
    subprocess.run([*plan.tools.nft, "flush", "ruleset"], check=True)
    first.keep(Loop())
    with first.inside():
        found["internet after a flush"] = look("198.51.100.7", 80, seconds=_SURELY)
        found["host after a flush"] = look("192.0.2.2", 9999)
    first.close()
    second.close()
    second.close()
    network.uninstall(plan)
    found["links left"] = _links()
    rules = subprocess.run([*plan.tools.nft, "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    found["rules left"] = rules
    found["forwarding left"] = forwarding.read_text().strip()
    return found


def with_exceptions(work: Path) -> dict[str, Any]:
    """A private machine that is allowed, and beside it an installation that does not allow it."""
    build(work)
    allowing, strict = _plan("root", work, allow=("10.77.0.0/24",)), _plan("root", work, installation="inst_other")
    first, second = network.open_network(allowing), network.open_network(strict)
    with first.inside():
        found: dict[str, Any] = {"allowing": _around()}
        found["the other installation's pod"] = look(second.address, 8888)
    with second.inside():
        found["strict"] = _around()
    first.close()
    second.close()
    network.uninstall(allowing)
    network.uninstall(strict)
    return found


def crashed(work: Path) -> dict[str, Any]:
    """A shim that is killed leaves nothing that the next one, or a sweep, does not take away."""
    build(work)
    plan = _plan("root", work)
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)

    def child(ready: Callable[[], None]) -> None:
        pod = network.open_network(plan)
        with pod.inside():
            left = subprocess.Popen(["sleep", "1000"])  # it keeps the namespace although the shim is gone
        (work / "left").write_text(str(left.pid))
        ready()
        signal.pause()

    found: dict[str, Any] = {}
    for way in ("sweep", "next"):
        pid = until_ready(child)
        found[f"{way}: while it lives"] = network.sweep(plan)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found[f"{way}: left by the dead"] = _links()
        if way == "sweep":
            found["swept"] = [network.sweep(plan), network.sweep(plan)]
        else:
            pod = network.open_network(plan)
            with pod.inside():
                found["next reaches the internet"] = look("198.51.100.7", 80, seconds=_SURELY)
            pod.close()
        found[f"{way}: left at last"] = _links()
        os.kill(int((work / "left").read_text()), signal.SIGKILL)
    return found


def _links() -> int:
    with Netlink() as netlink:
        return len(netlink.links().keys() - {"lo", "up0"})


def keeper_crashed(work: Path) -> dict[str, Any]:
    """Of a user's shim that is killed no process is left, and of a keeper that is killed a sweep leaves none."""
    build(work)
    plan = _plan("user", work)
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)

    def child(ready: Callable[[], None]) -> None:
        opened = network.open_network(plan)  # held: with it goes its end of the keeper's socket, and so the keeper
        ready()
        signal.pause()
        opened.close()

    found: dict[str, Any] = {}
    for who in ("shim", "both"):
        pid = until_ready(child)
        (note,) = slots.held(work / "run")
        keeper, pasta = (ProcessId(*each) for each in note["processes"])
        found[f"{who}: both run"] = keeper.alive and pasta.alive
        if who == "both":
            os.kill(keeper.pid, signal.SIGKILL)
            _wait_for(lambda: not keeper.alive)  # noqa: B023 - called in this round alone
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if who == "both":
            found["swept"] = network.sweep(plan)
        found[f"{who}: left"] = not _wait_for(lambda: not keeper.alive and not pasta.alive)  # noqa: B023
    return found


def _wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def _run_until(loop: Loop, condition: Callable[[], bool]) -> float:
    """Let the shim's loop run until then; return how long that took."""
    begun = time.monotonic()

    def look_again() -> None:
        if condition() or time.monotonic() - begun > 20:
            loop.stop()
        else:
            loop.call_later(0.01, look_again)

    look_again()
    loop.run()
    assert condition()
    return time.monotonic() - begun


def noticed_as_root(work: Path) -> dict[str, Any]:
    """What others change on the host while a pod runs: its firewall, and that it forwards for them too."""
    internet = build(work)
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    linux.unshare(linux.CLONE_NEWNET)
    other = os.open("/proc/self/ns/net", os.O_RDONLY)  # a container's, whose host forwards for it when it is asked to
    linux.setns(host, linux.CLONE_NEWNET)
    with Netlink() as netlink:
        netlink.add_veth("br0", "eth0", peer_namespace=other, mtu=1500)
        netlink.set_up("br0")
        netlink.add_address("br0", "192.168.50.1", 24)
    linux.setns(other, linux.CLONE_NEWNET)
    with Netlink() as netlink:
        netlink.set_up("eth0")
        netlink.add_address("eth0", "192.168.50.2", 24)
        netlink.add_default_route("192.168.50.1")
    serve("", 80)
    linux.setns(host, linux.CLONE_NEWNET)

    def from_internet(seconds: float = 1.5) -> str:
        linux.setns(internet, linux.CLONE_NEWNET)
        try:
            return look("192.168.50.2", 80, seconds=seconds)
        finally:
            linux.setns(host, linux.CLONE_NEWNET)

    plan = _plan("root", work)
    # The server was opened again with an exception that this shim's plan does not know.
    pod = network.open_network(plan)
    _plan("root", work, allow=("10.77.0.9/32",))
    found: dict[str, Any] = {"container while only pods are forwarded for": from_internet()}
    loop = Loop()
    pod.keep(loop)

    def stands() -> bool:
        rules = subprocess.run([*plan.tools.nft, "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        return "neuropod_" in rules

    subprocess.run([*plan.tools.nft, "flush", "ruleset"], check=True)
    found["seconds until the rules are back"] = _run_until(loop, stands)
    with pod.inside():
        found["exception after that"] = look("10.77.0.9", 80, seconds=_SURELY)
        found["host after that"] = look("192.0.2.2", 9999)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _run_until(loop, lambda: from_internet() == "192.0.2.1")
    found["container when the host forwards for it"] = from_internet(_SURELY)
    with pod.inside():
        found["pod after that"] = look("192.168.50.2", 80)
    pod.close()
    network.uninstall(plan)
    found["forwarding that others switched on"] = Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()
    return found


def noticed_as_user(work: Path) -> dict[str, Any]:
    """A host that gets another address while a pod runs."""
    build(work)
    reading, writing = os.pipe()
    parent = os.getpid()
    if (pid := os.fork()) == 0:
        linux.die_with_parent(parent)
        os.read(reading, 1)
        with Netlink() as netlink:
            netlink.add_address("up0", "198.51.100.200", 32)
        os._exit(0)
    pod = network.open_network(_plan("user", work))
    loop = Loop()
    pod.keep(loop)
    found: dict[str, Any] = {"before": look("198.51.100.200", 9999)}
    os.write(writing, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    found["unnoticed"] = look("198.51.100.200", 9999, seconds=_SURELY)
    loop.call_later(1, loop.stop)
    loop.run()
    found["noticed"] = look("198.51.100.200", 9999)
    found["internet"] = look("198.51.100.7", 80, seconds=_SURELY)
    pod.close()
    return found


def as_user(work: Path) -> dict[str, Any]:
    """What a pod of an ordinary user sees, and that it cannot change that."""
    build(work)
    plan = _plan("user", work)
    pod = network.open_network(plan)
    found: dict[str, Any] = {"message": pod.message} | _around()
    serve("127.0.0.1", 8888)
    with pod.connect(8888) as connection:
        found["by the shim"] = connection.recv(100).decode()
    # As in the pod: a user namespace below.
    inner = [*plan.tools.bwrap, "--unshare-user", "--uid", "1000", "--cap-drop", "ALL", "--dev-bind", "/", "/", "--"]
    flush = subprocess.run([*inner, *plan.tools.nft, "flush", "ruleset"], capture_output=True, check=False)
    found["a pod that flushes the rules"] = flush.returncode != 0
    found["host after that"] = look("192.0.2.2", 9999)
    begun = time.monotonic()
    pod.close()
    pod.close()
    found["closed quickly"] = time.monotonic() - begun < 5
    return found


def without_tun(work: Path) -> dict[str, Any]:
    """Without a way out there is still a network of its own, and names fail at once."""
    build(work)
    plan = network.install(mode="user", installation="inst_world", run_dir=work / "run", tools=_TOOLS, tun=False)
    pod = network.open_network(plan)
    begun = time.monotonic()
    answer = asked(pod, "good.example")
    found = {"message": pod.message, "names": answer, "at once": time.monotonic() - begun < 3, **_around()}
    pod.close()
    return found


def names_as_root(work: Path) -> dict[str, Any]:
    """What a pod's questions are answered."""
    return _names(work, "root")


def names_as_user(work: Path) -> dict[str, Any]:
    """What a pod's questions are answered."""
    return _names(work, "user")


def _names(work: Path, mode: str) -> dict[str, Any]:
    build(work)
    pod = network.open_network(_plan(mode, work, allow=("10.77.0.9/32",)))
    found: dict[str, Any] = {name: asked(pod, name) for name in (*NAMES, "nothing.example")}
    found["six.example AAAA"] = asked(pod, "six.example", kind=28)
    found["mapped.example AAAA"] = asked(pod, "mapped.example", kind=28)
    found["big.example by TCP"] = asked(pod, "big.example", stream=True)
    found["metadata.example by TCP"] = asked(pod, "metadata.example", stream=True)
    pod.close()
    return found


def asked(pod: network.PodNetwork, name: str, *, kind: int = 1, stream: bool = False) -> list[Any]:
    """Ask the pod's resolver from inside; return the code and the number of answers, or the error."""
    loop = Loop()
    server = dns.serve_names(pod, loop)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0" + kind.to_bytes(2, "big") + b"\0\1"
    with pod.inside():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    client.connect(("127.0.0.53", 53))
    client.sendall(len(question).to_bytes(2, "big") + question if stream else question)
    heard: list[bytes] = []

    def hear() -> None:
        heard.append(client.recv(65536))
        loop.stop()

    loop.add_reader(client.fileno(), hear)
    loop.call_later(8, loop.stop)
    loop.run()
    server.close()
    client.close()
    if not heard:
        return ["nothing"]
    answer = heard[0][2:] if stream else heard[0]
    assert answer[:2] == b"\x12\x34"
    truncated = ["truncated"] if answer[2] & 2 else []
    return [answer[3] & 15, int.from_bytes(answer[6:8], "big"), *truncated]


def main() -> None:
    """Try one thing and print what was found."""
    ctypes.CDLL(None).umask(0o022)
    what, work = sys.argv[1], Path(sys.argv[2])
    work.mkdir(exist_ok=True)
    sys.stdout.write(json.dumps(globals()[what](work)) + "\n")


if __name__ == "__main__":
    main()
