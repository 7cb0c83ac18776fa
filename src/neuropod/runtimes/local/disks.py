"""Disks with a size that holds: volumes and container disks, as loop-mounted images (root) or measured folders (user).

Called by the server (`delete_tree`, `sweep`, and `keeping` for volumes) and by each pod's shim (`attach_volume`,
`attach_container_disk`, `overrun`). Where disks are, and who uses one, is `diskplaces`; what they take is `disksizes`.
Nothing below a pod's own folder is ever followed by name (SECURITY 5).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from neuropod.runtimes.local import images
from neuropod.runtimes.local.diskplaces import (
    DiskInUseError,
    DiskPlace,
    DiskPlan,
    alone,
    container_disk_place,
    disks_home,
    hold,
    locked,
    volume_place,
    volumes_home,
)
from neuropod.runtimes.local.disksizes import measure_folder, promise_folder, promising, size_of_folder
from neuropod.runtimes.local.tools import ToolFailedError, run

_BLOCK = 4096
_DELETE_SECONDS = 3600.0
# Over the size of a volume that is a folder: else a full one would end each new run at once.
_TOLERATED_BYTES = 16 << 20


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
    """Attach the volume, made at first use and grown when larger is asked; shared with the user's other pods.

    Raises DiskFullError.
    """
    place = volume_place(plan, volume_id)
    disk = _attach(plan, place, _in_blocks(size_bytes), journal=True)
    if os.geteuid() == 0:
        try:
            images.give_to(disk.path, uid, gid)
        except BaseException:
            disk.detach()
            raise
    return disk


def attach_container_disk(plan: DiskPlan, workload: str, *, size_bytes: int, uid: int, gid: int) -> Disk:  # noqa: ARG001
    """Attach the incarnation's container disk, empty at first, kept until `remove_container_disk`.

    Its top stays ours; the folders that are made in it for the pod are the caller's to give away. It has no journal:
    after a crash of the machine nobody needs it. Raises DiskFullError.
    """
    return _attach(plan, container_disk_place(plan, workload), _in_blocks(size_bytes), journal=False)


def _in_blocks(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK) * _BLOCK


def _attach(plan: DiskPlan, place: DiskPlace, size_bytes: int, *, journal: bool) -> Disk:
    place.prepare()
    with locked(place.gate):
        if not plan.images:
            promise_folder(plan, place, size_bytes)
            place.folder.mkdir(mode=0o700, exist_ok=True)
            tolerated = _tolerated(size_of_folder(place).used_bytes, size_bytes) if journal else 0
            return _Folder(plan, place, size_bytes, hold(place), tolerated)
        had = images.size_of(place.image)
        if size_bytes > had:
            with promising(plan, size_bytes - had):
                images.lengthen(place.image, size_bytes) if had else images.make(
                    place.image,
                    size_bytes,
                    blanks=disks_home(plan.data_dir) / ".blank",
                    tools=plan.tools,
                    journal=journal,
                )
        users = hold(place)
        try:
            path, has = images.mount(place.image, place.at, tools=plan.tools, journal=journal)
        except BaseException:
            os.close(users)
            raise
        return _Image(place, path, has, users)


def _tolerated(used_bytes: int, size_bytes: int) -> int:
    """Return by how much a volume may exceed its size that is full when it is attached: its owner shall get in."""
    if used_bytes < size_bytes - size_bytes // 100:
        return 0
    return max(0, min(used_bytes, 2 * size_bytes) - size_bytes) + _TOLERATED_BYTES


class _Image:
    """A disk in a loop-mounted image."""

    def __init__(self, place: DiskPlace, path: Path, size_bytes: int, users: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._place = place
        self._users = users

    def used_bytes(self) -> int:
        facts = os.statvfs(self.path)
        return (facts.f_blocks - facts.f_bfree) * facts.f_frsize

    def overrun(self) -> bool:
        return False

    def detach(self) -> None:
        if self._users < 0:
            return
        with locked(self._place.gate):
            os.close(self._users)
            self._users = -1
            _unmount_unused(self._place)


class _Folder:
    """A disk that is a folder."""

    def __init__(self, plan: DiskPlan, place: DiskPlace, size_bytes: int, users: int, tolerated_bytes: int) -> None:
        self.path = place.folder
        self.size_bytes = size_bytes
        self._plan = plan
        self._place = place
        self._users = users
        self._tolerated_bytes = tolerated_bytes

    def used_bytes(self) -> int:
        return measure_folder(self._plan, self._place).used_bytes

    def overrun(self) -> bool:
        found = measure_folder(self._plan, self._place)
        # It may have grown since it was attached.
        return found.used_bytes > max(self.size_bytes, found.promised_bytes) + self._tolerated_bytes

    def detach(self) -> None:
        if self._users >= 0:
            os.close(self._users)
            self._users = -1


def _unmount_unused(place: DiskPlace) -> bool:
    """Unmount when no live shim holds the disk; the gate is held. Tells whether it was mounted and is not any more."""
    if not images.is_mounted(place.at):
        return False
    with suppress(DiskInUseError), alone(place):
        images.unmount(place.at)
        return True
    return False


def remove_container_disk(plan: DiskPlan, workload: str) -> None:
    """Delete the disk of an ended incarnation (in a subprocess where it is a folder); may be repeated."""
    place = container_disk_place(plan, workload)
    if not place.home.is_dir():
        return
    place.prepare()
    with locked(place.gate):
        if images.is_mounted(place.at):
            images.unmount(place.at)
        _delete(plan, place)


def _delete(plan: DiskPlan, place: DiskPlace) -> None:
    """Delete a disk that is not mounted; the gate is held. Its promise goes last: one cut short still counts."""
    with suppress(FileNotFoundError):
        place.at.rmdir()
    place.image.unlink(missing_ok=True)
    if place.folder.exists():
        delete_tree(plan, place.folder)
    for path in (place.size, place.users, place.gate):
        path.unlink(missing_ok=True)


def remove_volume(plan: DiskPlan, volume_id: str) -> None:
    """Delete a volume with its data; may be repeated, also after one that was cut short. Raises DiskInUseError."""
    place = volume_place(plan, volume_id)
    if not place.home.is_dir():
        return
    place.prepare()
    with locked(place.gate), alone(place):
        if images.is_mounted(place.at):
            images.unmount(place.at)
        _delete(plan, place)


def volumes_there(data_dir: Path) -> list[str]:
    """Return the ids of the volumes that were made below a data directory, for a backup."""
    home = volumes_home(data_dir)
    return sorted({path.stem for kind in ("*.img", "*.size") for path in home.glob(kind) if path.name[0] != "."})


@contextmanager
def at_rest(data_dir: Path, volume_id: str) -> Iterator[list[Path]]:
    """Yield the files of a volume that nobody uses, and let nobody attach it meanwhile. Raises DiskInUseError."""
    place = DiskPlace(volumes_home(data_dir), volume_id)
    place.prepare()
    with locked(place.gate), alone(place):
        if images.is_mounted(place.at):
            images.unmount(place.at)
        yield [path for path in (place.image, place.folder, place.size) if path.exists()]


def grow_volume(plan: DiskPlan, volume_id: str, size_bytes: int) -> bool:
    """Let a volume that is there be larger, at once where that goes; tell whether it is. Raises DiskFullError.

    Where it is not at once, the next `attach_volume` that finds it used by nobody makes it so.
    """
    place, size_bytes = volume_place(plan, volume_id), _in_blocks(size_bytes)
    if not place.exists(images=plan.images):
        return True
    with locked(place.gate):
        if not plan.images:
            promise_folder(plan, place, size_bytes)
            return True
        had = images.size_of(place.image)
        if size_bytes > had:
            with promising(plan, size_bytes - had):
                images.lengthen(place.image, size_bytes)
        if not images.is_mounted(place.at):
            return True
        _, has = images.mount(place.image, place.at, tools=plan.tools, journal=True)
        return images.fills(has, place.image)


def sweep(plan: DiskPlan) -> int:
    """Unmount what dead shims left mounted, and tell how many; contents stay."""
    count = 0
    for home in plan.homes:
        for at in sorted(home.glob("*.at")) if home.is_dir() else ():
            place = DiskPlace(home, at.name.removesuffix(".at"))
            place.prepare()
            with locked(place.gate):
                count += _unmount_unused(place)
    return count


def delete_tree(plan: DiskPlan, directory: Path) -> None:
    """Delete a folder whatever is in it (deep, unreadable, full of links), in a subprocess; may be repeated."""
    if directory.is_symlink():
        directory.unlink()
        return
    remove = [*plan.tools.rm, "-rf", "--one-file-system", "--", str(directory)]
    try:
        run(remove, timeout_seconds=_DELETE_SECONDS)
    except ToolFailedError:
        # Folders that their owner closed to himself; root never comes here.
        with suppress(ToolFailedError):
            run([*plan.tools.chmod, "-R", "u+rwX", "--", str(directory)], timeout_seconds=_DELETE_SECONDS)
        run(remove, timeout_seconds=_DELETE_SECONDS)
