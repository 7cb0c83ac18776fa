"""Bursts, in turns with the floors': to the last 200, the server's own CPU meanwhile, and to the end of all.

Who is first changes from round to round, each is in each place as often, and each begins on a machine at rest.
"""

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from bench.cluster.floor import Floor, Floors
from bench.cluster.ours import Ours
from bench.cluster.quiet import until_quiet
from bench.pace import STEPS, paced
from bench.report import Figure, at_most, spread

ROUNDS = {25: 9, 100: 6}  # multiples of the three who take turns; the smaller ones vary more


@dataclass
class Seconds:
    """How long bursts took, and their ends."""

    bursts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    async def of(self, bare: Floor, names: list[str]) -> None:
        async with paced():  # as beside ours
            self.bursts.append(await bare.burst(names))
        self.ends.append(await bare.stop_all(names))


async def measure(bare: Floors, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    for size, rounds in ROUNDS.items():
        await _of(size, rounds, bare, server, emit)


async def _of(size: int, rounds: int, bare: Floors, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    same, plain, ours = Seconds(), Seconds(), Seconds()
    cpu: list[float] = []
    paces: list[float] = []
    end_cpu: list[float] = []

    async def of_ours(names: list[str]) -> None:
        before = server.cpu_seconds()
        async with paced() as pace:
            seconds, ids = await server.burst(names)
        paces.append(pace.milliseconds)
        ours.bursts.append(seconds)
        launched = server.cpu_seconds()
        cpu.append(launched - before)
        ours.ends.append(await server.stop_all(ids))
        end_cpu.append(server.cpu_seconds() - launched)
        await server.delete_all(ids)

    turns = [partial(same.of, bare.same), partial(plain.of, bare.plain), of_ours]
    for number in range(rounds):
        first = number % len(turns)
        for take in (*turns[first:], *turns[:first]):
            await until_quiet()
            await take([f"burst-{size}-{number}-{each}" for each in range(size)])

    def against(mine: list[float], floor: list[float], least: list[float]) -> tuple[float, str]:
        details = f"ours {spread(mine)} s, floor {spread(floor)} s; {_ratio(mine, least):.2f} of plain Pods"
        return _ratio(mine, floor), details

    ratio, details = against(ours.bursts, same.bursts, plain.bursts)
    await emit(at_most(f"burst of {size}, to the last 200, against the floor", ratio, 1.15, details))
    if size < max(ROUNDS):
        return
    details = f"{spread(cpu)}; meanwhile {STEPS:,} steps of Python took {spread(paces)} ms of CPU"
    await emit(at_most(f"own CPU in the burst of {size}, seconds", statistics.median(cpu), 2, details))
    ratio, details = against(ours.ends, same.ends, plain.ends)
    details += f"; own CPU {spread(end_cpu)} s"
    await emit(at_most(f"stopping {size}, all gone and known, against the floor", ratio, 1.1, details))


def _ratio(mine: list[float], floor: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, floor, strict=True))
