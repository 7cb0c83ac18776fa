"""Bursts, in turns with the floor's: to the last 200, the server's own CPU meanwhile, and to the end of all."""

import statistics
from collections.abc import Awaitable, Callable

from bench.cluster.floor import Floor
from bench.cluster.ours import Ours
from bench.report import Figure, at_most, spread

ROUNDS = {25: 3, 100: 2}


async def measure(bare: Floor, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    for size, rounds in ROUNDS.items():
        await _of(size, rounds, bare, server, emit)


async def _of(size: int, rounds: int, bare: Floor, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    floors, bursts, cpu, floor_ends, ends, end_cpu = [], [], [], [], [], []
    for turn in range(rounds):
        names = [f"burst-{size}-{turn}-{number}" for number in range(size)]
        floors.append(await bare.burst(names))
        floor_ends.append(await bare.stop_all(names))
        before = server.cpu_seconds()
        seconds, ids = await server.burst(names)
        bursts.append(seconds)
        launched = server.cpu_seconds()
        cpu.append(launched - before)
        ends.append(await server.stop_all(ids))
        end_cpu.append(server.cpu_seconds() - launched)
        await server.delete_all(ids)

    def against(ours: list[float], floor: list[float]) -> tuple[float, str]:
        ratio = statistics.median(a / b for a, b in zip(ours, floor, strict=True))
        return ratio, f"ours {spread(ours)} s, floor {spread(floor)} s"

    ratio, details = against(bursts, floors)
    await emit(at_most(f"burst of {size}, to the last 200, against the floor", ratio, 1.15, details))
    if size < max(ROUNDS):
        return
    await emit(at_most(f"own CPU in the burst of {size}, seconds", statistics.median(cpu), 2, spread(cpu)))
    ratio, details = against(ends, floor_ends)
    details += f"; own CPU {spread(end_cpu)} s"
    await emit(at_most(f"stopping {size}, all gone and known, against the floor", ratio, 1.1, details))
