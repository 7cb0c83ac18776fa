"""A real server process on a data directory of its own, and a client for it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from support.ports import free_port
from support.programs import lay_ready

ADMIN_KEY = "tests-preset-administrator-key-0123456789"
ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """Return the first true answer of `look`, asked every 50 ms."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := look():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)


class Server:
    """`neuropod up` as a process: started, stopped, killed and started again on the same data and the same port."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.with_name(data_dir.name + ".log")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("NEUROPOD_")} | {
            "HOME": str(data_dir.parent),
            "XDG_CONFIG_HOME": str(data_dir.parent / "config"),
            "NEUROPOD_CONFIG": str(data_dir.parent / "neuropod.toml"),
            "NEUROPOD_DATA_DIR": str(data_dir),
            "NEUROPOD_PORT": str(self.port),
            "NEUROPOD_ADMIN_API_KEY": ADMIN_KEY,
            **{f"NEUROPOD_{name.upper()}": value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.api = httpx.Client(
            base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30
        )

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "neuropod", *words]

    def start(self) -> None:
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start its process, and wait for nothing."""
        lay_ready(self.data_dir)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("up"),
                env=self.env,
                cwd=self.data_dir.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_ready(self) -> None:
        wait_for(self._is_ready, "the server to be ready")

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended:\n{self.log.read_text()[-4000:]}")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End it as a power cut would: no handler runs."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def run(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command of ours, as in another terminal."""
        return subprocess.run(
            self.command(*words),
            env=self.env,
            cwd=self.data_dir.parent,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    # ---- the API, in the words of the tests

    def create(self, name: str, **values: Any) -> dict[str, Any]:
        answer = self.api.post("/pods", json={"name": name, **values})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def pod(self, name: str) -> dict[str, Any]:
        answer = self.api.get(f"/pods/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def verb(self, name: str, verb: str) -> None:
        answer = self.api.post(f"/pods/{name}/{verb}")
        assert answer.is_success, answer.text

    def wait_for_status(self, name: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
        last: dict[str, Any] = {}

        def look() -> dict[str, Any] | None:
            last.update(self.pod(name))
            if last["status"] in {"failed"} - set(statuses):
                raise AssertionError(f"{name} failed: {last['reason']}: {last['message']}")
            return last if last["status"] in statuses else None

        try:
            return wait_for(look, f"{name} to be {statuses}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last.get('status')}: {last.get('message')}") from error

    def visit(self, pod: dict[str, Any], port: int) -> tuple[str, dict[str, str]]:
        """Return URL and headers with which a program reaches a port, without asking a resolver for the host."""
        (host,) = [entry["host"] for entry in pod["ports"] if entry["port"] == port]
        return self.url, {"Host": f"{host}:{self.port}", "X-Neuropod-Key": ADMIN_KEY}


@contextmanager
def running_server(data_dir: Path, **settings: str) -> Iterator[Server]:
    """Start a server; at the end everything it made is gone, also after a failure."""
    server = Server(data_dir, **settings)
    try:
        server.start()
        yield server
    finally:
        server.api.close()
        if server.process is not None:
            if server.process.poll() is None:
                server.process.kill()
            server.process.wait()
        server.run("down", "--stop-pods")


@contextmanager
def gateway_of(server: Server) -> Iterator[str]:
    """Run `neuropod gateway` beside a server, and give its address."""
    port = free_port()
    with server.log.open("ab") as log:
        process = subprocess.Popen(
            server.command("gateway", "--listen", f"127.0.0.1:{port}"),
            env=server.env,
            cwd=server.data_dir.parent,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"

    def serves() -> bool:
        assert process.poll() is None, server.log.read_text()[-4000:]
        try:
            return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(serves, "the gateway to serve")
        yield url
    finally:
        process.terminate()
        process.wait(30)
