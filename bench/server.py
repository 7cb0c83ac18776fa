"""A server with 100 running pods of the fake runtime: memory, CPU while nothing changes, and how soon it answers."""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from bench.report import Figure, at_most, spread
from support.servers import Server, running_server, wait_for

PODS = 100
IDLE_SECONDS = 30
STARTS = 5
JUPYTERHUB_MB = 156  # resident memory of a fresh JupyterHub, shared/PEERS.md


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("no VmRSS")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_seconds(server: Server) -> tuple[float, float]:
    """Start the server; return when it first answered, and when every part of it had reported to be well."""
    began = time.perf_counter()
    server.launch()
    while not answers(server):
        time.sleep(0.005)
    answered = time.perf_counter() - began
    server.await_ready()
    return answered, time.perf_counter() - began


def answers(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/healthz").is_success
    except httpx.TransportError:
        return False


def measured() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data", fake_runtime="true") as server:
        for number in range(PODS):
            server.create(f"p{number}", image="plain", volume=None)

        def all_run() -> bool:
            pods = server.api.get("/pods", params={"limit": 200}).json()["items"]
            return len(pods) == PODS and all(pod["status"] == "running" for pod in pods)

        wait_for(all_run, "all pods to run", 120)
        assert server.process is not None
        time.sleep(3)
        before = cpu_seconds(server.process.pid)
        time.sleep(IDLE_SECONDS)
        idle = 100 * (cpu_seconds(server.process.pid) - before) / IDLE_SECONDS
        memory = resident_mb(server.process.pid)
        starts = []
        for _ in range(STARTS):
            server.stop()
            starts.append(start_seconds(server))
    return [
        at_most(f"resident MB with {PODS} running pods (JupyterHub fresh: {JUPYTERHUB_MB})", memory, 150),
        at_most("CPU while nothing changes, percent of a core", idle, 1),
        at_most(
            "seconds from start to first answer",
            statistics.median(answered for answered, _ in starts),
            1.5,
            f"{spread([answered for answered, _ in starts])}; ready after {spread([ready for _, ready in starts])}",
        ),
    ]


async def run(emit: Callable[[Figure], Awaitable[None]]) -> None:
    for figure in await asyncio.to_thread(measured):
        await emit(figure)
