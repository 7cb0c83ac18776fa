"""SECURITY 4: from inside a pod, in every mode that isolates: no new namespaces, keys, bpf, perf, io_uring, …"""

import ctypes
import json
import platform
from pathlib import Path

import pytest

from runtimes.local.as_user import run_as_user
from runtimes.local.pods import opened, printed, python

pytestmark = pytest.mark.root

CALLS = """
import ctypes, errno, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *(ctypes.c_long(argument) for argument in arguments))
    if result == 0 and number in (56, 435):
        os._exit(0)  # a child that should never have been
    return 'works' if result >= 0 else errno.errorcode[ctypes.get_errno()]
numbers = {
    'x86_64': dict(unshare=272, clone=56, clone3=435, keyctl=250, add_key=248, request_key=249, bpf=321, perf=298,
                   io_uring=425, userfaultfd=323, mount=165, pivot_root=155, setns=308, open_by_handle=304,
                   module=175, chroot=161, open_tree=428, fsopen=430, syslog=103, ptrace=101),
    'aarch64': dict(unshare=97, clone=220, clone3=435, keyctl=219, add_key=217, request_key=218, bpf=280, perf=241,
                    io_uring=425, userfaultfd=282, mount=40, pivot_root=41, setns=268, open_by_handle=265,
                    module=105, chroot=51, open_tree=428, fsopen=430, syslog=116, ptrace=117),
}[os.uname().machine]
first = dict(unshare=0x10000000, clone=0x10000000 | 17, syslog=3, keyctl=0)
found = {name: call(number, first.get(name, 0), 0, 0, 0, 0) for name, number in numbers.items()}
del found['ptrace']
def family(number):
    try:
        socket.socket(number, socket.SOCK_STREAM).close()
        return 'works'
    except OSError as error:
        return errno.errorcode[error.errno]
found['vsock'] = family(40)
found['inet'] = family(2)
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
found |= {name: status[name].strip() for name in ('CapEff', 'CapPrm', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp')}
found['descriptors'] = sorted(int(name) for name in os.listdir('/proc/self/fd'))[:-1]
found['keys'] = [line.split()[-2:] for line in open('/proc/keys')]
found['threads'] = 0
import threading
thread = threading.Thread(target=lambda: found.update(threads=1)); thread.start(); thread.join()
print(json.dumps(found))
"""


def check(found: dict[str, object]) -> None:
    """Assert what the pod of CALLS found."""
    denied = {
        "unshare", "clone", "keyctl", "add_key", "request_key", "bpf", "perf", "userfaultfd", "mount", "pivot_root",
        "setns", "open_by_handle", "module", "chroot", "open_tree", "fsopen", "syslog",
    }  # fmt: skip
    assert {name: found[name] for name in denied} == dict.fromkeys(denied, "EPERM")
    assert found["clone3"] == found["io_uring"] == "ENOSYS"
    assert found["vsock"] == "EAFNOSUPPORT"
    assert found["inet"] == "works"
    assert found["threads"] == 1
    assert {found[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert found["descriptors"] == [0, 1, 2]
    assert all("neuropod-test" not in word for key in found["keys"] for word in key)


def put_a_key_in_the_session_keyring() -> None:
    """Give this process what a server may have: a key that everything it starts would inherit."""
    libc = ctypes.CDLL(None, use_errno=True)
    keyctl, add_key = {"x86_64": (250, 248), "aarch64": (219, 217)}[platform.machine()]
    assert libc.syscall(keyctl, 1, None) >= 0  # a session keyring of this process's own
    session = ctypes.c_int(-3)
    assert libc.syscall(add_key, b"user", b"neuropod-test", b"secret", 6, session) >= 0
    assert "neuropod-test" in Path("/proc/keys").read_text()


async def test_as_root(tmp_path: Path):
    put_a_key_in_the_session_keyring()

    async with opened(tmp_path / "data") as runtime:
        (line,) = await printed(runtime, python(CALLS))

    check(json.loads(line))


async def user_mode(tmp_path: Path) -> None:
    """Run the same in mode user; called by `run_as_user`."""
    put_a_key_in_the_session_keyring()
    async with opened(tmp_path / "data", mode="user") as runtime:
        (line,) = await printed(runtime, python(CALLS))
    check(json.loads(line))


def test_as_an_ordinary_user(tmp_path: Path):
    run_as_user(tmp_path, "test_04_the_kernel_from_inside", "user_mode")
