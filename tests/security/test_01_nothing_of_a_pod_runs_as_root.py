"""SECURITY 1: what a pod's owner sets is looked at by nothing that still has privileges."""

from pathlib import Path

import pytest

from runtimes.local.commands import output_of
from runtimes.local.pods import opened, printed, python

pytestmark = pytest.mark.root

# A trap for each way: programs on PATH, Python's own start-up, and the dynamic linker, which writes a file of its
# reports (LD_DEBUG_OUTPUT) owned by whoever runs: one of uid 0 among them proves that root met the pod's environment.
PREPARE = """
import os
os.makedirs('/workspace/bin'); os.makedirs('/workspace/ld')
for name in ('python3', 'setpriv', 'bwrap', 'sh', 'env', 'mount', 'true'):
    path = f'/workspace/bin/{name}'
    open(path, 'w').write('#!/bin/sh\\n/usr/bin/id -u >> /workspace/met\\nexec /usr/bin/' + name + ' "$@"\\n')
    os.chmod(path, 0o755)
for name in ('sitecustomize', 'usercustomize', 'json', 'socket'):
    open(f'/workspace/{name}.py', 'w').write('import os\\nopen("/workspace/met", "a").write(f"{os.getuid()}\\\\n")\\n')
open('/workspace/met', 'a').close()
"""
LOOK = """
import os
owners = {os.lstat(os.path.join(at, name)).st_uid for at, folders, files in os.walk('/workspace') for name in files}
print(os.getuid(), sorted(owners), sorted({int(line) for line in open('/workspace/met')}), len(os.listdir('/workspace/ld')))
"""
TRAPS = {
    "PATH": "/workspace/bin:/usr/bin:/bin",
    "PYTHONPATH": "/workspace",
    "PYTHONHOME": "/usr",
    "LD_DEBUG": "libs",
    "LD_DEBUG_OUTPUT": "/workspace/ld/report",
    "LD_LIBRARY_PATH": "/workspace",
    "BASH_ENV": "/workspace/bin/true",
    "ENV": "/workspace/bin/true",
}


async def test_every_trap_in_the_environment_is_met_by_the_pods_own_uid_alone(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        first = python(PREPARE, volume="vol_1")
        await printed(runtime, first)
        await runtime.remove(first.id)
        trapped = python("print('ran')", pod=first.id.pod, incarnation=2, volume="vol_1", env=TRAPS)
        await printed(runtime, trapped)
        await runtime.remove(trapped.id)
        last = python(LOOK, pod=first.id.pod, incarnation=3, volume="vol_1")
        (line,) = await printed(runtime, last)
        uid = runtime._owners.uid_of("usr_1")

    # The traps work (the launcher's successor met them), and only that uid ever met them.
    reports = int(line.split()[-1])
    assert reports >= 2
    assert line == f"{uid} [{uid}] [{uid}] {reports}"
    assert uid >= 200_000


async def test_the_environment_of_what_runs_before_the_drop_is_empty(tmp_path: Path):
    show = "print(open('/proc/1/cmdline').read().count('evil'), len(open('/proc/1/environ').read()))"

    async with opened(tmp_path / "data") as runtime:
        try_environ = python(
            f"try:\n {show}\nexcept PermissionError as error: print(open('/proc/1/cmdline').read().count('evil'), 0)",
            env={"EVIL": "evil"},
        )
        lines = await printed(runtime, try_environ)

    assert lines == ["0 0"]


async def test_a_command_that_comes_in_later_meets_every_trap_with_the_pods_own_uid_alone(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        first = python(PREPARE, volume="vol_1")
        await printed(runtime, first)
        await runtime.remove(first.id)
        trapped = python("import time; time.sleep(600)", pod=first.id.pod, incarnation=2, volume="vol_1", env=TRAPS)
        for terminal in (False, True):
            told = await output_of(runtime, trapped, "python3", "-c", "print('ran')", terminal=terminal)
            assert told.strip().endswith("ran")
        uid = runtime._owners.uid_of("usr_1")
        line = (await output_of(runtime, trapped, "/usr/bin/env", "-i", "/usr/bin/python3", "-c", LOOK)).strip()

    reports = int(line.split()[-1])
    assert reports >= 4
    assert line == f"{uid} [{uid}] [{uid}] {reports}"
