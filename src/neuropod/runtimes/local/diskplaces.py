"""Where the disks of pods are: the paths of each below the data directory, and the locks that say who uses it.

Called by `disks` and `disksizes`. Below `<data dir>`, root-only (0700); `<name>` is the volume's id or the
incarnation's key:

    volumes/<name>.img, disks/<name>.img    images; sparse, their length is their size
    volumes/<name>.at/, disks/<name>.at/    where an image is mounted while somebody uses it
    volumes/<name>/, disks/<name>/          folders, where there are no images; <name>.size: what was promised and used,
                                            and when that was measured
    …/.locks/<name>.users                   held shared by each shim that uses the disk: the kernel lets go for the dead
    …/.locks/<name>.gate                    held while the disk is mounted, unmounted, made or grown
    disks/.blank/                           empty file systems, copied in a few milliseconds where mkfs takes fifty
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuropod.runtimes.local.tools import Tools

_VOLUMES, _DISKS = "volumes", "disks"


class DiskInUseError(Exception):
    """A live shim uses the disk."""


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
        return {
            "data_dir": self.data_dir,
            "images": self.images,
            "tools": self.tools.as_json(),
            "overcommit": self.overcommit,
            "reserve_bytes": self.reserve_bytes,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DiskPlan":
        """Return the plan that `as_json` wrote."""
        return cls(
            data_dir=data["data_dir"],
            images=data["images"],
            tools=Tools.from_json(data["tools"]),
            overcommit=data["overcommit"],
            reserve_bytes=data["reserve_bytes"],
        )

    @property
    def homes(self) -> tuple[Path, Path]:
        """Return the folders in which disks are."""
        return volumes_home(self.data_dir), disks_home(self.data_dir)


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """The paths of one disk."""

    home: Path
    name: str

    @property
    def image(self) -> Path:
        return self.home / f"{self.name}.img"

    @property
    def at(self) -> Path:
        return self.home / f"{self.name}.at"

    @property
    def folder(self) -> Path:
        return self.home / self.name

    @property
    def size(self) -> Path:
        return self.home / f"{self.name}.size"

    @property
    def users(self) -> Path:
        return self.home / ".locks" / f"{self.name}.users"

    @property
    def gate(self) -> Path:
        return self.home / ".locks" / f"{self.name}.gate"

    def exists(self, *, images: bool) -> bool:
        """Tell whether the disk was made."""
        return self.image.exists() if images else self.size.exists()

    def prepare(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.users.parent.mkdir(mode=0o700, exist_ok=True)


def volumes_home(data_dir: str | Path) -> Path:
    """Return the folder in which volumes are."""
    return Path(data_dir, _VOLUMES)


def disks_home(data_dir: str | Path) -> Path:
    """Return the folder in which container disks are."""
    return Path(data_dir, _DISKS)


def volume_place(plan: DiskPlan, volume_id: str) -> DiskPlace:
    """Return where a volume is; it is there when `exists` of it says so."""
    return DiskPlace(volumes_home(plan.data_dir), _checked(volume_id))


def container_disk_place(plan: DiskPlan, workload: str) -> DiskPlace:
    """Return where an incarnation's container disk is, likewise."""
    return DiskPlace(disks_home(plan.data_dir), _checked(workload))


def _checked(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} cannot name a disk")
    return name


def hold(place: DiskPlace) -> int:
    """Use the disk as long as the descriptor is open; the gate is held, so nobody is `alone` with it."""
    fd = os.open(place.users, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


@contextmanager
def alone(place: DiskPlace) -> Iterator[None]:
    """Have the disk while no live shim uses it; the gate is held. Raises DiskInUseError at once where one does."""
    fd = os.open(place.users, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DiskInUseError(f"a pod uses {place.name}") from None
        yield
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file that another holder may delete."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    yield
                    return
        finally:
            os.close(fd)
