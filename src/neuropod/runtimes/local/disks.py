"""Disks with a size that holds: volumes and container disks, as loop-mounted images (root) or measured folders (user).

Called by the server (`promise`, `delete_tree`, `sweep`) and by each pod's shim (`attach_volume`,
`attach_container_disk`, `overrun`). Nothing below a pod's own folder is ever followed by name (SECURITY 5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from neuropod.runtimes.local.tools import Tools


class DiskFullError(Exception):
    """The data disk has no room for what would be promised; the sentence says how much there is."""


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """Where disks live and how they are made."""

    data_dir: str
    images: bool  # loop-mounted images (root), else folders that are measured
    tools: Tools
    overcommit: bool = False
    reserve_bytes: int = 2 * 10**9

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DiskPlan":
        """Return the plan that `as_json` wrote."""
        raise NotImplementedError


class Disk(Protocol):
    """An attached disk; the shim keeps it while the pod runs."""

    path: Path  # bind this into the sandbox
    size_bytes: int

    def used_bytes(self) -> int:
        """Measure; cheap on images, a scan on folders (run it in a thread)."""
        ...

    def overrun(self) -> bool:
        """Tell whether a measured folder exceeds its size (run it in a thread); images never do."""
        ...

    def detach(self) -> None:
        """Let go: unmounts when no other live shim uses it; contents stay. May be repeated."""
        ...


def attach_volume(plan: DiskPlan, volume_id: str, *, size_bytes: int, uid: int, gid: int) -> Disk:
    """Attach the volume, made at first use and grown when larger is asked; shared with the user's other pods."""
    raise NotImplementedError


def attach_container_disk(plan: DiskPlan, workload: str, *, size_bytes: int, uid: int, gid: int) -> Disk:
    """Attach the incarnation's container disk, empty at first, kept until `remove_container_disk`."""
    raise NotImplementedError


def remove_container_disk(plan: DiskPlan, workload: str) -> None:
    """Delete the disk of an ended incarnation (in a subprocess where it is a folder); may be repeated."""
    raise NotImplementedError


def room_bytes(plan: DiskPlan) -> int:
    """Tell how much more can be promised."""
    raise NotImplementedError


def sweep(plan: DiskPlan) -> int:
    """Unmount what dead shims left mounted, and tell how many; contents stay."""
    raise NotImplementedError


def delete_tree(plan: DiskPlan, directory: Path) -> None:
    """Delete a folder whatever is in it (deep, unreadable, full of links), in a subprocess; may be repeated."""
    raise NotImplementedError
