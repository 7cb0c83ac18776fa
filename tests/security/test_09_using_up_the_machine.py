"""SECURITY 9: logs, disk, deep trees, a fork bomb, memory: each meets its limit while a neighbour launches and works."""

import asyncio
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from neuropod.runtimes.contract import Phase
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.words import Reason
from runtimes.local.as_user import run_as_user
from runtimes.local.pods import MIB, a_workload, end_everything, opened, output_of, printed, python, run_to_end, until

pytestmark = pytest.mark.root


async def neighbour_works(runtime: LocalRuntime) -> None:
    """Launch a pod of another owner, let it write and end, within a time that a person would wait."""
    begun = time.monotonic()
    lines = await printed(
        runtime, python("open('/workspace/x', 'w').write('y' * 100000); print('fine')", owner="usr_2", volume="vol_2")
    )
    assert lines == ["fine"]
    assert time.monotonic() - begun < 20


def used_below(directory: Path) -> int:
    """Return the bytes of disk that a folder uses; what goes while it is looked at uses none."""
    used = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            used += path.lstat().st_blocks * 512
    return used


@pytest.mark.user
async def test_a_flood_of_log_is_bounded_on_disk(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        flood = a_workload("yes", "x" * 200)
        await runtime.ensure(flood)
        await until(runtime, flood.id, Phase.READY)
        logs = runtime._directories.log_dir(flood.id.pod, 1)
        async with asyncio.timeout(30):
            while not (names := sorted(path.name for path in logs.glob("*.log"))) or int(names[0][:-4]) == 0:
                await asyncio.sleep(0.05)  # until the first segments were dropped

        await neighbour_works(runtime)

        assert used_below(logs) < 12 * MIB
        await runtime.kill(flood.id, reason=Reason.REQUESTED)
        await until(runtime, flood.id, Phase.EXITED)


async def test_a_full_disk_is_full_for_its_pod_alone(tmp_path: Path):
    fill = """
import errno, os
for path in ('/workspace/big', '/home/pod/big', '/tmp/big'):
    try:
        with open(path, 'wb', buffering=0) as file:
            for _ in range(1000): file.write(b'z' * (1 << 20))
        print('never full', path)
    except OSError as error:
        print(errno.errorcode[error.errno])
count = 0
try:
    for count in range(200000): open(f'/workspace/{count}', 'w').close()
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    async with opened(tmp_path / "data") as runtime:
        lines = await printed(runtime, python(fill, volume="vol_1"))
        await neighbour_works(runtime)

        assert lines == ["ENOSPC"] * 4
        assert used_below(tmp_path / "data") < 300 * MIB


@pytest.mark.user
async def test_a_tree_of_many_nested_folders_is_removed(tmp_path: Path):
    dig = """
import os
for home in ('/home/pod', '/workspace'):
    os.chdir(home)
    for _ in range(1500):
        os.mkdir('d' * 200); os.chdir('d' * 200)
    os.chmod('.', 0)
print('dug')
"""
    async with opened(tmp_path / "data") as runtime:
        workload = python(dig, volume="vol_1")
        assert await printed(runtime, workload) == ["dug"]

        await runtime.remove(workload.id)
        again = python("print('again')", pod=workload.id.pod, incarnation=2, volume="vol_1")

        assert await printed(runtime, again) == ["again"]
        assert await runtime.observe(workload.id) is not None
    # The volume stays, and pytest's own tidying breaks on it.
    subprocess.run(["chmod", "-R", "u+rwX", tmp_path / "data"], check=True)
    subprocess.run(["rm", "-rf", tmp_path / "data"], check=True)


async def test_a_fork_bomb_meets_the_limit_of_processes(tmp_path: Path):
    bomb = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        count += 1
except OSError as error:
    print(count, error.errno, flush=True)
time.sleep(1000)
"""
    async with opened(tmp_path / "data", pids_max=100) as runtime:
        workload = python(bomb)
        await runtime.ensure(workload)
        async with asyncio.timeout(20):
            while not (lines := await output_of(runtime, workload)):
                await asyncio.sleep(0.05)

        await neighbour_works(runtime)
        await runtime.kill(workload.id, reason=Reason.REQUESTED)
        await until(runtime, workload.id, Phase.EXITED)

        count, number = (int(word) for word in lines[0].split())
        assert 50 < count < 100
        assert number == 11


async def test_too_much_memory_ends_the_pod_and_says_so(tmp_path: Path):
    hog = "import time\nblocks = []\nwhile True: blocks.append(bytearray(b'x' * (8 << 20)))"
    async with opened(tmp_path / "data") as runtime:
        seen = await run_to_end(runtime, python(hog, memory_bytes=128 * MIB))
        await neighbour_works(runtime)

    assert (seen.reason, seen.exit_code) == (Reason.OUT_OF_MEMORY, 137)
    assert "134 MB" in seen.message


@pytest.mark.user
async def test_shared_memory_counts_as_memory(tmp_path: Path):
    fill = """
import errno
try:
    with open('/dev/shm/x', 'wb', buffering=0) as file:
        for _ in range(2000): file.write(b'z' * (1 << 20))
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    async with opened(tmp_path / "data") as runtime:
        assert await printed(runtime, python(fill, memory_bytes=256 * MIB)) == ["ENOSPC"]


@pytest.mark.user
async def test_one_unreadable_state_spoils_only_its_own_pod(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        workload = python("import time; time.sleep(1000)")
        await runtime.ensure(workload)
        await until(runtime, workload.id, Phase.READY)
        bad = runtime._directories.root / "pod_bad" / "1"
        bad.mkdir(parents=True)
        (bad / "state.json").write_text("not json")

        seen = {each.id.pod: each.reason for each in await runtime.list_seen()}

        assert seen == {workload.id.pod: Reason.READY, "pod_bad": Reason.LOST}
        await end_everything(runtime)
        assert await runtime.list_seen() == []


async def overrun(tmp_path: Path) -> None:
    """Fill a folder that has no limit of its own beyond its size, while a neighbour launches and works."""
    fill = "import time\nwith open('/workspace/big', 'wb') as file: file.write(bytes(96 << 20))\ntime.sleep(1000)"
    async with opened(tmp_path / "data", mode="user") as runtime:
        workload = python(fill, volume="vol_1")
        await runtime.ensure(workload)
        await neighbour_works(runtime)

        seen = await until(runtime, workload.id, Phase.EXITED, seconds=40)

        assert seen.reason is Reason.DISK_FULL
        assert "volume holds more than its 67 MB" in seen.message
        assert "volume holds more" in " ".join(await output_of(runtime, workload))


def test_an_overrun_disk_ends_the_pod_where_no_file_system_has_limits(tmp_path: Path):
    run_as_user(tmp_path, "test_09_using_up_the_machine", "overrun")
