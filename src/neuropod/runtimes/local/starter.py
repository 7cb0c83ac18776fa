"""The process that shims are forked from: started once by each server, ended with it; its shims live on.

A shim begins with 80 ms of imports. Here they are done once and before anybody waits; each shim is then a fork (2 ms)
that shares this process's memory. `shims.ShimStarter` sends one request per shim on an inherited socket: its name, and
with it the descriptors of the plan's pipe, the control socket and the error file; the answer is the pid. Standard
library only, no `site`, an empty environment: nothing of the server's reaches a pod by way of this.
"""

import array
import gc
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress

from neuropod.runtimes.local import linux, shim

_FDS = 3


def main() -> None:
    """Fork shims until the server closes its end."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    requests.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no shim of ours stays a zombie
    gc.freeze()
    with suppress(ConnectionError):  # the server was killed in the middle of something
        _serve(requests)


def _serve(requests: socket.socket) -> None:
    while True:
        name, fds = _receive(requests)
        if len(fds) != _FDS:
            return
        pid = os.fork()
        if pid == 0:
            _become_shim(requests, name, fds)
        for fd in fds:
            os.close(fd)
        requests.send(str(pid).encode())


def _receive(requests: socket.socket) -> tuple[str, list[int]]:
    data, ancillary, _, _ = requests.recvmsg(256, socket.CMSG_SPACE(_FDS * 4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(raw)
    return data.decode(), list(fds)


def _become_shim(requests: socket.socket, name: str, fds: list[int]) -> None:
    """Run in the child; never returns."""
    status = 1
    try:
        requests.close()
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        plan, listener, errors = fds
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        os.close(errors)
        linux.set_process_name(name)
        shim.main(plan, socket.socket(fileno=listener))
        status = 0
    except BaseException:  # noqa: BLE001 - a forked child must never return into the loop above
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)
