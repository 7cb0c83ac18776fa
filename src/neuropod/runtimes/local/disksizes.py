"""Sizes of the disks of pods: what was promised, what is used, and whether there is room for more.

Called by `disks` before anything is promised, by the server (`room_bytes`, `capacity_bytes`, `used_by_…`), and by
`keeping` for volumes. An image tells both by itself; of a folder they stand in a file beside it, as measured last.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from neuropod.runtimes.local import images, linux
from neuropod.runtimes.local.diskplaces import (
    DiskPlace,
    DiskPlan,
    container_disk_place,
    disks_home,
    locked,
    volume_place,
)
from neuropod.runtimes.local.tools import Tools

_INODE_BYTES = 512  # what a file costs that has no content: else they are free, and fill the disk's table
_SCAN_SECONDS = 3600.0
_ENDLESS = 1 << 60


class DiskFullError(Exception):
    """The data disk has no room for what would be promised; the sentence says how much there is."""


@dataclass(frozen=True, slots=True)
class Size:
    """What stands in a folder's `.size`; `measured_at` is in seconds since 1970, 0 for never."""

    promised_bytes: int = 0
    used_bytes: int = 0
    measured_at: int = 0


def _read_size(path: Path) -> Size:
    return Size(*(int(word) for word in path.read_text().split()))


def size_of_folder(place: DiskPlace) -> Size:
    """Return what was promised and measured last."""
    with suppress(OSError, ValueError, TypeError):
        return _read_size(place.size)
    return Size()


def _write_size(path: Path, size: Size) -> None:
    coming = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        coming.write_text(f"{size.promised_bytes} {size.used_bytes} {size.measured_at}\n")
        coming.rename(path)
    finally:
        coming.unlink(missing_ok=True)


def measure_folder(plan: DiskPlan, place: DiskPlace) -> Size:
    """Measure a disk that is a folder, and write down what was found (run it in a thread)."""
    used = measure(plan.tools, place.folder)
    with locked(place.gate):
        found = Size(size_of_folder(place).promised_bytes, used, int(linux.wall_time()))
        if place.size.exists():
            with suppress(OSError):
                _write_size(place.size, found)
    return found


def measure(tools: Tools, folder: Path) -> int:
    """Return the bytes that a folder takes of the disk, its files' own entries included.

    `du` follows no link, opens every folder relative to its parent, and copes with any depth. In mode `user` it runs
    as the root of the shim's user namespace, for whom no folder of the pod's is closed.
    """
    total = 0
    for options, each in ((("--block-size=1",), 1), (("--inodes",), _INODE_BYTES)):
        # What vanishes while it looks is told as an error: what it counted until then is good.
        done = subprocess.run(
            [*tools.du, "-s", "-x", *options, "--", str(folder)],
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SCAN_SECONDS,
            check=False,
        )
        with suppress(ValueError, IndexError):
            total += int(done.stdout.split(b"\t")[0]) * each
    return total


def used_by_volume(plan: DiskPlan, volume_id: str) -> int | None:
    """Tell how much a volume holds, without a scan; None when it is not there."""
    return _used(plan, volume_place(plan, volume_id))


def used_by_container_disk(plan: DiskPlan, workload: str) -> int | None:
    """Tell how much a container disk holds, without a scan; None when it is not there."""
    return _used(plan, container_disk_place(plan, workload))


def _used(plan: DiskPlan, place: DiskPlace) -> int | None:
    with suppress(OSError, ValueError):
        if not plan.images:
            return _read_size(place.size).used_bytes  # as its shim measured it last
        if images.is_mounted(place.at):
            facts = os.statvfs(place.at)
            return (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        return place.image.lstat().st_blocks * 512
    return None


def capacity_bytes(plan: DiskPlan) -> int:
    """Tell how much can be promised in all, what is promised already included."""
    if plan.overcommit:
        return _ENDLESS
    facts = os.statvfs(_existing(Path(plan.data_dir)))
    used = sum(used for _, used in _promises(plan))
    return max(0, facts.f_bavail * facts.f_frsize + used - plan.reserve_bytes)


def room_bytes(plan: DiskPlan) -> int:
    """Tell how much more can be promised."""
    return max(0, capacity_bytes(plan) - sum(promised for promised, _ in _promises(plan)))


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _promises(plan: DiskPlan) -> Iterator[tuple[int, int]]:
    """Yield (promised, used) of each disk that is there."""
    for home in plan.homes:
        for path in home.iterdir() if home.is_dir() else ():
            with suppress(OSError, ValueError):
                if path.suffix == ".img":
                    facts = path.lstat()
                    yield facts.st_size, facts.st_blocks * 512
                elif path.suffix == ".size":
                    size = _read_size(path)
                    yield size.promised_bytes, size.used_bytes


@contextmanager
def promising(plan: DiskPlan, bytes_more: int) -> Iterator[None]:
    """Check that there is room, and let nobody else check until the promise stands. Raises DiskFullError."""
    home = disks_home(plan.data_dir)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(home / ".room"):
        room = room_bytes(plan)
        if bytes_more > room:
            raise DiskFullError(
                f"The data disk has room for {room // 10**6} MB more, and {bytes_more // 10**6} MB were asked for."
            )
        yield


def promise_folder(plan: DiskPlan, place: DiskPlace, size_bytes: int) -> None:
    """Promise a folder that much, where that is more than it was promised. Raises DiskFullError."""
    had = size_of_folder(place)
    if size_bytes > had.promised_bytes:
        with promising(plan, size_bytes - had.promised_bytes):
            _write_size(place.size, replace(had, promised_bytes=size_bytes))
