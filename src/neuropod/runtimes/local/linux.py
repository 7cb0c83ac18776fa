"""The few system calls that Python 3.11 has no name for. Used by `shim`, `spawn` and `launcher`'s parent; Linux only.

Each function raises OSError with the kernel's own number. Standard library only.
"""

import ctypes
import os
import platform
import signal
import struct
import time

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
_SECCOMP_MODE_FILTER = 2
_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING = 1
_KEYCTL_NUMBER = {"x86_64": 250, "aarch64": 219}
PIDFD_SIGNAL_PROCESS_GROUP = 4  # Linux 6.9


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, value: int = 0) -> None:
    """Call prctl with one value."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def die_with_parent(parent: int) -> None:
    """Get SIGKILL when the thread that started this process ends; at once if `parent` is gone already."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def set_process_name(name: str) -> None:
    """Set what `ps -o comm` and `top` show (15 characters)."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _check(_libc.prctl(PR_SET_NAME, buffer, 0, 0, 0))


def join_new_session_keyring() -> None:
    """Leave the session keyring that was inherited for an empty one of its own (SECURITY 4)."""
    number = _KEYCTL_NUMBER.get(platform.machine())
    if number is not None:
        _check(_libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None))


def wall_time() -> float:
    """Return the seconds since the epoch; the only reading of the wall clock beside pods (kit.clock brings asyncio)."""
    return time.time()


def signal_group(pidfd: int, pid: int, number: int) -> bool:
    """Send a signal to the process group that `pid`, held by `pidfd`, leads; False when it has ended.

    The descriptor keeps the number from meaning another process (SECURITY 8). Kernels before 6.9 cannot send to the
    group by descriptor: there a null signal by descriptor proves that the leader lives just before.
    """
    try:
        try:
            signal.pidfd_send_signal(pidfd, number, None, PIDFD_SIGNAL_PROCESS_GROUP)
        except OSError as error:
            if isinstance(error, ProcessLookupError):
                raise
            signal.pidfd_send_signal(pidfd, 0)
            os.killpg(pid, number)
    except ProcessLookupError:
        return False
    return True


def drop_bounding_capabilities() -> None:
    """Let nothing that this process becomes have a capability: empty the bounding and the ambient set."""
    number = 0
    while _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) == 0:
        number += 1
    if number == 0:
        _check(-1)
    prctl(PR_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)


def clear_capabilities() -> None:
    """Give up the capabilities that this process has."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)))


def load_filter(program: bytes) -> None:
    """Load a seccomp filter (an array of struct sock_filter), for good; needs no_new_privs or a capability."""
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: an unsigned short, then, aligned, a pointer.
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    fprog = ctypes.create_string_buffer(head, len(head))
    _check(_libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), fprog, 0, 0))


def blank_arguments() -> None:
    """Overwrite this process's own argument list, which every process that sees it in /proc may read."""
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - in the child of a fork, with as little as can be
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if start and end > start:
        ctypes.memset(start, 0, end - start)


CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOATIME = 1024
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    _check(_libc.unshare(flags))


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that `fd` names, or those kinds of the process that it holds (a pidfd, Linux 5.8)."""
    _check(_libc.setns(fd, kind))


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system."""
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()))


def umount(target: str, flags: int = 0) -> None:
    """Unmount what is mounted at `target`."""
    _check(_libc.umount2(target.encode(), flags))
