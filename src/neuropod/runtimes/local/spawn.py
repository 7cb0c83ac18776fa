"""Starting a sandbox: one fork, descriptors in their places, limits, cgroup, execve. Called by `shim` alone.

The shim has one thread, so Python may run between fork and exec. Standard library only.
"""

import fcntl
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from neuropod.runtimes.local import launcher, linux
from neuropod.runtimes.local.sandbox import CHANNEL_FD, Sandbox
from neuropod.runtimes.local.state import ProcessId

_LOG_PIPE_BYTES = 1 << 20
_OPEN_FILES = 65536
_OOM_SCORE = "500"  # under pressure of the whole machine pods go before the server
_CREDENTIALS = struct.Struct("3i")


@dataclass(slots=True)
class Started:
    """A sandbox on its way: the process to wait for, the launcher's socket, the log's reading end."""

    pid: int
    pidfd: int
    channel: socket.socket
    output: int


def start(
    sandbox: Sandbox,
    *,
    inside: Callable[[], AbstractContextManager[None]],
    enter_cgroup: Callable[[int], None],
    owner: tuple[int, int] | None,
) -> Started:
    """Start it. `owner` (uid, gid) gets the output pipe, so that the pod may open /dev/stdout again."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):  # an ordinary user may have reached the sum of all pipes: a smaller one does
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _LOG_PIPE_BYTES)
    if owner is not None:
        os.fchown(writing, *owner)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    files = {number: _memory_file(content) for number, content in sandbox.files.items()}
    places = {0: os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 1: writing, 2: writing, CHANNEL_FD: theirs.fileno()}
    places |= files
    parent = os.getpid()
    with inside():
        pid = os.fork()
        if pid == 0:
            _become(sandbox, places, parent, enter_cgroup)
    for fd in {*files.values(), places[0], writing}:
        os.close(fd)
    theirs.close()
    os.set_blocking(reading, False)
    return Started(pid, os.pidfd_open(pid), ours, reading)


def _memory_file(content: bytes) -> int:
    fd = os.memfd_create("neuropod", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _become(sandbox: Sandbox, places: dict[int, int], parent: int, enter_cgroup: Callable[[int], None]) -> None:
    """Run in the child; never returns."""
    try:
        linux.die_with_parent(parent)
        enter_cgroup(os.getpid())
        be_like_a_pod()
        move(places)
        os.execve(sandbox.argv[0], sandbox.argv, {})  # noqa: S606 - a list, and no shell is wanted
    except BaseException as error:  # noqa: BLE001 - a forked child must never return into the shim's loop
        with suppress(OSError):
            os.write(places[2], f"neuropod: the sandbox cannot be started: {error}\n".encode())
    finally:
        os._exit(125)


def be_like_a_pod() -> None:
    """Give this process, which is about to become one of a pod, what it shall not have from the shim."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    os.chdir("/")


def move(places: dict[int, int]) -> None:
    """Let descriptors stand in their places, from where whatever is executed inherits them."""
    # First out of the way of the places, then into them: a place may be the number of another one's source.
    above = max(places) + 1
    moved = {place: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for place, fd in places.items()}
    for place, fd in moved.items():
        os.dup2(fd, place, inheritable=True)


@dataclass(frozen=True, slots=True)
class Hello:
    """The launcher has said hello: its process, as the kernel attests it, held by a descriptor."""

    process: ProcessId
    pidfd: int
    uid: int


def hear_hello(channel: socket.socket) -> Hello | None:
    """Take the launcher's hello; None when the sandbox ended without one.

    The launcher waits for its order meanwhile, so the number still means it when the descriptor is opened.
    """
    try:
        data, ancillary, _, _ = channel.recvmsg(64, socket.CMSG_SPACE(_CREDENTIALS.size))
    except ConnectionResetError:
        return None
    if data != launcher.HELLO:
        return None
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, uid, _ = _CREDENTIALS.unpack(raw[: _CREDENTIALS.size])
            with suppress(ProcessLookupError):  # killed meanwhile
                return Hello(ProcessId.of(pid), os.pidfd_open(pid), uid)
    return None


def give_order(
    channel: socket.socket,
    *,
    command: tuple[str, ...],
    env: dict[str, str],
    cwd: str,
    venv: tuple[str, str, str] | None,
) -> None:
    """Send the launcher what to become. Small orders fit the buffer; the launcher reads large ones as they come."""
    channel.settimeout(10)
    with suppress(ConnectionError):  # killed meanwhile: its end comes next
        channel.sendall(launcher.encode_order(command, env, cwd, venv or ("", "", "")))
    channel.setblocking(False)


def hear_outcome(channel: socket.socket) -> str | None:
    """Return None when the launcher became the command (its socket closed), else why it could not."""
    try:
        data = channel.recv(65536)
    except (ConnectionResetError, BlockingIOError):
        return None
    return data.decode("utf-8", "replace") if data else None
