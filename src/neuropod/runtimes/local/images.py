"""An ext4 file system in a sparse file: made, lengthened, mounted once, its root given away. Root only.

Called by `disks`, which holds the disk's gate meanwhile.
"""

import errno
import os
import struct
import time
from contextlib import suppress
from pathlib import Path

from neuropod.runtimes.local import linux, loops
from neuropod.runtimes.local.tools import ToolFailedError, Tools, run

_FILES = "files"  # what the pod gets: the top has a lost+found of root's in it
_MODE = 0o755
_FLAGS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOATIME
_SLACK_BYTES = 4 << 20  # what mkfs leaves unused at the end, where a last group would hold nothing but its tables
_KERNEL_KEEPS_BYTES, _KERNEL_KEEPS_SHARE = 16 << 20, 50  # of a mounted ext4, whichever is less
_MAKE_SECONDS = 120.0
_GROW_SECONDS = 600.0
_FREED_SECONDS = 2.0


def size_of(image: Path) -> int:
    """Return the image's size; 0 when there is none."""
    try:
        return image.lstat().st_size
    except FileNotFoundError:
        return 0


def make(image: Path, size_bytes: int, *, blanks: Path, tools: Tools, journal: bool) -> None:
    """Let there be an empty file system of that size; all or nothing."""
    blank = _blank(blanks, size_bytes, tools, journal=journal)
    coming = image.with_name(f".{image.name}.{os.getpid()}")
    try:
        _copy_sparse(blank, coming, size_bytes)
        coming.rename(image)
    finally:
        coming.unlink(missing_ok=True)


def _blank(blanks: Path, size_bytes: int, tools: Tools, *, journal: bool) -> Path:
    """Return an empty file system of that size and kind, made when it is the first."""
    blank = blanks / f"{size_bytes}{'-journal' if journal else ''}.blank"
    if blank.exists():
        return blank
    blanks.mkdir(mode=0o700, exist_ok=True)
    coming = blank.with_name(f".{blank.name}.{os.getpid()}")
    try:
        _truncate(coming, size_bytes)
        features = "has_journal" if journal else "^has_journal"
        # Reserve nothing for root, and leave tables unwritten: the file reads as zeros where nothing was written.
        extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"
        options = ["-q", "-F", "-b", "4096", "-m", "0", "-O", features, "-E", extended]
        run([*tools.mkfs_ext4, *options, str(coming)], timeout_seconds=_MAKE_SECONDS)
        coming.rename(blank)
    finally:
        coming.unlink(missing_ok=True)
    return blank


def _copy_sparse(source: Path, target: Path, size_bytes: int) -> None:
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(writing, size_bytes)
            at = 0
            while True:
                try:
                    begin = os.lseek(reading, at, os.SEEK_DATA)
                except OSError:  # no data after this
                    return
                at = os.lseek(reading, begin, os.SEEK_HOLE)
                while begin < at:
                    begin += os.copy_file_range(reading, writing, at - begin, begin, begin)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def lengthen(image: Path, size_bytes: int) -> None:
    """Let the file be longer; the file system follows at the next `mount`."""
    _truncate(image, size_bytes)


def _truncate(path: Path, size_bytes: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size_bytes)
    finally:
        os.close(fd)


def is_mounted(at: Path) -> bool:
    """Tell whether something is mounted there."""
    try:
        return at.lstat().st_dev != at.parent.stat().st_dev
    except FileNotFoundError:
        return False


def mount(image: Path, at: Path, *, tools: Tools, journal: bool) -> tuple[Path, int]:
    """Let the image be mounted at `at` and as large as its file.

    Returns the folder in it that is for the pod, and the size that it has now: a kernel that grows no mounted file
    system, as in some containers, leaves it as it is until nobody else uses it.
    """
    at.mkdir(mode=0o700, exist_ok=True)
    # The tables are not written later either: a disk of 100 GB would take 1.6 GB by that.
    options = "noinit_itable,discard" if journal else "noinit_itable"
    mounted = is_mounted(at)
    fd = os.open(image, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with loops.device_of(fd) as (device, device_fd):
            if not mounted:
                linux.mount(device, str(at), "ext4", _FLAGS, options)
            try:
                size = _fill(fd, device, device_fd, tools)
                if size + _SLACK_BYTES < os.fstat(fd).st_size and not mounted:
                    unmount(at)
                    if _is_free(device):
                        _fill_unmounted(device, tools)
                    linux.mount(device, str(at), "ext4", _FLAGS, options)
                    size = _size(device_fd)
                _make_files(at)
            except BaseException:
                if not mounted:
                    unmount(at)
                raise
    finally:
        os.close(fd)
    return at / _FILES, size


def _fill(image: int, device: str, device_fd: int, tools: Tools) -> int:
    """Grow the mounted file system to the size of its file, if that goes; return the size it has then."""
    if os.fstat(image).st_size > _size(device_fd) + _SLACK_BYTES:
        loops.set_capacity(device_fd)
        with suppress(ToolFailedError):  # it takes CAP_SYS_RESOURCE
            run([*tools.resize2fs, device], timeout_seconds=_GROW_SECONDS)
    return _size(device_fd)


def grows_later(image: Path) -> bool:
    """Tell whether a mounted image's file system has not yet followed its file."""
    fd = os.open(image, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with loops.device_if_any(fd) as device:
            return device is not None and not fills(_size(device), image)
    finally:
        os.close(fd)


def free_bytes(image: Path) -> int:
    """Return what is free for people on an image that is not mounted, from its superblock."""
    fd = os.open(image, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        superblock = os.pread(fd, 1024, 1024)
    finally:
        os.close(fd)
    low, log_size, high = (struct.unpack_from("<I", superblock, at)[0] for at in (0x0C, 0x18, 0x158))
    free = int((low | high << 32) * (1024 << log_size))
    return max(0, free - min(_KERNEL_KEEPS_BYTES, size_of(image) // _KERNEL_KEEPS_SHARE))


def fills(size_bytes: int, image: Path) -> bool:
    """Tell whether a file system of that size takes all of its file."""
    return size_bytes + _SLACK_BYTES >= size_of(image)


def _is_free(device: str) -> bool:
    """Tell whether no mount namespace has it mounted; one that copied ours may last as long as its program starts."""
    end = time.monotonic() + _FREED_SECONDS
    while True:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        else:
            return True


def _fill_unmounted(device: str, tools: Tools) -> None:
    run([*tools.e2fsck, "-f", "-p", device], timeout_seconds=_GROW_SECONDS, good=frozenset({0, 1}))
    run([*tools.resize2fs, device], timeout_seconds=_GROW_SECONDS)


def _size(device: int) -> int:
    """Return the file system's size in bytes, from its superblock."""
    superblock = os.pread(device, 1024, 1024)
    low, log_size, high = (struct.unpack_from("<I", superblock, at)[0] for at in (0x04, 0x18, 0x150))
    return int((low | high << 32) * (1024 << log_size))


def _make_files(at: Path) -> None:
    top = os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with suppress(FileExistsError):
            os.mkdir(_FILES, _MODE, dir_fd=top)
    finally:
        os.close(top)


def give_to(folder: Path, uid: int, gid: int) -> None:
    """Let the folder itself belong to the pod's user; nothing in it is touched, no link is followed (SECURITY 5)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = os.fstat(fd)
        if (facts.st_uid, facts.st_gid) != (uid, gid):
            os.fchown(fd, uid, gid)
            os.fchmod(fd, _MODE)
    finally:
        os.close(fd)


def unmount(at: Path) -> None:
    """Let nothing be mounted there; who is still in it keeps it until he leaves."""
    while is_mounted(at):
        try:
            linux.umount(str(at), linux.UMOUNT_NOFOLLOW)
        except OSError:
            linux.umount(str(at), linux.UMOUNT_NOFOLLOW | linux.MNT_DETACH)
