"""What the runtimes here can run: free units of each type, and templates that none of them can run.

Pure but for `capacities`, which asks every runtime at once; one that does not answer is left out.
"""

import asyncio
from collections.abc import Iterable, Mapping

from neuropod.catalogue.records import GpuTypeRow
from neuropod.ids import RuntimeId
from neuropod.pods.room import BYTES_PER_GB, Taken, free_by_host
from neuropod.runtimes.contract import Capability, Capacity, Runtime, RuntimeUnavailableError
from neuropod.runtimes.opened import Runtimes
from neuropod.templates.snapshot import TemplateSnapshot

_CHOICE_SECONDS = 2.0  # a cluster that hangs holds no launch up that another could take


async def capacities(
    runtimes: Mapping[RuntimeId, Runtime], *, within_seconds: float | None = None
) -> dict[RuntimeId, Capacity]:
    """Return what each runtime that answers (within that time) can promise in all."""

    async def of(runtime: Runtime) -> Capacity | None:
        try:
            async with asyncio.timeout(within_seconds):
                return await runtime.capacity()
        except (RuntimeUnavailableError, TimeoutError):
            return None

    asked = list(runtimes.items())  # while they answer another one may be opened
    found = await asyncio.gather(*(of(runtime) for _, runtime in asked))
    return {
        runtime_id: capacity for (runtime_id, _), capacity in zip(asked, found, strict=True) if capacity is not None
    }


async def to_choose_from(runtimes: Runtimes) -> dict[RuntimeId, Capacity]:
    """Return by what a launch chooses among runtimes: nothing is asked where there is one, and nobody waits for long.

    One that does not answer in time counts as one that does not answer.
    """
    several = len(runtimes) + len(runtimes.unopened) > 1  # also where the other is away
    return await capacities(runtimes, within_seconds=_CHOICE_SECONDS) if several else {}


def units(row: GpuTypeRow, capacity: Capacity, taken: Taken) -> tuple[int, int]:
    """Return how many pods of the type could start now, and how many the runtime has room for in all."""
    return _fitting(row, capacity, taken), _fitting(row, capacity, Taken())


def _fitting(row: GpuTypeRow, capacity: Capacity, taken: Taken) -> int:
    by_cpu = (capacity.cpu_cores - taken.cpu_cores) // row.cpu_cores
    by_memory = (capacity.memory_bytes - taken.memory_bytes) // (row.memory_gb * BYTES_PER_GB)
    counts = [by_cpu, by_memory]
    if row.gpus:
        per_host = free_by_host(row.finder, capacity, taken)
        counts.append(sum(len(devices) // row.gpus for devices in per_host.values()))
    return max(0, min(counts))


def why_not_runnable(snapshot: TemplateSnapshot, runtimes: Iterable[Runtime]) -> str | None:
    """Return why no runtime here can run the template; None when one can."""
    abilities = {ability for runtime in runtimes for ability in runtime.capabilities}
    if snapshot.recipe is not None and Capability.RECIPES in abilities:
        return None
    if snapshot.image is not None and Capability.IMAGES in abilities:
        return None
    if not abilities:
        return "No runtime is connected to this server."
    if snapshot.image is not None:
        return "It is a container image, and no runtime here runs images."
    return "It needs packages built on the machine, and no runtime here does that."
