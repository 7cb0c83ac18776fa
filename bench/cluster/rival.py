"""Bursts, in turns with JupyterHub's (bench.cluster.hub): own CPU, and to the last 200.

The CPU of ours is the server's, which is its own proxy and tells of events; of theirs the hub's alone is what the aim
is held against, and their proxy's is told beside it. Who is first changes from round to round, each burst begins on a
machine at rest, and nothing of the one before is left.
"""

import os
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.cluster.floor import Floors
from bench.cluster.hub import Hub, hub
from bench.cluster.ours import Ours
from bench.cluster.quiet import until_quiet
from bench.pace import STEPS, paced
from bench.report import Figure, at_most, spread

SIZE = int(os.environ.get("NEUROPOD_BENCH_BURST") or 100)
AIM_OF_CPU = 0.36  # two seconds, where JupyterHub took 4.4 to 6.8: of the middle
ROUNDS = int(os.environ.get("NEUROPOD_BENCH_ROUNDS") or 6)  # a multiple of the two who take turns


@dataclass
class Taken:
    """What the bursts of one side took."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    proxy: list[float] = field(default_factory=list)  # of a proxy that is another process
    paces: list[float] = field(default_factory=list)

    def add(self, who: str, seconds: float, cpu: float, pace: float, proxy: float = 0.0) -> None:
        self.seconds.append(seconds)
        self.cpu.append(cpu)
        self.proxy.append(proxy)
        self.paces.append(pace)
        beside = f", proxy {proxy:.2f} s" if proxy else ""
        print(f"      {who}: last 200 after {seconds:.1f} s, CPU {cpu:.2f} s{beside}, pace {pace:.1f} ms", flush=True)


async def of_ours(server: Ours, names: list[str], taken: Taken) -> None:
    await until_quiet()
    before = server.cpu_seconds()
    async with paced() as pace:
        seconds, ids = await server.burst(names)
    taken.add("ours", seconds, server.cpu_seconds() - before, pace.milliseconds)
    await server.stop_all(ids)
    await server.delete_all(ids)


async def of_theirs(rival: Hub, names: list[str], taken: Taken) -> None:
    await rival.welcome(names)
    await until_quiet()
    hub_before, proxy_before = rival.cpu_seconds()
    async with paced() as pace:
        seconds = await rival.burst(names)
    hub_cpu, proxy_cpu = rival.cpu_seconds()
    taken.add("JupyterHub", seconds, hub_cpu - hub_before, pace.milliseconds, proxy_cpu - proxy_before)
    await rival.delete_all(names)


async def measure(bare: Floors, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    async with hub(bare.client) as rival:
        # Not counted: the first makes the owner's namespace, and lets theirs watch Pods and events.
        await of_ours(server, ["first"], Taken())
        await of_theirs(rival, ["first"], Taken())
        ours, theirs = Taken(), Taken()
        for number in range(ROUNDS):
            names = [f"rival-{number}-{each}" for each in range(SIZE)]
            turns = [(of_ours, server, ours), (of_theirs, rival, theirs)]
            for take, side, taken in turns if number % 2 == 0 else reversed(turns):
                await take(side, names, taken)
    for figure in figures(ours, theirs):
        await emit(figure)


def figures(ours: Taken, theirs: Taken) -> list[Figure]:
    cpu, seconds = _ratios(ours.cpu, theirs.cpu), _ratios(ours.seconds, theirs.seconds)
    with_proxy = _ratios(ours.cpu, [a + b for a, b in zip(theirs.cpu, theirs.proxy, strict=True)])
    paces = (
        f"{STEPS:,} steps of Python took {spread(ours.paces)} ms of CPU, {spread(theirs.paces)} ms beside JupyterHub"
    )
    return [
        at_most(
            f"own CPU in the burst of {SIZE}, against JupyterHub's hub alone", statistics.median(cpu), AIM_OF_CPU,
            f"ratios {spread(cpu)}; ours {spread(ours.cpu)} s, hub {spread(theirs.cpu)} s, "
            f"its proxy {spread(theirs.proxy)} s, {statistics.median(with_proxy):.2f} of both; meanwhile {paces}",
        ),
        at_most(
            f"burst of {SIZE}, to the last 200, against JupyterHub", statistics.median(seconds), 1,
            f"ratios {spread(seconds)}; ours {spread(ours.seconds)} s, JupyterHub {spread(theirs.seconds)} s",
        ),
    ]  # fmt: skip


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]
