"""SECURITY 7: a pod's ports are its own, as root and as an ordinary user: no shared loopback, no shared sockets."""

import asyncio
import socket
from pathlib import Path

import pytest

from neuropod.runtimes.contract import Capability, Phase, Workload
from neuropod.runtimes.local.runtime import LocalRuntime
from runtimes.local.as_user import run_as_user
from runtimes.local.pods import a_workload, opened, printed, python, until

pytestmark = pytest.mark.root

SERVE = """
import socket, threading
def serve(listener):
    while True:
        connection, _ = listener.accept()
        connection.recv(100)
        connection.sendall(b'{name}'); connection.close()
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0neuropod-test-{port}'); abstract.listen()
threading.Thread(target=serve, args=(abstract,), daemon=True).start()
listener = socket.create_server(('', {port})); serve(listener)
"""
ASK = """
import socket
def ask(family, address):
    try:
        with socket.socket(family) as connection:
            connection.settimeout(3)
            connection.connect(address); connection.sendall(b'x'); return connection.recv(10)
    except OSError as error:
        return type(error).__name__
print(ask(socket.AF_INET, ('127.0.0.1', {port})), ask(socket.AF_UNIX, '\\0neuropod-test-{port}'),
      ask(socket.AF_INET, ('127.0.0.1', {host_port})), ask(socket.AF_UNIX, '\\0neuropod-test-host-{host_port}'))
"""


async def answer(runtime: LocalRuntime, workload: Workload, port: int) -> bytes:
    """Return what the pod answers at its port."""
    connection = await runtime.connect(workload.id, port)
    reader = asyncio.StreamReader()
    transport = await connection.attach(asyncio.StreamReaderProtocol(reader))
    transport.write(b"x")
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        transport.close()


async def check(tmp_path: Path, mode: str) -> None:
    """Two pods serve on one port, a third looks for them and for the host's own listeners."""
    with socket.create_server(("127.0.0.1", 0)) as host, socket.socket(socket.AF_UNIX) as host_abstract:
        host_port = host.getsockname()[1]
        port = host_port + 1 if host_port < 65_000 else host_port - 1
        host_abstract.bind(f"\0neuropod-test-host-{host_port}")
        host_abstract.listen()
        async with opened(tmp_path / "data", mode=mode) as runtime:
            assert Capability.TENANT_ISOLATION in runtime.capabilities
            first, second = (python(SERVE.format(name=name, port=port), owner=name) for name in ("one", "two"))
            for workload in (first, second):
                await runtime.ensure(workload)
                await until(runtime, workload.id, Phase.READY)
            async with asyncio.timeout(10):
                for workload in (first, second):
                    while True:
                        try:
                            await answer(runtime, workload, port)
                            break
                        except Exception:
                            await asyncio.sleep(0.02)

            answers = [await answer(runtime, workload, port) for workload in (first, second, first)]
            (seen,) = await printed(runtime, python(ASK.format(port=port, host_port=host_port), owner="three"))
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", port), timeout=3)

            assert answers == [b"one", b"two", b"one"]
            assert seen == "ConnectionRefusedError " * 3 + "ConnectionRefusedError"
            # A stranger's processes are not there either.
            look = "import os; print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit()))"
            assert await printed(runtime, a_workload("python3", "-c", look)) == ["[1, 2]"]


async def test_as_root(tmp_path: Path):
    await check(tmp_path, "root")


async def user_mode(tmp_path: Path) -> None:
    await check(tmp_path, "user")


def test_as_an_ordinary_user(tmp_path: Path):
    run_as_user(tmp_path, "test_07_ports_without_root", "user_mode")


async def without_isolation(tmp_path: Path) -> None:
    """Without namespaces pods still run, and nobody claims that strangers are kept apart."""
    async with opened(tmp_path / "data", mode="none") as runtime:
        assert Capability.TENANT_ISOLATION not in runtime.capabilities
        report = await runtime.report()
        assert report.mode == "none"
        held = {each.name for each in report.guarantees if each.holds}
        assert held.isdisjoint({"files", "processes", "ports", "egress"})
        assert await printed(runtime, python("print('ran')")) == ["ran"]


def test_a_machine_without_isolation_says_so(tmp_path: Path):
    run_as_user(tmp_path, "test_07_ports_without_root", "without_isolation")
