"""One launch at a time: from the API call to the first 200 through the gateway, in turns with the floor's."""

import statistics
import time
from collections.abc import Awaitable, Callable

from bench.cluster.floor import Floor
from bench.cluster.ours import Ours
from bench.report import Figure, at_most, spread

ROUNDS = 20


async def measure(bare: Floor, server: Ours, emit: Callable[[Figure], Awaitable[None]]) -> None:
    floors, launches = [], []
    for number in range(-1, ROUNDS):  # the first is not counted: it makes the owner's namespace
        name = f"one-{number + 1}"
        began = time.perf_counter()
        await bare.launch(name)
        floor_seconds = time.perf_counter() - began
        await bare.stop(name)
        began = time.perf_counter()
        pod_id = await server.launch(name)
        seconds = time.perf_counter() - began
        await server.delete_all([pod_id])
        if number >= 0:
            floors.append(floor_seconds)
            launches.append(seconds)
    ratio = statistics.median(launches) / statistics.median(floors)
    details = f"ours {spread(launches)} s, floor {spread(floors)} s"
    await emit(at_most("one launch, to the first 200 through the gateway, against the floor", ratio, 1.5, details))
