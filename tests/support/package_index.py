"""A package index on loopback with packages made here, and programs that build environments from it.

`PackageIndex` serves the simple API; what was asked of it is in `requests`. `Builder` runs `ensure` in processes of
their own, on the system's interpreter, as root or as an ordinary user: they hold what they built until they end.
"""

import base64
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from neuropod.runtimes.local.environments.plan import (
    PIP,
    EnvironmentPlan,
    interpreter_tag,
    locked_list,
    system_interpreter,
    uv_binary,
)
from neuropod.runtimes.local.tools import find_tools
from support.programs import FETCHED, machine_tools

SOURCE = Path(__file__).parents[2] / "src" / "neuropod"
PIP_VERSION = PIP.partition("==")[2]

_RUNNER = """
import json, signal, sys, time
from neuropod.runtimes.local.environments import EnvironmentPlan, PrepareFailedError, ensure
signal.signal(signal.SIGINT, signal.default_int_handler)  # also of a job in the background, which ignores it
order = json.loads(sys.stdin.readline())
def tell(progress):
    print(json.dumps({"step": progress.step, "done": progress.done, "total": progress.total}), flush=True)
try:
    path = ensure(EnvironmentPlan.from_json(order), tell)
    print(json.dumps({"path": str(path)}), flush=True)
except PrepareFailedError as error:
    print(json.dumps({"failed": str(error)}), flush=True)
sys.stdin.readline()
"""


def wheel(name: str, version: str, files: Mapping[str, str], scripts: Mapping[str, str] | None = None) -> bytes:
    """Make a pure wheel; `scripts` are console entry points."""
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts:
        lines = "".join(f"{script} = {target}\n" for script, target in scripts.items())
        contents[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}"
    record = ""
    for path, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    return buffer.getvalue()


def metadata_of(content: bytes) -> bytes:
    """Take the METADATA out of a wheel, as an index offers it beside the file (PEP 658)."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")))


def source_package(name: str, version: str, files: Mapping[str, str]) -> bytes:
    """Make a source package (a tar.gz with PKG-INFO)."""
    buffer = io.BytesIO()
    contents = {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", **files}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in contents.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


class PackageIndex:
    """The simple API on a free loopback port. `hold()` lets downloads of files wait until `release()`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._open = threading.Event()
        self._open.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.add(wheel("pip", PIP_VERSION, {"pip/__init__.py": ""}), f"pip-{PIP_VERSION}-py3-none-any.whl")
        self.add(
            wheel("hello", "1.0", {"hello.py": "def main():\n    print('hello')\n"}, {"hello": "hello:main"}),
            "hello-1.0-py3-none-any.whl",
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/simple"

    def add(self, content: bytes, filename: str) -> None:
        self.files[filename] = content

    def downloads(self, filename: str) -> int:
        """Say how often the whole file was asked for."""
        return sum(path == f"/files/{filename}" for path in self.requests)

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(index: "PackageIndex") -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                index.requests.append(self.path)
                if match := re.fullmatch(r"/simple/([^/]+)/", self.path):
                    names = [name for name in index.files if re.split(r"-\d", name)[0].replace("_", "-") == match[1]]
                    links = "".join(
                        f'<a href="/files/{name}" data-core-metadata="{str(name.endswith(".whl")).lower()}">{name}</a>'
                        for name in names
                    )
                    self._answer(200 if names else 404, f"<html><body>{links}</body></html>".encode(), "text/html")
                    return
                if (name := self.path.removeprefix("/files/")).endswith(".metadata"):
                    self._answer(200, metadata_of(index.files[name.removesuffix(".metadata")]), "text/plain")
                    return
                index._open.wait()
                content = index.files.get(self.path.removeprefix("/files/"))
                self._answer(200 if content is not None else 404, content or b"", "application/octet-stream")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


class Building:
    """One process that runs `ensure`."""

    def __init__(self, argv: list[str], environ: dict[str, str], plan: EnvironmentPlan) -> None:
        self.said: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(plan.to_json()) + "\n")
        self.process.stdin.flush()

    def until(self, *keys: str) -> dict[str, Any]:
        """Read on until it says something with one of `keys`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))
            if any(key in self.said[-1] for key in keys):
                return self.said[-1]
        assert self.process.stderr is not None
        raise AssertionError(f"ended after {self.said}: {self.process.stderr.read()}")

    def until_step(self, step: str) -> None:
        while self.until("step", "path", "failed").get("step") != step:
            assert "step" in self.said[-1], self.said

    def result(self) -> Path:
        said = self.until("path", "failed")
        assert "path" in said, said["failed"]
        return Path(said["path"])

    def failure(self) -> str:
        said = self.until("path", "failed")
        assert "failed" in said, said
        return str(said["failed"])

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Builder:
    """Builds in one mode, in a folder of its own that the mode's user owns."""

    def __init__(self, mode: str, index: PackageIndex) -> None:
        self.mode = mode
        self.index = index
        self.folder = Path(tempfile.mkdtemp(prefix="npenv"))
        self.uid = os.geteuid()
        self._processes: list[Building] = []
        self._uv = uv_binary()
        source = self.folder / "source"
        # A user has to be able to read what root's own checkout may hide from them.
        shutil.copytree(SOURCE / "runtimes" / "local", source / "neuropod" / "runtimes" / "local")
        for name in ("__init__.py", "runtimes/__init__.py"):
            shutil.copy(SOURCE / name, source / "neuropod" / name)
        self._bwrap = machine_tools().bwrap
        if mode == "user" and self.uid == 0:
            self.uid = 0x60000000 + secrets.randbelow(0x1000000)
            self.folder.chmod(0o755)
            # What lies below somebody's closed home is out of this user's reach.
            self._uv = Path(shutil.copy(self._uv, self.folder / "uv"))
            if FETCHED.is_dir():
                shutil.copytree(FETCHED, self.folder / "programs")
            self._bwrap = find_tools(self.folder / "programs").bwrap
        (self.folder / "data").mkdir()
        os.chown(self.folder / "data", self.uid, self.uid)

    def plan(self, *packages: str, scope: str = "shared", **fields: Any) -> EnvironmentPlan:
        interpreter = system_interpreter()
        values: dict[str, Any] = {
            "packages": locked_list(packages or ("hello==1.0",)),
            "scope": scope,
            "cache_dir": str(self.folder / "data" / "cache"),
            "mode": self.mode,
            "uv": str(self._uv),
            "interpreter": str(interpreter),
            "interpreter_tag": interpreter_tag(interpreter),
            "index_url": self.index.url,
            "bwrap": () if self.mode == "none" else self._bwrap,
            "timeout_seconds": 60,
        }
        return EnvironmentPlan(**{**values, **fields})

    def start(self, plan: EnvironmentPlan, **environ: str) -> Building:
        argv = [str(system_interpreter()), "-c", _RUNNER]
        if self.uid != os.geteuid():
            argv = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", *argv]
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.folder / "source"), **environ}
        self._processes.append(Building(argv, variables, plan))
        return self._processes[-1]

    def build(self, plan: EnvironmentPlan) -> Path:
        return self.start(plan).result()

    def cache(self, *parts: str) -> Path:
        return self.folder / "data" / "cache" / Path(*parts)

    def inside(self, environment: Path, *argv: str, venv: Path | None = None) -> str:
        """Run a command that sees the environment where a pod would see it, and return its output."""
        if self.mode == "none":
            command = list(argv)
        else:
            command = [
                *self._bwrap, "--dev-bind", "/", "/", "--tmpfs", "/opt",
                "--ro-bind", str(environment), "/opt/neuropod/env",
                *(("--bind", str(venv), "/opt/neuropod/venv") if venv else ()), "--", *argv,
            ]  # fmt: skip
        done = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        for process in self._processes:
            process.end()
        shutil.rmtree(self.folder)


def modes() -> list[str]:
    """Which modes this machine and user can build in."""
    if sys.platform != "linux" or not machine_tools().bwrap:
        return ["none"]
    return ["root", "user", "none"] if os.geteuid() == 0 else ["user", "none"]
