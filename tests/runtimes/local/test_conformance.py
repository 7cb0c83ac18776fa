"""The local runtime, as root, keeps the rules that every runtime keeps."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from neuropod.ids import PodId
from neuropod.kit.identifiers import new_id
from neuropod.runtimes.contract import Phase, Workload
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.words import Reason
from runtimes.conformance import PORT, SECRET, Conformance, Kit
from runtimes.local.pods import INSTALLATION, opened, python

pytestmark = pytest.mark.root

_SERVER = f"""
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"WHO")
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", {PORT}), Hello).serve_forever()
"""
_POLITE = f"""
import signal, socket, time
def leave(*_):
    time.sleep(2)
    raise SystemExit(0)
signal.signal(signal.SIGTERM, leave)
{_SERVER}
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
        # Ready by its port, so that no SIGTERM comes before it is deaf.
        return self._python(f"import signal; signal.signal(15, signal.SIG_IGN)\n{_SERVER}", port=PORT)

    def exits(self, code: int, pod: PodId | None = None) -> Workload:
        return self._python(f"raise SystemExit({code})", pod)

    def prints(self, lines: int) -> Workload:
        return self._python(f"for number in range({lines}): print('line', number)")

    def talks(self, lines: int) -> Workload:
        return self._python(
            f"import time\nfor number in range({lines}): print('line', number, flush=True); time.sleep(0.2)"
        )

    def serves(self, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        pod = pod or PodId(new_id("pod"))
        return self._python(_SERVER.replace("WHO", f"{pod}.{incarnation}"), pod, incarnation, port=PORT)

    def slow(self) -> Workload:
        return self._python(f"import time; time.sleep(1)\n{_SERVER}", port=PORT)

    def polite(self) -> Workload:
        return self._python(_POLITE, port=PORT)

    def crashes(self) -> Workload:
        return self._python("import os; os.kill(os.getpid(), 11)")

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

    @asynccontextmanager
    async def another_server(self) -> AsyncIterator[Kit]:
        async with opened(self._data_dir, keep=True) as runtime:
            yield LocalKit(runtime, self._data_dir)


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[LocalKit]:
    data_dir = tmp_path / "data"
    async with opened(data_dir) as runtime:
        yield LocalKit(runtime, data_dir)


class TestLocal(Conformance):
    """The rules that every runtime keeps."""

    async def test_secrets_are_in_no_argument_list_from_the_start_to_the_end(self, kit: LocalKit):
        secret = f"secret-{secrets.token_hex(8)}"
        workload = python(f"import time\n{_SERVER}", port=PORT, env={"THE_SECRET": secret})
        in_arguments: set[bytes] = set()

        async def look_until(phase: Phase) -> None:
            deadline = time.monotonic() + kit.patience_seconds
            while time.monotonic() < deadline:
                in_arguments.update(line for line in _of_processes("cmdline") if secret.encode() in line)
                seen = await kit.runtime.observe(workload.id)
                if seen is not None and seen.phase is phase:
                    return
                await asyncio.sleep(0.005)
            raise AssertionError(f"not {phase}")

        ensuring = asyncio.create_task(kit.runtime.ensure(workload))
        await look_until(Phase.READY)
        await ensuring
        has_it = [line for line in _of_processes("environ") if f"THE_SECRET={secret}".encode() in line]
        await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
        await look_until(Phase.EXITED)

        assert in_arguments == set()
        assert has_it


def _of_processes(name: str) -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield (process / name).read_bytes()
