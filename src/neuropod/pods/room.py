"""Whether a pod fits on a runtime: pure arithmetic on what the runtime has and what is taken. Used by queue.store.

Order is not its business: who asked first is asked in `queue.store`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from neuropod.catalogue.devices import NO_DEVICES, Finder, fits
from neuropod.ids import VolumeId
from neuropod.runtimes.contract import Amounts, Capacity
from neuropod.runtimes.hosts import fits_on, likely_host, with_less
from neuropod.words import Reason

BYTES_PER_GB = 10**9


@dataclass(frozen=True, slots=True)
class Need:
    """What a pod takes of its runtime while it runs. A volume is taken from the day it is made, not here."""

    cpu_cores: int
    memory_bytes: int
    disk_bytes: int
    gpus: int = 0
    finder: Finder = NO_DEVICES  # the catalogue's
    volume_id: VolumeId | None = None  # which may be tied to some of the runtime's machines


@dataclass(frozen=True, slots=True)
class Taken:
    """What is promised of a runtime already."""

    cpu_cores: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0  # container disks
    volume_bytes: int = 0
    devices: frozenset[str] = frozenset()


def free_by_host(finder: Finder, capacity: Capacity, taken: Taken) -> dict[str, list[str]]:
    """Return the names of the devices of a type that nobody has, by their machine, in the runtime's order."""
    found: dict[str, list[str]] = {}
    for device in capacity.devices:
        if device.name not in taken.devices and not device.trouble and fits(finder, device):
            found.setdefault(device.host, []).append(device.name)
    return found


def free_devices(need: Need, capacity: Capacity, taken: Taken) -> Sequence[str]:
    """Return the names of as many devices as the pod needs, all of one machine with room for it; none where none has.

    Of the machines that have enough it is the one that has the fewest, so that large pods find room for longer; where
    the pod's volume is tied to some machines, only those.
    """
    enough = [
        (len(names), place, names)
        for place, (host, names) in enumerate(free_by_host(need.finder, capacity, taken).items())
        if len(names) >= need.gpus and _may_be_on(need, capacity, host)
    ]
    return min(enough)[2][: need.gpus] if enough else ()


def disk_taken(capacity: Capacity, taken: Taken) -> int:
    """Return what is taken of the runtime's disk."""
    return taken.disk_bytes + (0 if capacity.volumes_apart else taken.volume_bytes)


def tied_to(need: Need, capacity: Capacity) -> frozenset[str] | None:
    """Return the machines on which alone the pod's volume can be mounted now; None: any."""
    return None if need.volume_id is None else capacity.volume_hosts.get(need.volume_id)


def emptied(capacity: Capacity) -> Capacity:
    """Return the capacity as if no pod of ours ran: with it and nothing taken, `shortage` tells what never fits."""
    hosts = {host: replace(there, free=there.whole) for host, there in capacity.hosts.items()}
    return replace(capacity, hosts=hosts)


def shortage(need: Need, capacity: Capacity, taken: Taken) -> Reason | None:
    """Return what is missing for the pod, None when it fits."""
    enough = (
        taken.cpu_cores + need.cpu_cores <= capacity.cpu_cores
        and taken.memory_bytes + need.memory_bytes <= capacity.memory_bytes
        and disk_taken(capacity, taken) + need.disk_bytes <= capacity.disk_bytes
    )
    anywhere = replace(need, volume_id=None)
    if need.gpus and not free_devices(anywhere, replace(capacity, hosts={}), taken):
        return Reason.NO_GPU
    if not enough:
        return Reason.NO_CAPACITY
    if _has_place(need, capacity, taken):
        return None
    return Reason.VOLUME_ELSEWHERE if _has_place(anywhere, capacity, taken) else Reason.NO_CAPACITY


def _has_place(need: Need, capacity: Capacity, taken: Taken) -> bool:
    """Tell whether one machine has all that the pod needs."""
    if need.gpus:
        return bool(free_devices(need, capacity, taken))
    return not capacity.hosts or any(_may_be_on(need, capacity, host) for host in capacity.hosts)


def _may_be_on(need: Need, capacity: Capacity, host: str) -> bool:
    tied = tied_to(need, capacity)
    if tied is not None and host not in tied:
        return False
    if not capacity.hosts:
        return True
    there = capacity.hosts.get(host)
    return there is not None and fits_on(_amounts(need), there.free)


def with_opened(capacity: Capacity, need: Need, devices: Sequence[str]) -> Capacity:
    """Return the capacity once such a pod was opened with these devices: for those that are opened after it with it.

    Its runtime has not placed it yet, so it counts where its devices are, else where it will most likely go.
    """
    if not capacity.hosts:
        return capacity
    given = {device.host for device in capacity.devices if device.name in devices}
    host = likely_host(capacity.hosts, _amounts(need), given or tied_to(need, capacity))
    return capacity if host is None else replace(capacity, hosts=with_less(capacity.hosts, host, _amounts(need)))


def _amounts(need: Need) -> Amounts:
    return Amounts(need.cpu_cores, need.memory_bytes, need.disk_bytes)


def need_of(
    *, cpu_cores: int, memory_gb: int, container_disk_gb: int, gpus: int, finder: Finder | None, volume_id: str | None
) -> Need:
    """Return what a pod needs from what its row says; `finder` is that of its type, None: the type is gone."""
    return Need(
        cpu_cores=cpu_cores,
        memory_bytes=memory_gb * BYTES_PER_GB,
        disk_bytes=container_disk_gb * BYTES_PER_GB,
        gpus=gpus,
        finder=finder or NO_DEVICES,  # a type that is gone fits no device
        volume_id=None if volume_id is None else VolumeId(volume_id),
    )
