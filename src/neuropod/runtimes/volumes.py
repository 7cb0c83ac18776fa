"""What a runtime with `Capability.VOLUMES` has besides the contract: it tells of volumes, grows and removes them.

Asked by the loop of volumes, by the pods' sizes and by the API, each by way of `volumes_of`; implemented beside each
runtime's verbs. Which volume a workload mounts is the workload's own (`contract.VolumeMount`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

from neuropod.ids import VolumeId
from neuropod.runtimes.contract import Capability, RuntimeReader


class VolumeInUseError(Exception):
    """A workload still uses the volume; nothing was taken away. Try again later."""


class NoRoomError(Exception):
    """There is no room for what would be promised; the sentence says how much there is."""


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """How a volume is now: the size that it really has, which after a growth may be smaller than what was asked for."""

    size_bytes: int
    used_bytes: int
    full: bool  # next to nothing can be written any more
    measured_at: datetime
    grows_later: bool = False  # it was to be larger, and is from its next start on


class Volumes(Protocol):
    """The ability of Capability.VOLUMES; see `volumes_of`. Volumes are named by id alone; none is ever listed."""

    async def volume_use(self, volume_ids: Sequence[VolumeId]) -> Mapping[VolumeId, VolumeUse | None]:
        """Measure those of the volumes that are there; the others are left out. Raises RuntimeUnavailableError.

        Where that takes a scan, what was measured last is told (None: nothing yet), and the scan goes on.
        """
        ...

    async def grow_volume(self, volume_id: VolumeId, size_bytes: int) -> bool:
        """Let the volume be that large; tell whether it is now, else it is from the next start on.

        One that was not made yet, or is larger, stays as it is. Raises NoRoomError, RuntimeUnavailableError.
        """
        ...

    async def remove_volume(self, volume_id: VolumeId) -> None:
        """Take the volume and its data away; may be repeated, also after one that was cut short.

        Raises VolumeInUseError, RuntimeUnavailableError.
        """
        ...


def volumes_of(runtime: RuntimeReader) -> Volumes | None:
    """Return the runtime as what keeps volumes; None for one that does not declare that it can."""
    return cast("Volumes", runtime) if Capability.VOLUMES in runtime.capabilities else None
