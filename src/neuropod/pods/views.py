"""A pod as it is shown: rows and its status, read together. Made by service; used by api and gateway."""

from dataclasses import dataclass

from neuropod.ids import PodId, RuntimeId, UserId
from neuropod.pods.gpus.holders import Holder
from neuropod.pods.limits.idleness import UNLIMITED, Outlook
from neuropod.pods.records import IncarnationRow, PodRow
from neuropod.pods.status import Shown
from neuropod.volumes.records import VolumeRow
from neuropod.words import Access, Status


@dataclass(frozen=True, slots=True)
class OwnerView:
    """Whose pod it is, or who made it."""

    id: UserId
    email: str
    hash: str


@dataclass(frozen=True, slots=True)
class PortView:
    """A port and the host name of its address."""

    port: int
    name: str
    access: Access
    host: str


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod; the rows are for reading. `shown` says what it is now."""

    pod: PodRow
    owner: OwnerView
    maker: OwnerView  # who made it: an administrator, or the owner
    ports: tuple[PortView, ...]
    incarnation: IncarnationRow | None
    volume: VolumeRow | None
    shown: Shown
    outlook: Outlook = UNLIMITED
    holders: tuple[Holder, ...] = ()  # while it waits for a GPU: which pods have those of its type

    @property
    def id(self) -> PodId:
        """The pod's id."""
        return PodId(self.pod.id)

    @property
    def runtime_id(self) -> RuntimeId:
        """The runtime that it belongs to."""
        return RuntimeId(self.pod.runtime_id)


@dataclass(frozen=True, slots=True)
class PodFilters:
    """Which pods a list shows."""

    owner_id: UserId | None = None  # None: the actor's own, or everybody's with `everybody`
    everybody: bool = False  # administrators only
    name: str | None = None
    gpu_type: str | None = None
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class PortLink:
    """The parts of a link to a port: `https://<host><path>`; `path` may hold Jupyter's token and is never logged."""

    host: str
    path: str
