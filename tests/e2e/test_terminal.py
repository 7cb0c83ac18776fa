"""`pod exec` into real pods of this machine: archives through pipes, by way of a gateway, and past a slow reader."""

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.servers import ADMIN_KEY, Server, gateway_of

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def pod(server: Server) -> Iterator[str]:
    server.create("lab", template="python-web")
    server.wait_for_status("lab", "running")
    yield "lab"
    server.api.delete("/pods/lab")


def run(server: Server, *words: str, given: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        server.command("pod", "exec", *words),
        env=server.env | env,
        cwd=server.data_dir.parent,
        input=given,
        capture_output=True,
        timeout=60,
    )


def archive(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def test_a_folder_goes_in_and_comes_back_by_tar(server: Server, pod: str):
    files = {"a/one": os.urandom(3 << 20), "a/two": bytes(range(256))}

    sent = run(server, pod, "--", "tar", "x", given=archive(files))
    counted = run(server, pod, "--", "sh", "-c", "find a -type f | wc -l; pwd; test $(id -u) -ge 200000")
    back = run(server, pod, "--", "tar", "c", "a")

    assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
    assert (counted.returncode, counted.stdout) == (0, b"2\n/workspace\n")
    with tarfile.open(fileobj=io.BytesIO(back.stdout)) as tar:
        found = {name: entry.read() for name in files if (entry := tar.extractfile(name)) is not None}
    assert found == files


def test_it_works_by_way_of_a_gateway_of_its_own(server: Server, pod: str):
    with gateway_of(server) as url:
        port = url.rpartition(":")[2]
        done = run(
            server,
            pod,
            "--",
            "cat",
            given=b"through the gateway\n",
            NEUROPOD_URL=f"http://api.neuropod.localhost:{port}",
            NEUROPOD_API_KEY=ADMIN_KEY,
        )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"through the gateway\n", b"")


def test_a_gigabyte_for_a_slow_reader_costs_the_server_little_memory(server: Server, pod: str):
    assert server.process is not None
    memory = Path(f"/proc/{server.process.pid}/status")
    run(server, pod, "--", "true")
    before = _resident_bytes(memory)

    words = server.command("pod", "exec", "-n", pod, "--", "head", "-c", "1000000000", "/dev/zero")
    with subprocess.Popen(words, env=server.env, cwd=server.data_dir.parent, stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        read, most, deadline = 0, before, time.monotonic() + 3
        while time.monotonic() < deadline:
            read += len(command.stdout.read(10_000))
            most = max(most, _resident_bytes(memory))
            time.sleep(0.02)
        command.terminate()

    assert read > 0
    assert most - before < 8 << 20


def _resident_bytes(status: Path) -> int:
    facts: dict[str, Any] = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(facts["VmRSS"].split()[0]) << 10
