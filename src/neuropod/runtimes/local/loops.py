"""Loop devices: an image file as a block device, without `losetup` and its race. Root only; called by `disks`.

An image must never be behind two devices at a time: two mounts of it would not know of each other and destroy it. So
a device that has the image already is taken again; mounted twice, one device is one file system.
"""

import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_CAPACITY = 0x4C07
_AUTOCLEAR = 4  # the kernel frees the device when nothing has it open any more: a crash leaves none
_STATUS = struct.Struct("QQQQQIIII64s64s32s2Q")
_CONFIGURE = struct.Struct(f"II{_STATUS.size}s8Q")
_TRIES = 50


@contextmanager
def device_of(image: int) -> Iterator[tuple[str, int]]:
    """Yield the device (path and descriptor) that has the image open; mount it within the block."""
    fd = -1
    try:
        path, fd = _found(image) or _configured(image)
        yield path, fd
    finally:
        if fd >= 0:
            os.close(fd)


@contextmanager
def device_if_any(image: int) -> Iterator[int | None]:
    """Yield the descriptor of the device that has the image open, None when none has."""
    found = _found(image)
    try:
        yield None if found is None else found[1]
    finally:
        if found is not None:
            os.close(found[1])


def set_capacity(device: int) -> None:
    """Let the device be as large as its image has become."""
    fcntl.ioctl(device, _LOOP_SET_CAPACITY, 0)


def _found(image: int) -> tuple[str, int] | None:
    facts = os.fstat(image)
    for place in Path("/sys/block").glob("loop*/loop/backing_file"):
        number = int(re.sub(r"\D", "", place.parts[3]))
        with suppress(OSError):
            fd = _open(number)
            if _backing(fd) == (facts.st_dev, facts.st_ino):
                return f"/dev/loop{number}", fd
            os.close(fd)
    return None


def _backing(device: int) -> tuple[int, int] | None:
    """Return device and inode of the file behind a device; None for one that is free."""
    buffer = bytearray(_STATUS.size)
    try:
        fcntl.ioctl(device, _LOOP_GET_STATUS64, buffer)
    except OSError:
        return None
    backing_device, inode = struct.unpack_from("QQ", buffer)
    # The kernel writes the device as `huge_encode_dev` does, which is how stat tells it.
    return backing_device, inode


def _configured(image: int) -> tuple[str, int]:
    name = bytes(Path(f"/proc/self/fd/{image}").readlink())[:63]
    status = _STATUS.pack(0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR, name, b"", b"", 0, 0)
    order = _CONFIGURE.pack(image, 0, status, *[0] * 8)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            fd = _open(number)
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, order)
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EBUSY:  # somebody else took it meanwhile
                    raise
            else:
                return f"/dev/loop{number}", fd
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device stays free")


def _open(number: int) -> int:
    path = f"/dev/loop{number}"
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # A /dev that nobody fills, as in a container.
        os.mknod(path, 0o60600, os.makedev(7, number))
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
