"""One launch at a time: from the API call to the first 200 through the gateway, in turns with the floor's."""

import statistics
import time
from collections.abc import Awaitable, Callable

from bench.cluster.floor import Floor, Floors
from bench.cluster.ours import Ours
from bench.report import Figure, at_most, spread

ROUNDS = 20


async def measure(bare: Floors, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    same, plain, launches = [], [], []
    for number in range(-1, ROUNDS):  # the first is not counted: it makes the owner's namespace
        name = f"one-{number + 1}"
        same.append(await _of(bare.same, name))
        plain.append(await _of(bare.plain, name))
        began = time.perf_counter()
        pod_id = await server.launch(name)
        launches.append(time.perf_counter() - began)
        await server.delete_all([pod_id])
    ours, floor, least = (statistics.median(seconds[1:]) for seconds in (launches, same, plain))
    details = f"ours {spread(launches[1:])} s, floor {spread(same[1:])} s; {ours / least:.2f} of plain Pods"
    await emit(
        at_most("one launch, to the first 200 through the gateway, against the floor", ours / floor, 1.5, details)
    )


async def _of(bare: Floor, name: str) -> float:
    began = time.perf_counter()
    await bare.launch(name)
    seconds = time.perf_counter() - began
    await bare.stop(name)
    return seconds
