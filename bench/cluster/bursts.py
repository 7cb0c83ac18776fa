"""Bursts, in turns with the floor's: to the last 200, the server's own CPU meanwhile, and to the end of all."""

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.cluster.floor import Floor, Floors
from bench.cluster.ours import Ours
from bench.report import Figure, at_most, spread

ROUNDS = {25: 3, 100: 2}


@dataclass
class Seconds:
    """How long bursts took, and their ends."""

    bursts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    async def of(self, bare: Floor, names: list[str]) -> None:
        self.bursts.append(await bare.burst(names))
        self.ends.append(await bare.stop_all(names))


async def measure(bare: Floors, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    for size, rounds in ROUNDS.items():
        await _of(size, rounds, bare, server, emit)


async def _of(size: int, rounds: int, bare: Floors, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    same, plain, ours = Seconds(), Seconds(), Seconds()
    cpu, end_cpu = [], []
    for turn in range(rounds):
        names = [f"burst-{size}-{turn}-{number}" for number in range(size)]
        await same.of(bare.same, names)
        await plain.of(bare.plain, names)
        before = server.cpu_seconds()
        seconds, ids = await server.burst(names)
        ours.bursts.append(seconds)
        launched = server.cpu_seconds()
        cpu.append(launched - before)
        ours.ends.append(await server.stop_all(ids))
        end_cpu.append(server.cpu_seconds() - launched)
        await server.delete_all(ids)

    def against(mine: list[float], floor: list[float], least: list[float]) -> tuple[float, str]:
        details = f"ours {spread(mine)} s, floor {spread(floor)} s; {_ratio(mine, least):.2f} of plain Pods"
        return _ratio(mine, floor), details

    ratio, details = against(ours.bursts, same.bursts, plain.bursts)
    await emit(at_most(f"burst of {size}, to the last 200, against the floor", ratio, 1.15, details))
    if size < max(ROUNDS):
        return
    await emit(at_most(f"own CPU in the burst of {size}, seconds", statistics.median(cpu), 2, spread(cpu)))
    ratio, details = against(ours.ends, same.ends, plain.ends)
    details += f"; own CPU {spread(end_cpu)} s"
    await emit(at_most(f"stopping {size}, all gone and known, against the floor", ratio, 1.1, details))


def _ratio(mine: list[float], floor: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, floor, strict=True))
