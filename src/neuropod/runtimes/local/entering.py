"""Going into a running pod: one more process beside the pod's own, bound by all that binds that one (SECURITY 1, 4).

Called by `execs` in the shim, which has one thread. Two forks: the first child takes the pod's cgroup and enters its
namespaces; only a child of that one is in the PID namespace. That second child drops user and capabilities, takes a new
keyring, makes the terminal, loads the filter and becomes the launcher, which starts with an empty environment, says
hello, and gets command and variables by its socket, as at the pod's own start.

The pod is hostile and sees the second child from its first moment. So the child cannot be traced, nor its descriptors
or memory be read, until it has become the launcher (it is not dumpable, and until the drop of another user or with
capabilities in the pod's user namespace); nothing is imported once the pod's files are in sight; its argument list is
blank; it has no descriptor but those it hands on. What the launcher says afterwards may come from the pod: it is
looked at as such. The reasons at length: docs/decisions/a-command-enters-from-outside.md. Standard library only.
"""

import fcntl
import gc
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from neuropod.runtimes.local import linux, spawn
from neuropod.runtimes.local.sandbox import CHANNEL_FD, INTERPRETER

TERMINAL = b"t"  # what comes with the terminal's other end, before the launcher's hello
TROUBLE = b"!"  # then a sentence: it did not get as far as the launcher

_MAIN_FD = CHANNEL_FD + 1  # the process whose namespaces are entered
_REPORT_FD = CHANNEL_FD + 2  # where the first child writes the second one's number
_NAMESPACES = (
    linux.CLONE_NEWNS
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
    | linux.CLONE_NEWCGROUP
)
_PTMX = "/dev/ptmx"  # the pod's own, in its /dev
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_IUTF8 = 0o40000  # backspace in a line takes a whole character


@dataclass(frozen=True, slots=True)
class Entrance:
    """How a pod is entered: `isolated` with the namespaces of `main` (a pidfd), else (mode `none`) as we are."""

    isolated: bool
    user_namespace: bool  # it has one of its own, in which the user is what it is already
    uid: int
    gid: int
    main: int
    launcher: str
    bpf: bytes


@dataclass(slots=True)
class Entered:
    """A process on its way in: the first child, which has to be waited for, the launcher's socket, our ends."""

    helper: int
    report: int | None  # where the helper tells the command's process number; None: it is that process itself
    channel: socket.socket
    streams: tuple[int, ...]  # standard input, output, error; none for a terminal, whose other end is yet to come


def enter(entrance: Entrance, *, size: tuple[int, int] | None, enter_cgroup: Callable[[int], None]) -> Entered:
    """Start a process in the pod; `size` (rows, columns) asks for a terminal."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    streams: tuple[int, ...] = ()
    if size is None:
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        inner = [pipes[0][0], pipes[1][1], pipes[2][1]]
        streams = (pipes[0][1], pipes[1][0], pipes[2][0])
        if entrance.isolated and not entrance.user_namespace:
            for fd in inner:  # so that the pod may open /dev/stdout again
                os.fchown(fd, entrance.uid, entrance.gid)
    else:
        inner = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for _ in range(3)]
    report, reporting = os.pipe2(os.O_CLOEXEC)
    places = {0: inner[0], 1: inner[1], 2: inner[2], CHANNEL_FD: theirs.fileno()}
    places |= {_MAIN_FD: entrance.main, _REPORT_FD: reporting}
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        for fd in (*inner, *streams, report, reporting, ours.detach(), theirs.detach()):
            os.close(fd)
        raise
    if pid == 0:
        _go_in(entrance, places, size, parent, enter_cgroup)
    for fd in (*inner, reporting):
        os.close(fd)
    theirs.close()
    ours.setblocking(False)
    for fd in streams:
        os.set_blocking(fd, False)
    if not entrance.isolated:
        os.close(report)
        return Entered(pid, None, ours, streams)
    return Entered(pid, report, ours, streams)


def _go_in(
    entrance: Entrance,
    places: dict[int, int],
    size: tuple[int, int] | None,
    parent: int,
    enter_cgroup: Callable[[int], None],
) -> None:
    """Run in the child; never returns."""
    channel = places[CHANNEL_FD]
    try:
        gc.disable()  # an object that goes would close a descriptor that means something else by now
        if not entrance.isolated:
            linux.die_with_parent(parent)  # else it dies with the PID namespace
        enter_cgroup(os.getpid())
        spawn.be_like_a_pod()
        linux.set_process_name("np-exec")
        linux.blank_arguments()
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        spawn.move(places)
        channel = CHANNEL_FD
        os.closerange(_REPORT_FD + 1, 65536)
        # An import from here on would look for files at our paths in the pod's tree: there shall be none.
        for places_of_modules in (sys.path, sys.meta_path, sys.path_hooks):
            places_of_modules.clear()
        if entrance.isolated:
            linux.setns(_MAIN_FD, _NAMESPACES | (linux.CLONE_NEWUSER if entrance.user_namespace else 0))
            if pid := os.fork():
                os.write(_REPORT_FD, str(pid).encode())  # as the shim counts: this process is still where that is
                os._exit(0)
            _drop(entrance)
        os.closerange(_MAIN_FD, _REPORT_FD + 1)
        os.setsid()  # here, so that it leads its process group before a signal for that can come
        if size is not None:
            _open_terminal(size)
        if entrance.isolated:
            linux.load_filter(entrance.bpf)
        os.execve(INTERPRETER, (INTERPRETER, "-I", "-S", entrance.launcher, str(CHANNEL_FD)), {})  # noqa: S606
    except BaseException as error:  # noqa: BLE001 - a forked child must never return into the shim's loop
        with suppress(OSError):
            os.write(channel, TROUBLE + str(error).encode("utf-8", "replace")[:1000])
    finally:
        os._exit(125)


def _drop(entrance: Entrance) -> None:
    """Become the pod's user, with nothing more than that."""
    linux.join_new_session_keyring()
    linux.drop_bounding_capabilities()
    if not entrance.user_namespace:
        os.setgroups([])
        os.setresgid(entrance.gid, entrance.gid, entrance.gid)
        os.setresuid(entrance.uid, entrance.uid, entrance.uid)
        linux.prctl(linux.PR_SET_DUMPABLE, 0)  # where fs.suid_dumpable says otherwise
    linux.clear_capabilities()
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)


def _open_terminal(size: tuple[int, int]) -> None:
    """Let a new terminal of the pod's control this process, and hand its other end to the shim.

    Opened here and not by the launcher, whom the pod may trace: the other end is then nobody's but the shim's, and
    cannot be made to block whoever reads it.
    """
    master = os.open(_PTMX, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    inner = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    modes = termios.tcgetattr(inner)
    modes[0] |= _IUTF8
    termios.tcsetattr(inner, termios.TCSANOW, modes)
    fcntl.ioctl(inner, termios.TIOCSCTTY, 0)
    for place in range(3):
        os.dup2(inner, place)
    os.set_blocking(master, False)
    with socket.socket(fileno=os.dup(CHANNEL_FD)) as channel:
        socket.send_fds(channel, [TERMINAL], [master])
    os.close(inner)
    os.close(master)
