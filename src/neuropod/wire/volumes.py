"""Volumes: disks that outlive pods."""

from datetime import datetime

from neuropod.wire.pods import Owner
from neuropod.wire.shapes import Answer, Page, Price, Request, limits


class VolumeCreate(Request):
    """Make a volume. Pods also make theirs at their first use of a name."""

    name: str
    """Unique among one's own: 1 to 40 of a-z 0-9 -, beginning with a letter."""

    size_gb: int = limits(1, 150)
    """How large; it can be made larger later, never smaller."""

    owner: str | None = None
    """For whom, by id; for administrators. Default: for oneself."""


class VolumeGrow(Request):
    """Make a volume larger."""

    size_gb: int = limits(1, 150)
    """Not smaller than it is."""


class VolumePod(Answer):
    """A pod that attaches the volume."""

    id: str
    name: str


class VolumeUse(Answer):
    """How full the volume is, as its machine or cluster tells it."""

    size_bytes: int
    """What its file system holds; a little less than its size."""

    used_bytes: int
    full: bool
    """Next to nothing can be written any more."""

    measured_at: datetime
    """When; where it takes a scan this may be a while ago."""

    grows_later: bool
    """It was made larger, and is so from the next start of a pod on, once no other pod uses it."""


class Volume(Answer):
    """A volume."""

    id: str
    name: str
    owner: Owner
    size_gb: int
    price: Price
    """While it exists, used or not."""

    use: VolumeUse | None
    """Null while no pod has used it, and while its machine or cluster does not answer."""

    lost: bool
    """It was made once, and its machine or cluster says that it is not there any more: what was in it is gone. Pods
    that attach it do not start (`volume_lost`) until they attach another."""

    full_since: datetime | None
    pods: list[VolumePod]
    """That attach it, running or not; it cannot be deleted while there is one."""

    runtime: str
    """The machine or cluster where it lives; its pods run there."""

    created_at: datetime


class VolumePage(Page[Volume]):
    """A part of the list of volumes."""
