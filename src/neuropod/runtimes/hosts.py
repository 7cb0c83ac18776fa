"""On which of a runtime's machines a workload will most likely run, before that is known: for counting ahead. Pure.

Called by pods.room for those that are opened together, and by the kubernetes runtime for Pods that have no node yet.
Who chooses in the end is the runtime (a cluster's scheduler); this does as schedulers do by default, which spread.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from neuropod.runtimes.contract import Amounts, HostRoom


def fits_on(need: Amounts, free: Amounts) -> bool:
    """Tell whether an amount is free."""
    return (
        need.cpu_cores <= free.cpu_cores
        and need.memory_bytes <= free.memory_bytes
        and need.disk_bytes <= free.disk_bytes
    )


def likely_host(hosts: Mapping[str, HostRoom], need: Amounts, among: Collection[str] | None = None) -> str | None:
    """Return the machine with room that has the largest share of its CPU and memory free; None: none has room.

    `among`: the only ones that come into question; None: all.
    """
    able = [name for name, there in hosts.items() if (among is None or name in among) and fits_on(need, there.free)]
    return max(able, key=lambda name: _share_free(hosts[name]), default=None)


def with_less(hosts: Mapping[str, HostRoom], name: str, taken: Amounts) -> dict[str, HostRoom]:
    """Return the machines with that much less free on one of them."""
    there = hosts[name]
    free = Amounts(
        cpu_cores=max(0, there.free.cpu_cores - taken.cpu_cores),
        memory_bytes=max(0, there.free.memory_bytes - taken.memory_bytes),
        disk_bytes=max(0, there.free.disk_bytes - taken.disk_bytes),
    )
    return {**hosts, name: replace(there, free=free)}


def _share_free(there: HostRoom) -> float:
    cpu = there.free.cpu_cores / max(1, there.whole.cpu_cores)
    memory = there.free.memory_bytes / max(1, there.whole.memory_bytes)
    return cpu + memory
