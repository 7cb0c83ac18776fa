"""A host of its own for tests of the network: what it says about "the internet" touches no real network.

A test runs its coroutine function in a child with network and mount namespaces of its own: that is the *host*. Beside
it stands the *world*, one namespace that owns every address the host has a route to:

    host  198.51.100.1, 10.77.0.1, 2001:db8::1 ── eth0 ──┐
                                                         ├── world  all of WORLD, a name server at 198.51.100.53,
    host  192.168.99.1 ── lan0 ── a machine behind it    │          who answers each visitor with the visitor's address

So what a pod cannot reach is kept from it by the filter: the host reaches it.
"""

import asyncio
import importlib
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

_ROOT = Path(__file__).parents[3]
HOST, HOST_PRIVATE, HOST_6 = "198.51.100.1", "10.77.0.1", "2001:db8::1"
INTERNET, NAMES, NAS, METADATA = "203.0.113.10", "198.51.100.53", "10.77.0.5", "169.254.169.254"
# One of each refused range, and what else a pod must not reach.
PRIVATE = (NAS, "10.200.0.1", "100.64.7.7", METADATA, "172.16.9.9", "172.31.9.9", "192.168.7.7", "192.168.99.2")
WORLD = (INTERNET, NAMES, "198.51.100.2", "203.0.113.11", *(each for each in PRIVATE if each != "192.168.99.2"))
WORLD_6 = ("2001:db8::2", "fd00::7")
BEHIND = "192.168.99.2"  # the machine behind the host's other interface
PORT = 80
ADDRESSES_OF = {
    "good.test": (INTERNET,),
    "nas.test": (NAS,),
    "metadata.test": (METADATA,),
    "loopback.test": ("127.0.0.1",),
    "mixed.test": (INTERNET, "192.168.7.7"),
    "many.test": tuple(f"203.0.113.{number}" for number in range(1, 101)),
}


def in_lab(tmp_path: Path, module: str, function: str, *, folder: str = "runtimes.local", seconds: float = 90) -> None:
    """Run the coroutine function `function(work_dir)` of a test module on a host of its own; its failure is ours."""
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            sys.executable,
            "-m",
            "runtimes.local.lab",
            f"{folder}.{module}",
            function,
            tmp_path,
        ],
        env=os.environ | {"PYTHONPATH": f"{_ROOT}/src:{_ROOT}/tests", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"in the lab:\n{done.stdout}\n{done.stderr}"


def ip(*arguments: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *arguments], check=True, stdin=subprocess.DEVNULL)


def _private_mounts(work: Path) -> None:
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if (at := line.split()[1]).endswith(".at"):  # a copy keeps the disk of a test beside this one in use
            subprocess.run(["umount", "--lazy", at], check=False)
    Path("/run/neuropod").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/neuropod"], check=True)
    names = work / "resolv.conf"
    names.write_text(f"nameserver {NAMES}\n")
    subprocess.run(["mount", "--bind", names, "/etc/resolv.conf"], check=True)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _begin_world(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a process of this module in a network namespace of its own; it says a line when it is there."""
    process = subprocess.Popen(
        ["unshare", "--net", sys.executable, "-m", "runtimes.local.lab", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    return process


def _tell(process: subprocess.Popen[bytes]) -> None:
    """Say that its links are there, and wait until it serves."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"serving\n"


def _connect(world: int, behind: int) -> None:
    ip("link", "set", "lo", "up")
    for link, peer, address in (("eth0", world, f"{HOST}/24"), ("lan0", behind, "192.168.99.1/24")):
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(peer))
        ip("addr", "add", address, "dev", link)
        ip("link", "set", link, "up")
    ip("addr", "add", f"{HOST_PRIVATE}/24", "dev", "eth0")
    ip("addr", "add", f"{HOST_6}/64", "dev", "eth0", "nodad")


def _serve_world() -> None:
    """Own every address, and answer on all of them until the host is gone."""
    _say("here")
    sys.stdin.readline()
    ip("link", "set", "lo", "up")
    ip("link", "set", "eth0", "up")
    for address in WORLD:
        near = "24" if address.startswith(("198.51.100.", "10.77.0.")) else "32"
        ip("addr", "add", f"{address}/{near}", "dev", "eth0")
    for address in WORLD_6:
        ip("addr", "add", f"{address}/64", "dev", "eth0", "nodad")
    ip("route", "add", "192.168.99.0/24", "via", HOST)
    ip("route", "add", "10.213.0.0/16", "via", HOST)  # so that nothing of a pod's is lost on the way back
    _serve((*WORLD, *WORLD_6), names=True)


def _serve_behind() -> None:
    _say("here")
    sys.stdin.readline()
    ip("link", "set", "lo", "up")
    ip("link", "set", "eth0", "up")
    ip("addr", "add", f"{BEHIND}/24", "dev", "eth0")
    ip("route", "add", "default", "via", "192.168.99.1")
    _serve((BEHIND,), names=False)


def _serve(addresses: tuple[str, ...], *, names: bool) -> None:
    """Answer over TCP and UDP with the visitor's address; a line `<host> <port>` is an order to visit that."""
    serve_address(socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True))
    for address in addresses:  # one socket each: an answer must come from where the question went
        threading.Thread(target=_echo, args=(address,), daemon=True).start()
    if names:
        _serve_names()
    _say("serving")
    for line in sys.stdin:
        host, port = line.split()
        try:
            with socket.create_connection((host, int(port)), timeout=1) as connection:
                _say(connection.recv(100).decode() or "closed")
        except OSError as error:
            _say(type(error).__name__)


def _echo(address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind((address, PORT))
        while True:
            _, visitor = datagrams.recvfrom(2000)
            datagrams.sendto(visitor[0].encode(), visitor)


def serve_address(listener: socket.socket) -> None:
    """Tell each visitor who he is, in a thread."""

    def serve() -> None:
        while True:
            connection, visitor = listener.accept()
            with connection:
                connection.sendall(visitor[0].removeprefix("::ffff:").encode())

    threading.Thread(target=serve, daemon=True).start()


def _serve_names() -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((NAMES, 53))
    listener = socket.create_server((NAMES, 53))

    def by_datagram() -> None:
        while True:
            question, asker = datagrams.recvfrom(4000)
            answer = name_answer(question)
            if len(answer) > 512:
                answer = name_answer(question, truncated=True)
            datagrams.sendto(answer, asker)

    def by_stream() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                length = int.from_bytes(connection.recv(2, socket.MSG_WAITALL))
                answer = name_answer(connection.recv(length, socket.MSG_WAITALL))
                connection.sendall(len(answer).to_bytes(2) + answer)

    for serve in (by_datagram, by_stream):
        threading.Thread(target=serve, daemon=True).start()


def name_answer(question: bytes, *, truncated: bool = False) -> bytes:
    """Answer a question for A records out of ADDRESSES_OF, with NXDOMAIN for what is not there."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    (kind,) = struct.unpack_from("!H", question, at + 1)
    known = ADDRESSES_OF.get(".".join(labels).lower())
    addresses = () if known is None or kind != 1 or truncated else known
    flags = 0x8180 | (0x0200 if truncated else 0) | (3 if known is None else 0)
    records = b"".join(struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(each) for each in addresses)
    return question[:2] + struct.pack("!HHHHH", flags, 1, len(addresses), 0, 0) + question[12 : at + 5] + records


class Lab:
    """The namespaces around the host, as its test sees them."""

    def __init__(self, world: subprocess.Popen[bytes]) -> None:
        self._world = world

    def from_world(self, host: str, port: int = PORT) -> str:
        """Connect from the world, and return what it heard: the address that it had, or the name of the error."""
        assert self._world.stdin is not None
        assert self._world.stdout is not None
        self._world.stdin.write(f"{host} {port}\n".encode())
        self._world.stdin.flush()
        return self._world.stdout.readline().decode().strip()

    def in_world(self, *arguments: str) -> None:
        """Run `ip` in the world."""
        subprocess.run(["nsenter", f"--net=/proc/{self._world.pid}/ns/net", "ip", *arguments], check=True)


_LABS: list[Lab] = []  # one, in a process that runs in a lab


def the_lab() -> Lab:
    """Return the lab that this process runs in."""
    return _LABS[0]


def main() -> None:
    """Be one of the namespaces' processes."""
    if sys.argv[1] == "world":
        _serve_world()
        return
    if sys.argv[1] == "behind":
        _serve_behind()
        return
    module, function, work = sys.argv[1:]
    base = Path(work) / "lab"
    base.mkdir()
    _private_mounts(base)
    world, behind = _begin_world(["world"]), _begin_world(["behind"])
    try:
        _connect(world.pid, behind.pid)
        _tell(world)
        _tell(behind)
        ip("route", "add", "default", "via", "198.51.100.2")
        ip("-6", "route", "add", "default", "via", "2001:db8::2")
        # Under its real name, since the test's module imports it by that.
        importlib.import_module("runtimes.local.lab")._LABS.append(Lab(world))
        asyncio.run(getattr(importlib.import_module(module), function)(Path(work)))
    finally:
        for process in (world, behind):
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


if __name__ == "__main__":
    main()
