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


def first_answer_seconds(server: Server) -> float:
    began = time.perf_counter()
    server.start()
    return time.perf_counter() - began


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
            starts.append(first_answer_seconds(server))
        httpx.get(f"{server.url}/healthz").raise_for_status()
    return [
        at_most(f"resident MB with {PODS} running pods (JupyterHub fresh: {JUPYTERHUB_MB})", memory, 150),
        at_most("CPU while nothing changes, percent of a core", idle, 1),
        at_most("seconds from start to first answer", statistics.median(starts), 1.5, spread(starts)),
    ]


async def run(emit: Callable[[Figure], Awaitable[None]]) -> None:
    for figure in await asyncio.to_thread(measured):
        await emit(figure)
