"""2,000 pods known: memory, CPU while nothing changes, and how soon a restarted server has reconciled them.

They stand on a node that a script plays. While the server is away some of them end; it has reconciled them all once it
tells of those that they have ended, and of the others that they run.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.cluster.kubelet import LABEL, PlayedKubelet
from bench.cluster.ours import Ours
from bench.report import Figure, at_most
from bench.server import resident_mb
from neuropod.kube.client import KubeClient

PODS = 2000
AT_ONCE = 20
ENDED = 20
IDLE_SECONDS = 60
TYPE = "played"
_SETTLES_SECONDS = 75  # a look of the resync is among it


async def measure(client: KubeClient, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    kubelet = PlayedKubelet(client)
    await kubelet.join()
    playing = asyncio.create_task(kubelet.run())
    try:
        await _measure(kubelet, server, emit)
    finally:
        playing.cancel()


async def _measure(kubelet: PlayedKubelet, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    await server.offer(TYPE, node_selector={LABEL: "true"})
    began, before = time.perf_counter(), server.cpu_seconds()
    numbers = iter(range(PODS))
    ids: list[str] = []

    async def launch() -> None:
        for number in numbers:
            pod = await server.create(f"known-{number}", gpu_type=TYPE)
            ids.append(pod["id"])
            await server.until(pod["id"], "running")

    await asyncio.gather(*(launch() for _ in range(AT_ONCE)))
    seconds, cpu = time.perf_counter() - began, server.cpu_seconds() - before
    print(f"      {PODS} launched within {seconds:.0f} s, own CPU {1000 * cpu / PODS:.1f} ms each", flush=True)
    await asyncio.sleep(_SETTLES_SECONDS)
    before = server.cpu_seconds()
    await asyncio.sleep(IDLE_SECONDS)
    idle = 100 * (server.cpu_seconds() - before) / IDLE_SECONDS
    assert server.server.process is not None
    await emit(at_most(f"resident MB with {PODS} pods known", resident_mb(server.server.process.pid), 300))
    await emit(at_most("CPU while nothing changes, percent of a core", idle, 5))

    await asyncio.to_thread(server.server.stop)
    ended = await kubelet.end(ENDED)
    began = time.perf_counter()
    await asyncio.to_thread(server.server.start)
    answers = time.perf_counter() - began
    while not await _is_reconciled(server, set(ended)):
        await asyncio.sleep(0.1)
    seconds = time.perf_counter() - began
    memory = resident_mb(server.server.process.pid)
    details = f"ready after {answers:.1f} s; {memory:.0f} MB then, own CPU {server.cpu_seconds():.1f} s"
    await emit(at_most(f"seconds until a restarted server has reconciled {PODS}", seconds, 20, details))


async def _is_reconciled(server: Ours, ended: set[str]) -> bool:
    """Those that ended are looked at first: they are few."""
    for pod_id in ended:
        if (await server.api("GET", f"/pods/{pod_id}"))["status"] != "finished":
            return False
    told: dict[str, str] = {}
    cursor = ""
    while True:
        page = await server.api("GET", f"/pods?limit=200{cursor}")
        told |= {pod["id"]: pod["status"] for pod in page["items"]}
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    return len(told) == PODS and all(
        status == ("finished" if pod_id in ended else "running") for pod_id, status in told.items()
    )
