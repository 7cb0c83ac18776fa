"""SECURITY 6: a pod reaches the internet and nothing of the host's, of its neighbours', of private networks."""

import json
import socket
from pathlib import Path

import pytest

from neuropod.runtimes.contract import Phase, Seen, Workload
from neuropod.runtimes.local.runtime import LocalRuntime
from runtimes.local import lab
from runtimes.local.as_user import run_as_user
from runtimes.local.pods import opened, output_of, printed, python, until

pytestmark = pytest.mark.root

MODULE = "test_06_egress"
API, POSTGRES = 18_080, 5432

# Each target is tried over TCP and over UDP; what is answered, or the name of the error, is printed as JSON. What has
# to answer gets longer than what must not.
TRY = """
import json, socket
from concurrent.futures import ThreadPoolExecutor
def tcp(host, port):
    try:
        with socket.create_connection((host, port), timeout={seconds}) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return type(error).__name__
def udp(host, port):
    try:
        with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout({seconds} / 4); asking.connect((host, port)); asking.send(b'?')
            return asking.recv(100).decode()
    except OSError as error:
        return type(error).__name__
with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(lambda at: [*at, tcp(*at), udp(*at)], {targets!r}))))
"""
SERVE = """
import socket
listener = socket.create_server(('', 8888))
while True:
    connection, _ = listener.accept()
    connection.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nneighbour'); connection.shutdown(socket.SHUT_WR)
    connection.settimeout(1)
    try:
        while connection.recv(1000): pass
    except OSError: pass
    connection.close()
"""


async def tried(runtime: LocalRuntime, targets: list[tuple[str, int]], seconds: int = 2) -> dict[str, set[str]]:
    """Run a pod that tries the targets; returns for each what TCP and UDP came to."""
    (line,) = await printed(runtime, python(TRY.format(targets=targets, seconds=seconds)))
    return {f"{host} {port}": {by_tcp, by_udp} for host, port, by_tcp, by_udp in json.loads(line)}


def answered(results: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return what got an answer, which looks like an address or a word and not like an error."""
    heard = {place: {each for each in words if not each.endswith("Error")} for place, words in results.items()}
    return {place: words for place, words in heard.items() if words}


async def neighbour(runtime: LocalRuntime) -> tuple[Workload, Seen]:
    """Start a pod that listens on all its addresses."""
    workload = python(SERVE, port=8888, owner="usr_neighbour")
    await runtime.ensure(workload)
    return workload, await until(runtime, workload.id, Phase.READY)


def host_listeners() -> list[socket.socket]:
    """Listen on the host as the API, PostgreSQL and others do, on every address and on loopback."""
    listeners = [
        socket.create_server(("::", API), family=socket.AF_INET6, dualstack_ipv6=True),
        socket.create_server(("::", POSTGRES), family=socket.AF_INET6, dualstack_ipv6=True),
        socket.create_server(("127.0.0.1", API + 1)),
    ]
    for listener in listeners:
        lab.serve_address(listener)
    return listeners


async def check(tmp_path: Path, mode: str) -> None:
    """Try everything from a pod beside a neighbour; the caller is the host in the lab."""
    listeners = host_listeners()
    host_addresses = [lab.HOST, lab.HOST_PRIVATE, lab.HOST_6, "127.0.0.1", "::1", "0.0.0.0"]
    host = [(address, port) for address in host_addresses for port in (API, POSTGRES, API + 1)]
    elsewhere = [(address, lab.PORT) for address in (*lab.PRIVATE, *lab.WORLD_6)]
    multicast = [("224.0.0.1", lab.PORT), ("255.255.255.255", lab.PORT)]
    # The host reaches all of it: what keeps a pod from it is the filter.
    for address, port in [(lab.HOST, API), (lab.HOST_6, API), ("127.0.0.1", API + 1), *elsewhere]:
        with socket.create_connection((address, port), timeout=2) as connection:
            assert connection.recv(100)

    async with opened(tmp_path / "data", mode=mode) as runtime:
        beside, seen = await neighbour(runtime)
        assert seen.address is not None
        theirs = [(seen.address, 8888)] if mode == "root" else []
        # The neighbour's end of the wire on the host, and its own: a pod may guess both.
        near = [(str(address), port) for address in around(seen.address) for port in (API, 8888)]
        results = await tried(runtime, [*host, *elsewhere, *multicast, *theirs, *near])
        internet = await tried(runtime, [(lab.INTERNET, lab.PORT), ("203.0.113.11", lab.PORT)], seconds=20)
        running = await runtime.observe(beside.id)

        assert answered(results) == {}, results
        # NAT: the world sees the host.
        assert internet == {f"{lab.INTERNET} 80": {lab.HOST}, "203.0.113.11 80": {lab.HOST}}, internet
        assert running is not None
        assert running.phase is Phase.READY
        for listener in listeners:
            listener.close()


def around(address: str) -> list[str]:
    """Return the addresses beside one."""
    head, _, last = address.rpartition(".")
    return [f"{head}.{number}" for number in range(max(1, int(last) - 3), int(last) + 4)]


async def as_root(tmp_path: Path) -> None:
    await check(tmp_path, "root")


async def as_user(tmp_path: Path) -> None:
    await check(tmp_path, "user")


async def as_user_in_lab(tmp_path: Path) -> None:
    run_as_user(tmp_path, MODULE, "as_user", seconds=80)


@pytest.mark.parametrize("function", ["as_root", "as_user_in_lab"])
def test_a_pod_reaches_the_internet_and_nothing_private(tmp_path: Path, function: str):
    lab.in_lab(tmp_path, MODULE, function, folder="security", seconds=110)


async def check_exceptions(tmp_path: Path, mode: str) -> None:
    """What the settings allow is reached, and nothing beside it; the host not at all, though the network holds it."""
    listeners = host_listeners()
    async with opened(tmp_path / "data", mode=mode, egress_allow=("10.77.0.0/24",)) as runtime:
        targets = [(lab.NAS, lab.PORT), ("10.200.0.1", lab.PORT), (lab.HOST_PRIVATE, API), (lab.METADATA, lab.PORT)]
        results = await tried(runtime, targets)

        assert answered(results) == {f"{lab.NAS} 80": {lab.HOST_PRIVATE}}, results
        for listener in listeners:
            listener.close()


async def exceptions_as_root(tmp_path: Path) -> None:
    await check_exceptions(tmp_path, "root")


async def exceptions_as_user(tmp_path: Path) -> None:
    await check_exceptions(tmp_path, "user")


async def exceptions_as_user_in_lab(tmp_path: Path) -> None:
    run_as_user(tmp_path, MODULE, "exceptions_as_user", seconds=80)


@pytest.mark.parametrize("function", ["exceptions_as_root", "exceptions_as_user_in_lab"])
def test_only_what_the_settings_except_is_reached(tmp_path: Path, function: str):
    lab.in_lab(tmp_path, MODULE, function, folder="security", seconds=110)


# The host's own programs lie in a pod's sight; nothing that they may do there moves the filter.
MEDDLE = """
import ctypes, os, socket, subprocess
for command in (['nft', 'flush', 'ruleset'], ['nft', 'delete', 'table', 'inet', 'neuropod'], ['ip', 'link', 'del', 'eth0'],
                ['ip', 'addr', 'add', '10.77.0.9/24', 'dev', 'eth0'], ['ip', 'route', 'del', 'default'],
                ['ip', 'link', 'add', 'dummy9', 'type', 'dummy']):
    try:
        done = subprocess.run(command, env={'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'}, capture_output=True)
        print(command[1], done.returncode != 0)
    except OSError:
        print(command[1], True)
for kind, number in ((socket.SOCK_RAW, 1), (socket.SOCK_RAW, 255)):
    try:
        socket.socket(socket.AF_INET, kind, number); print('raw', False)
    except OSError:
        print('raw', True)
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3); print('packet', False)
except OSError:
    print('packet', True)
"""


async def check_meddling(tmp_path: Path, mode: str) -> None:
    async with opened(tmp_path / "data", mode=mode) as runtime:
        lines = await printed(runtime, python(MEDDLE))
        workload = python(MEDDLE + TRY.format(targets=[(lab.NAS, lab.PORT)], seconds=2))
        after = await printed(runtime, workload)

        assert len(lines) == 9
        assert {line.split()[1] for line in lines} == {"True"}
        assert answered({"nas": set(json.loads(after[-1])[0][2:])}) == {}
        assert await output_of(runtime, workload) == after


async def meddling_as_root(tmp_path: Path) -> None:
    await check_meddling(tmp_path, "root")


async def meddling_as_user(tmp_path: Path) -> None:
    await check_meddling(tmp_path, "user")


async def meddling_as_user_in_lab(tmp_path: Path) -> None:
    run_as_user(tmp_path, MODULE, "meddling_as_user", seconds=80)


@pytest.mark.parametrize("function", ["meddling_as_root", "meddling_as_user_in_lab"])
def test_a_pod_cannot_move_its_own_filter(tmp_path: Path, function: str):
    lab.in_lab(tmp_path, MODULE, function, folder="security", seconds=110)


# Answers of the host's resolver that lead into private networks (DNS rebinding).
RESOLVE = """
import json, socket
def resolve(name):
    try:
        return sorted({entry[4][0] for entry in socket.getaddrinfo(name, 80, socket.AF_INET)})
    except OSError as error:
        return type(error).__name__
print(json.dumps({name: resolve(name) for name in %r}))
"""


async def check_names(tmp_path: Path, mode: str) -> None:
    names = [*lab.ADDRESSES_OF, "nothing.test"]
    async with opened(tmp_path / "data", mode=mode) as runtime:
        (line,) = await printed(runtime, python(RESOLVE % names))

        results = json.loads(line)
        refused = {name for name, result in results.items() if result == "gaierror"}
        assert refused == {"nas.test", "metadata.test", "loopback.test", "mixed.test", "nothing.test"}
        assert results["good.test"] == [lab.INTERNET]
        assert len(results["many.test"]) == 100  # more than a datagram holds


async def names_as_root(tmp_path: Path) -> None:
    await check_names(tmp_path, "root")


async def names_as_user(tmp_path: Path) -> None:
    await check_names(tmp_path, "user")


async def names_as_user_in_lab(tmp_path: Path) -> None:
    run_as_user(tmp_path, MODULE, "names_as_user", seconds=80)


@pytest.mark.parametrize("function", ["names_as_root", "names_as_user_in_lab"])
def test_names_are_resolved_and_none_leads_into_a_private_network(tmp_path: Path, function: str):
    lab.in_lab(tmp_path, MODULE, function, folder="security", seconds=110)
