"""SECURITY 4, `pod exec`: a command has what the pod's own process has, and no door stands open while it comes in."""

import json
from pathlib import Path

import pytest

from neuropod.runtimes.contract import LogQuery
from runtimes.local.as_user import run_as_user
from runtimes.local.commands import output_of
from runtimes.local.pods import opened, printed, python
from security.test_04_the_kernel_from_inside import CALLS, check, put_a_key_in_the_session_keyring

pytestmark = pytest.mark.root

# What of a process is its pod's business, and must be the same for one that comes in later.
OWN = """
import json, os
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
names = ('Uid', 'Gid', 'Groups', 'Umask', 'CapInh', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp', 'Seccomp_filters')
found = {name: status[name].strip() for name in names}
found['namespaces'] = {name: os.readlink(f'/proc/self/ns/{name}') for name in os.listdir('/proc/self/ns')}
found['environ'] = {name: value for name, value in os.environ.items() if name not in ('TERM', '_', 'LC_CTYPE')}
found |= {'cwd': os.getcwd(), 'cgroup': open('/proc/self/cgroup').read(), 'root': sorted(os.listdir('/'))}
found['oom'] = open('/proc/self/oom_score_adj').read()
found['limits'] = open('/proc/self/limits').read()
found['groups'] = os.getgroups()
found |= {name: status[name].strip() for name in ('SigBlk', 'SigIgn')}
print(json.dumps(found))
"""

# A pod that lies in wait: whatever appears beside it is looked at at once, in every way that the kernel has.
AMBUSH = """
import ctypes, json, os, time
libc = ctypes.CDLL(None, use_errno=True)
LAUNCHER = b'/usr/bin/python3\\0-I\\0-S\\0/run/neuropod/launcher.py\\0003'
known, seen, breaches, lines = {os.getpid(), 1}, 0, [], set()
def read(pid, name):
    try:
        with open(f'/proc/{pid}/{name}', 'rb') as file:
            return file.read(4096)
    except OSError:
        return b''
def is_ours(pid):
    # Its arguments are another's, the launcher's, a moment before its name is.
    return read(pid, 'comm').strip() == b'np-exec' and read(pid, 'cmdline').strip(b'\\0') != LAUNCHER
def attempts(pid):
    yield 'descriptors', lambda: os.listdir(f'/proc/{pid}/fd')
    yield 'memory', lambda: open(f'/proc/{pid}/mem', 'rb')
    yield 'environment', lambda: open(f'/proc/{pid}/environ', 'rb').read()
    yield 'program', lambda: os.readlink(f'/proc/{pid}/exe')
    yield 'root', lambda: os.listdir(f'/proc/{pid}/root')
    def trace():
        if libc.ptrace(16, pid, 0, 0):
            raise OSError
        ours = is_ours(pid)
        os.waitpid(pid, 0x40000000)
        libc.ptrace(17, pid, 0, 0)
        os.kill(pid, 18)  # a stop that was still on its way
        if not ours:
            raise OSError
    yield 'traced', trace
end = time.monotonic() + 600
while not os.path.exists('/workspace/enough') and time.monotonic() < end:
    for pid in [int(name) for name in os.listdir('/proc') if name.isdigit()]:
        if pid in known:
            continue
        # Again and again while it is our own code; what it becomes then is the pod's to look at.
        while is_ours(pid):
            line = read(pid, 'cmdline').strip(b'\\0').replace(LAUNCHER, b'').decode()
            if is_ours(pid):  # still: the line was ours as well
                seen += 1
                lines.add(line)
            for name, attempt in attempts(pid):
                try:
                    attempt()
                except OSError:
                    continue
                if name == 'traced' or is_ours(pid):
                    breaches.append(name)
        known.add(pid)
print(json.dumps([seen > 0, sorted(lines), breaches]))
"""


async def _same_doors(tmp_path: Path, mode: str) -> None:
    put_a_key_in_the_session_keyring()
    async with opened(tmp_path / "data", mode=mode) as runtime:
        pod = python("import time; time.sleep(600)")

        for terminal in (False, True):
            check(json.loads(await output_of(runtime, pod, "python3", "-c", CALLS, terminal=terminal)))


async def _same_as_its_own(tmp_path: Path, mode: str) -> None:
    async with opened(tmp_path / "data", mode=mode) as runtime:
        told = f"{OWN}\nimport sys, time; sys.stdout.flush(); time.sleep(600)"
        pod = python(told, volume="vol_1", env={"THE_SECRET": "x"})
        piped = json.loads(await output_of(runtime, pod, "python3", "-c", OWN))
        shown = json.loads(await output_of(runtime, pod, "python3", "-c", OWN, terminal=True))
        (line,) = [line async for line in runtime.logs(pod.id, LogQuery())]
        own = json.loads(line.text)

    assert piped == shown == own
    assert own["environ"]["THE_SECRET"] == "x"


async def _ambushed(tmp_path: Path, mode: str) -> None:
    async with opened(tmp_path / "data", mode=mode) as runtime:
        pod = python(AMBUSH, volume="vol_1")
        for number in range(30):
            await output_of(runtime, pod, "true", terminal=number % 2 == 0)
        await output_of(runtime, pod, "touch", "/workspace/enough")
        (line,) = await printed(runtime, pod)

    met, command_lines, breaches = json.loads(line)
    assert met, "nothing of ours was ever seen: this has proved nothing"
    assert breaches == [], (command_lines, breaches)
    assert command_lines == [""]


async def test_the_kernels_doors_are_shut_as_root(tmp_path: Path):
    await _same_doors(tmp_path, "root")


async def test_a_command_has_what_the_pods_own_process_has_as_root(tmp_path: Path):
    await _same_as_its_own(tmp_path, "root")


async def test_a_pod_that_lies_in_wait_gets_nothing_as_root(tmp_path: Path):
    await _ambushed(tmp_path, "root")


async def all_in_user_mode(tmp_path: Path) -> None:
    """Run the same in mode user; called by `run_as_user`."""
    for number, part in enumerate((_same_doors, _same_as_its_own, _ambushed)):
        (tmp_path / str(number)).mkdir()
        await part(tmp_path / str(number), "user")


def test_all_of_it_as_an_ordinary_user(tmp_path: Path):
    run_as_user(tmp_path, "test_04_commands_that_come_in_later", "all_in_user_mode")
