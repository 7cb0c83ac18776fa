"""What a runtime with `Capability.USAGE` has besides the contract: it tells what its workloads use now.

Asked by the loop of limits and by the API, each by way of `usage_reader`; implemented beside each runtime's verbs.
What was used over the time is kept by the pods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from neuropod.runtimes.contract import Capability, RuntimeReader, WorkloadId


@dataclass(frozen=True, slots=True)
class GpuUsage:
    """What is used of one GPU now; None: not told."""

    name: str
    percent: int | None  # of the time in which something ran on it, over its driver's last sample
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workload uses now; None: this runtime cannot tell.

    `cpu_seconds` counts from the workload's start, so two looks make a rate; a count that went back means nothing.
    `memory_bytes` is without what the kernel would give back at once.
    """

    cpu_seconds: float | None
    memory_bytes: int | None
    container_disk_bytes: int | None = None
    volume_bytes: int | None = None
    gpus: tuple[GpuUsage, ...] = ()


class UsageReader(Protocol):
    """What a runtime with `Capability.USAGE` has besides; see `usage_reader`."""

    async def usage(self, workload_ids: Sequence[WorkloadId]) -> Mapping[WorkloadId, Usage]:
        """Measure those of the workloads whose processes run, one bulk look; the others are left out.

        It may be asked every few seconds, so it scans no disk. Raises RuntimeUnavailableError.
        """
        ...


def usage_reader(runtime: RuntimeReader) -> UsageReader | None:
    """Return the runtime as what tells usage; None for one that does not declare that it can."""
    return cast("UsageReader", runtime) if Capability.USAGE in runtime.capabilities else None
