"""The local runtime, as root, keeps the rules that every runtime keeps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from neuropod.ids import PodId
from neuropod.runtimes.contract import Workload
from neuropod.runtimes.local.runtime import LocalRuntime
from runtimes.conformance import PORT, SECRET, Conformance, Kit
from runtimes.local.pods import INSTALLATION, opened, python

pytestmark = pytest.mark.root

_SERVER = f"""
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", {PORT}), Hello).serve_forever()
"""
_SLEEP = "import time; time.sleep(3600)"


class LocalKit(Kit):
    def __init__(self, runtime: LocalRuntime, data_dir: Path, installation: str = INSTALLATION) -> None:
        self.runtime = runtime
        self._data_dir = data_dir
        self._installation = installation

    def _python(self, code: str, pod: PodId | None = None, incarnation: int = 1, port: int | None = None) -> Workload:
        return python(
            code,
            pod=pod,
            incarnation=incarnation,
            installation=self._installation,
            port=port,
            env={"THE_SECRET": SECRET},
        )

    def runs(self, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        return self._python(_SLEEP, pod, incarnation)

    def deaf(self) -> Workload:
        return self._python("import signal; signal.signal(15, signal.SIG_IGN)\nwhile True: signal.pause()")

    def exits(self, code: int, pod: PodId | None = None) -> Workload:
        return self._python(f"raise SystemExit({code})", pod)

    def prints(self, lines: int) -> Workload:
        return self._python(f"for number in range({lines}): print('line', number)")

    def talks(self, lines: int) -> Workload:
        return self._python(
            f"import time\nfor number in range({lines}): print('line', number, flush=True); time.sleep(0.2)"
        )

    def serves(self) -> Workload:
        return self._python(_SERVER, port=PORT)

    def never_ready(self) -> Workload:
        return self._python(_SLEEP, port=PORT)

    @asynccontextmanager
    async def of_another_installation(self) -> AsyncIterator[Kit]:
        async with opened(self._data_dir, installation=f"{INSTALLATION}_other") as runtime:
            yield LocalKit(runtime, self._data_dir, f"{INSTALLATION}_other")

    @asynccontextmanager
    async def reopened(self) -> AsyncIterator[Kit]:
        await self.runtime.aclose()
        async with opened(self._data_dir, keep=True) as runtime:
            yield LocalKit(runtime, self._data_dir)
        await self.runtime.open()  # for the fixture, which ends everything through it


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[LocalKit]:
    data_dir = tmp_path / "data"
    async with opened(data_dir) as runtime:
        yield LocalKit(runtime, data_dir)


class TestLocal(Conformance):
    """The rules that every runtime keeps."""
