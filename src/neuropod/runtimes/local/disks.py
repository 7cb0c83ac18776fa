"""Disks with a size that holds: volumes and container disks, as loop-mounted images (root) or measured folders (user).

Called by the server (`room_bytes`, `capacity_bytes`, `delete_tree`, `sweep`, and `keeping` for volumes) and by each
pod's shim (`attach_volume`, `attach_container_disk`, `overrun`). Nothing below a pod's own folder is ever followed by
name (SECURITY 5).

Below `<data dir>`, root-only (0700); `<name>` is the volume's id or the incarnation's key:

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
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from neuropod.runtimes.local import images, linux
from neuropod.runtimes.local.tools import ToolFailedError, Tools, run

_VOLUMES, _DISKS = "volumes", "disks"
_BLOCK = 4096
_INODE_BYTES = 512  # what a file costs that has no content: else they are free, and fill the disk's table
_DELETE_SECONDS = 3600.0
_SCAN_SECONDS = 3600.0
_ENDLESS = 1 << 60
_TOLERATED_BYTES = (
    16 << 20
)  # over the size of a volume that is a folder: else a full one would end each new run at once


class DiskFullError(Exception):
    """The data disk has no room for what would be promised; the sentence says how much there is."""


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
        return Path(self.data_dir, _VOLUMES), Path(self.data_dir, _DISKS)


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


@dataclass(frozen=True, slots=True)
class _Place:
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


def _place(plan: DiskPlan, kind: str, name: str) -> _Place:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} cannot name a disk")
    return _Place(Path(plan.data_dir, kind), name)


def attach_volume(plan: DiskPlan, volume_id: str, *, size_bytes: int, uid: int, gid: int) -> Disk:
    """Attach the volume, made at first use and grown when larger is asked; shared with the user's other pods.

    Raises DiskFullError.
    """
    place = _place(plan, _VOLUMES, volume_id)
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
    return _attach(plan, _place(plan, _DISKS, workload), _in_blocks(size_bytes), journal=False)


def _in_blocks(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK) * _BLOCK


def _attach(plan: DiskPlan, place: _Place, size_bytes: int, *, journal: bool) -> Disk:
    place.prepare()
    with _locked(place.gate):
        if not plan.images:
            _promise_folder(plan, place, size_bytes)
            place.folder.mkdir(mode=0o700, exist_ok=True)
            tolerated = _tolerated(size_of_folder(place).used_bytes, size_bytes) if journal else 0
            return _Folder(plan, place, size_bytes, _hold(place.users), tolerated)
        had = images.size_of(place.image)
        if size_bytes > had:
            with _promising(plan, size_bytes - had):
                images.lengthen(place.image, size_bytes) if had else images.make(
                    place.image,
                    size_bytes,
                    blanks=Path(plan.data_dir, _DISKS, ".blank"),
                    tools=plan.tools,
                    journal=journal,
                )
        users = _hold(place.users)
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

    def __init__(self, place: _Place, path: Path, size_bytes: int, users: int) -> None:
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
        with _locked(self._place.gate):
            os.close(self._users)
            self._users = -1
            _unmount_unused(self._place)


class _Folder:
    """A disk that is a folder."""

    def __init__(self, plan: DiskPlan, place: _Place, size_bytes: int, users: int, tolerated_bytes: int) -> None:
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


def measure_folder(plan: DiskPlan, place: "_Place") -> "Size":
    """Measure a disk that is a folder, and write down what was found (run it in a thread)."""
    used = measure(plan.tools, place.folder)
    with _locked(place.gate):
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
    return _used(plan, _place(plan, _VOLUMES, volume_id))


def used_by_container_disk(plan: DiskPlan, workload: str) -> int | None:
    """Tell how much a container disk holds, without a scan; None when it is not there."""
    return _used(plan, _place(plan, _DISKS, workload))


def _used(plan: DiskPlan, place: _Place) -> int | None:
    with suppress(OSError, ValueError):
        if not plan.images:
            return _read_size(place.size).used_bytes  # as its shim measured it last
        if images.is_mounted(place.at):
            facts = os.statvfs(place.at)
            return (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        return place.image.lstat().st_blocks * 512
    return None


def _unmount_unused(place: _Place) -> bool:
    """Unmount when no live shim holds the disk; the gate is held. Tells whether it was mounted and is not any more."""
    if not images.is_mounted(place.at):
        return False
    fd = os.open(place.users, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        images.unmount(place.at)
        return True
    finally:
        os.close(fd)


def remove_container_disk(plan: DiskPlan, workload: str) -> None:
    """Delete the disk of an ended incarnation (in a subprocess where it is a folder); may be repeated."""
    place = _place(plan, _DISKS, workload)
    if not place.home.is_dir():
        return
    place.prepare()
    with _locked(place.gate):
        if images.is_mounted(place.at):
            images.unmount(place.at)
        _delete(plan, place)


def _delete(plan: DiskPlan, place: _Place) -> None:
    """Delete a disk that is not mounted; the gate is held. Its promise goes last: one cut short still counts."""
    with suppress(FileNotFoundError):
        place.at.rmdir()
    place.image.unlink(missing_ok=True)
    if place.folder.exists():
        delete_tree(plan, place.folder)
    for path in (place.size, place.users, place.gate):
        path.unlink(missing_ok=True)


def volume_place(plan: DiskPlan, volume_id: str) -> _Place:
    """Return where a volume is; it is there when `exists` of it says so."""
    return _place(plan, _VOLUMES, volume_id)


def remove_volume(plan: DiskPlan, volume_id: str) -> None:
    """Delete a volume with its data; may be repeated, also after one that was cut short. Raises DiskInUseError."""
    place = _place(plan, _VOLUMES, volume_id)
    if not place.home.is_dir():
        return
    place.prepare()
    with _locked(place.gate):
        users = os.open(place.users, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if images.is_mounted(place.at):
                images.unmount(place.at)
            _delete(plan, place)
        except BlockingIOError:
            raise DiskInUseError(f"a pod uses {volume_id}") from None
        finally:
            os.close(users)


def volumes_there(data_dir: Path) -> list[str]:
    """Return the ids of the volumes that were made below a data directory, for a backup."""
    home = data_dir / _VOLUMES
    return sorted({path.stem for kind in ("*.img", "*.size") for path in home.glob(kind) if path.name[0] != "."})


@contextmanager
def at_rest(data_dir: Path, volume_id: str) -> Iterator[list[Path]]:
    """Yield the files of a volume that nobody uses, and let nobody attach it meanwhile. Raises DiskInUseError."""
    place = _Place(data_dir / _VOLUMES, volume_id)
    place.prepare()
    with _locked(place.gate):
        users = _hold(place.users)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if images.is_mounted(place.at):
                images.unmount(place.at)
            yield [path for path in (place.image, place.folder, place.size) if path.exists()]
        except BlockingIOError:
            raise DiskInUseError(f"a pod uses {volume_id}") from None
        finally:
            os.close(users)


def grow_volume(plan: DiskPlan, volume_id: str, size_bytes: int) -> bool:
    """Let a volume that is there be larger, at once where that goes; tell whether it is. Raises DiskFullError.

    Where it is not at once, the next `attach_volume` that finds it used by nobody makes it so.
    """
    place, size_bytes = _place(plan, _VOLUMES, volume_id), _in_blocks(size_bytes)
    if not place.exists(images=plan.images):
        return True
    with _locked(place.gate):
        if not plan.images:
            _promise_folder(plan, place, size_bytes)
            return True
        had = images.size_of(place.image)
        if size_bytes > had:
            with _promising(plan, size_bytes - had):
                images.lengthen(place.image, size_bytes)
        if not images.is_mounted(place.at):
            return True
        _, has = images.mount(place.image, place.at, tools=plan.tools, journal=True)
        return images.fills(has, place.image)


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
def _promising(plan: DiskPlan, bytes_more: int) -> Iterator[None]:
    """Check that there is room, and let nobody else check until the promise stands."""
    home = Path(plan.data_dir, _DISKS)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(home / ".room"):
        room = room_bytes(plan)
        if bytes_more > room:
            raise DiskFullError(
                f"The data disk has room for {room // 10**6} MB more, and {bytes_more // 10**6} MB were asked for."
            )
        yield


def _promise_folder(plan: DiskPlan, place: _Place, size_bytes: int) -> None:
    had = size_of_folder(place)
    if size_bytes > had.promised_bytes:
        with _promising(plan, size_bytes - had.promised_bytes):
            _write_size(place.size, replace(had, promised_bytes=size_bytes))


@dataclass(frozen=True, slots=True)
class Size:
    """What stands in a folder's `.size`; `measured_at` is in seconds since 1970, 0 for never."""

    promised_bytes: int = 0
    used_bytes: int = 0
    measured_at: int = 0


def _read_size(path: Path) -> Size:
    return Size(*(int(word) for word in path.read_text().split()))


def size_of_folder(place: _Place) -> Size:
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


def sweep(plan: DiskPlan) -> int:
    """Unmount what dead shims left mounted, and tell how many; contents stay."""
    count = 0
    for home in plan.homes:
        for at in sorted(home.glob("*.at")) if home.is_dir() else ():
            place = _Place(home, at.name.removesuffix(".at"))
            place.prepare()
            with _locked(place.gate):
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


def _hold(path: Path) -> int:
    """Take a shared lock that lasts as long as the descriptor; the gate is held, so nobody has it exclusively."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


@contextmanager
def _locked(path: Path) -> Iterator[None]:
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
