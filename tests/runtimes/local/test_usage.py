"""What a pod uses is told as it is: CPU time, memory, what its disks hold; with control groups and without."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from neuropod.runtimes.contract import Phase, Workload
from neuropod.runtimes.local import usage
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.runtimes.local.state import read_state
from neuropod.runtimes.usage import GpuUsage, Usage
from runtimes.local.pods import MIB, opened, python, until

_BUSY = """
import os
block = b"x" * (64 << 20)
with open("/workspace/file", "wb") as file:
    file.write(os.urandom(8 << 20))
    os.fsync(file.fileno())
if os.fork() == 0:
    while True:
        pass
print("busy", flush=True)
while True:
    pass
"""


async def _used(runtime: LocalRuntime, workload: Workload) -> Usage:
    return (await runtime.usage([workload.id]))[workload.id]


async def _a_busy_pod_is_measured(data_dir: Path) -> Usage:
    async with opened(data_dir) as runtime:
        workload = python(_BUSY, volume="vol_1")
        await runtime.ensure(workload)
        await until(runtime, workload.id, Phase.READY)
        async with asyncio.timeout(30):
            first = await _used(runtime, workload)
            while (now := await _used(runtime, workload)).cpu_seconds < first.cpu_seconds + 1:
                await asyncio.sleep(0.1)

        assert now.memory_bytes is not None
        assert 64 * MIB < now.memory_bytes < 256 * MIB
        assert now.container_disk_bytes is not None
        return now


@pytest.mark.root
async def test_a_busy_pod_shows_its_cpu_time_memory_and_volume(tmp_path: Path):
    used = await _a_busy_pod_is_measured(tmp_path / "data")

    assert used.volume_bytes is not None
    assert 8 * MIB < used.volume_bytes < 64 * MIB


@pytest.mark.user
async def test_a_busy_pod_of_an_ordinary_user_shows_them_by_its_processes(tmp_path: Path):
    used = await _a_busy_pod_is_measured(tmp_path / "data")

    assert used.volume_bytes is not None  # as its shim measured it last, at first not at all


@pytest.mark.root
async def test_without_control_groups_its_processes_are_counted(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        workload = python(_BUSY, volume="vol_1")
        await runtime.ensure(workload)
        await until(runtime, workload.id, Phase.READY)
        directory = runtime._directories.state_dir(workload.id.pod, 1)
        state, plan = read_state(directory), Plan.read(directory)
        assert state is not None
        bare = replace(plan, cgroups={"version": 0, "roots": {}, "missing": {}}, gpus=("GPU-1",))

        def meter(names):
            return [GpuUsage(name, 42, 7) for name in names]

        async with asyncio.timeout(30):
            while True:
                before = await _used(runtime, workload)
                ((_, used),) = usage.measure([(state, bare)], meter)
                by_group = await _used(runtime, workload)
                if used.cpu_seconds > 1 and used.memory_bytes > 64 * MIB:
                    break
                await asyncio.sleep(0.1)

        # Both ways tell the same, but for the time between the looks; pages that two processes share count for each.
        assert before.cpu_seconds - 1 < used.cpu_seconds < by_group.cpu_seconds + 1
        assert used.memory_bytes < 2.5 * by_group.memory_bytes
        assert used.gpus == (GpuUsage("GPU-1", 42, 7),)
