"""A launch of JupyterLab, environment prepared, until its first 200 through the gateway, against the same by hand.

By hand: the same command in the same environment, at the same place, started without Neuropod. Taken in turns.
"""

import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from bench.report import Figure, at_most, spread
from neuropod.runtimes.local.tools import find_tools
from neuropod.templates.starters import starters
from support.ports import free_port
from support.servers import Server, running_server

RUNS = 10


def until_200(url: str, headers: dict[str, str], began: float) -> float:
    with httpx.Client() as client:
        while time.perf_counter() - began < 120:
            try:
                if client.get(url, headers=headers, timeout=5).status_code == 200:
                    return time.perf_counter() - began
            except httpx.TransportError:
                pass
            time.sleep(0.01)
    raise RuntimeError(f"{url} never answered 200")


def launch_seconds(server: Server, number: int) -> float:
    began = time.perf_counter()
    pod = server.create(f"lab{number}", template="jupyterlab", volume=None)
    url, headers = server.visit(pod, 8888)
    seconds = until_200(f"{url}/api", headers, began)
    server.api.delete(f"/pods/lab{number}").raise_for_status()
    return seconds


def by_hand_seconds(environment: Path, command: tuple[str, ...], home: str) -> float:
    port = free_port()
    words = [word.replace("--port=8888", f"--port={port}") for word in command[1:]]
    bwrap = find_tools(Path("/nonexistent")).bwrap
    began = time.perf_counter()
    running = subprocess.Popen(
        [
            *bwrap, "--die-with-parent", "--dev-bind", "/", "/", "--tmpfs", "/opt",
            "--ro-bind", str(environment), "/opt/neuropod/env", "--chdir", home,
            "/opt/neuropod/env/bin/python", "-m", "jupyterlab", "--allow-root", *words,
        ],
        env={"HOME": home, "PATH": "/usr/bin:/bin", "JUPYTER_TOKEN": "bench", "LANG": "C.UTF-8"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return until_200(f"http://127.0.0.1:{port}/api", {}, began)
    finally:
        running.terminate()
        running.wait()


def measured() -> list[Figure]:
    (template,) = [one for one in starters() if one.snapshot.name == "jupyterlab"]
    recipe = template.snapshot.recipe
    assert recipe is not None
    with tempfile.TemporaryDirectory(prefix="npb") as folder:
        Path(folder).chmod(0o755)
        with running_server(Path(folder) / "data") as server:
            server.create("first", template="jupyterlab", volume=None)
            server.wait_for_status("first", "running", seconds=600)
            server.api.delete("/pods/first").raise_for_status()
            environment = next((Path(folder) / "data/cache").rglob("bin/jupyter-lab")).parents[1]
            home = str(Path(folder) / "home")
            Path(home).mkdir()
            ours, by_hand = [], []
            for number in range(RUNS):
                by_hand.append(by_hand_seconds(environment, recipe.command, home))
                ours.append(launch_seconds(server, number))
    more = statistics.median(ours) - statistics.median(by_hand)
    details = f"seconds: launched {spread(ours)}; by hand {spread(by_hand)}"
    ratio = statistics.median(ours) / statistics.median(by_hand)
    return [
        at_most("seconds more than by hand, until the first 200 of JupyterLab", more, 0.3, details),
        at_most("the same as a ratio (JupyterHub with its local spawner: 2.5)", ratio, 2.5),
    ]


async def run(emit: Callable[[Figure], Awaitable[None]]) -> None:
    for figure in await asyncio.to_thread(measured):
        await emit(figure)
