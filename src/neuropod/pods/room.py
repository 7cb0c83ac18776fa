"""Whether a pod fits on a runtime: pure arithmetic on what the runtime has and what is taken. Used by queue.store.

Order is not its business: who asked first is asked in `queue.store`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuropod.catalogue.devices import fits
from neuropod.runtimes.contract import Capacity
from neuropod.words import Reason

BYTES_PER_GB = 10**9


@dataclass(frozen=True, slots=True)
class Need:
    """What a pod takes of its runtime while it runs. A volume is taken from the day it is made, not here."""

    cpu_cores: int
    memory_bytes: int
    disk_bytes: int
    gpus: int = 0
    model_pattern: str = ""  # the catalogue's, see catalogue.devices


@dataclass(frozen=True, slots=True)
class Taken:
    """What is promised of a runtime already."""

    cpu_cores: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0  # container disks and volumes
    devices: frozenset[str] = frozenset()


def free_devices(need: Need, capacity: Capacity, taken: Taken) -> Sequence[str]:
    """Return the names of the devices that the pod could get, in the runtime's order."""
    return [
        device.name
        for device in capacity.devices
        if device.name not in taken.devices and not device.trouble and fits(need.model_pattern, device.model)
    ]


def shortage(need: Need, capacity: Capacity, taken: Taken) -> Reason | None:
    """Return what is missing for the pod, None when it fits."""
    if need.gpus and len(free_devices(need, capacity, taken)) < need.gpus:
        return Reason.NO_GPU
    enough = (
        taken.cpu_cores + need.cpu_cores <= capacity.cpu_cores
        and taken.memory_bytes + need.memory_bytes <= capacity.memory_bytes
        and taken.disk_bytes + need.disk_bytes <= capacity.disk_bytes
    )
    return None if enough else Reason.NO_CAPACITY


def need_of(
    *, cpu_cores: int, memory_gb: int, container_disk_gb: int, gpus: int, patterns: Mapping[str, str], gpu_type: str
) -> Need:
    """Return what a pod needs from what its row says; `patterns` are the catalogue's, by type."""
    return Need(
        cpu_cores=cpu_cores,
        memory_bytes=memory_gb * BYTES_PER_GB,
        disk_bytes=container_disk_gb * BYTES_PER_GB,
        gpus=gpus,
        model_pattern=patterns.get(gpu_type, ""),  # a type that is gone fits no device
    )
