"""SECURITY 10: a pod sees the device nodes that were assigned to it, and none otherwise."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from neuropod.runtimes.contract import Phase, Workload, WorkloadRejectedError
from neuropod.runtimes.execution import ExecRequest
from neuropod.runtimes.local.devices import MachineGpus
from neuropod.runtimes.local.nvml import NvmlReader
from neuropod.runtimes.local.plan import Plan
from neuropod.words import Reason
from runtimes.local.as_user import run_as_user
from runtimes.local.pods import opened, printed, python, until
from support.nvml import FakeGpu, FakeNvml

pytestmark = pytest.mark.root

LOOK = """
import os
print(sorted(os.listdir('/dev')))
print(os.environ['NVIDIA_VISIBLE_DEVICES'], os.environ['CUDA_VISIBLE_DEVICES'] or 'nothing')
"""
WITHOUT_GPU = [
    "core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
]  # fmt: skip


def check(lines: list[str]) -> None:
    assert lines == [str(WITHOUT_GPU), "void nothing"]


async def test_a_pod_without_a_gpu_sees_none(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        check(await printed(runtime, python(LOOK, env={"NVIDIA_VISIBLE_DEVICES": "all"})))


async def user_mode(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", mode="user") as runtime:
        check(await printed(runtime, python(LOOK, env={"NVIDIA_VISIBLE_DEVICES": "all"})))


def test_a_pod_without_a_gpu_sees_none_as_an_ordinary_user_either(tmp_path: Path):
    run_as_user(tmp_path, "test_10_gpus", "user_mode")


async def test_a_pod_cannot_make_or_open_a_device_of_its_own(tmp_path: Path):
    make = f"""
import os
for path in ('/workspace/gpu', '/tmp/gpu', '/dev/gpu', '/dev/shm/gpu'):
    try:
        os.mknod(path, {stat.S_IFCHR | 0o666}, os.makedev(1, 5)); print('made', path)
    except OSError as error:
        print(error.strerror)
"""
    async with opened(tmp_path / "data") as runtime:
        lines = await printed(runtime, python(make, volume="vol_1"))

    assert "made" not in " ".join(lines)
    assert len(lines) == 4


# ---- a machine with GPUs: NVML is played, and the device files are harmless ones (zero, full, null) at a place of ours

MINE = """
import os
print(sorted(name for name in os.listdir('/dev') if name.startswith('nvidia')))
print(os.environ['NVIDIA_VISIBLE_DEVICES'], os.environ['CUDA_VISIBLE_DEVICES'])
for name in ('nvidia0', 'nvidia1', 'nvidiactl'):
    try:
        with open(f'/dev/{name}', 'rb', buffering=0) as device:
            print(name, device.read(1))
    except OSError as error:
        print(name, error.strerror)
"""
SHARED = ["nvidia-uvm", "nvidiactl"]


def machine(root: Path) -> MachineGpus:
    """Make a machine with two GPUs: /dev/zero is the first one's device file, /dev/full the second's."""
    (root / "dev").mkdir(parents=True)
    for name, minor in (("nvidia0", 5), ("nvidia1", 7), ("nvidiactl", 3), ("nvidia-uvm", 3)):
        os.mknod(root / "dev" / name, stat.S_IFCHR, os.makedev(1, minor))
        (root / "dev" / name).chmod(0o666)
    nvml = FakeNvml([FakeGpu("GPU-first", minor=0), FakeGpu("GPU-second", minor=1)])
    return MachineGpus(NvmlReader(nvml), root=root)


def with_gpus(code: str, *names: str, **facts: object) -> Workload:
    workload = python(code, **facts)
    return replace(workload, resources=replace(workload.resources, devices=names))


@pytest.mark.parametrize(("name", "number", "other"), [("GPU-first", 0, "nvidia1"), ("GPU-second", 1, "nvidia0")])
async def test_a_pod_sees_its_own_gpu_and_no_other(tmp_path: Path, name: str, number: int, other: str):
    env = {"NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "0,1"}
    async with opened(tmp_path / "data", gpus=machine(tmp_path / "root")) as runtime:
        assert [device.name for device in (await runtime.capacity()).devices] == ["GPU-first", "GPU-second"]
        lines = await printed(runtime, with_gpus(MINE, name, env=env))

    assert lines == [
        str(sorted([f"nvidia{number}", *SHARED])),
        f"{name} 0",
        *sorted([f"nvidia{number} b'\\x00'", f"{other} No such file or directory"]),
        "nvidiactl b''",
    ]


async def test_a_pod_with_two_gpus_sees_both_and_its_neighbour_none(tmp_path: Path):
    async with opened(tmp_path / "data", gpus=machine(tmp_path / "root")) as runtime:
        both = await printed(runtime, with_gpus(MINE, "GPU-second", "GPU-first"))
        neighbour = await printed(runtime, python(MINE))

    assert both[0] == str(sorted(["nvidia0", "nvidia1", *SHARED]))
    assert both[1] == "GPU-second,GPU-first 0,1"
    assert neighbour[:2] == ["[]", "void "]
    assert all(line.endswith("No such file or directory") for line in neighbour[2:])


async def user_mode_with_gpus(tmp_path: Path) -> None:
    (tmp_path / "root/dev").mkdir(parents=True)  # an ordinary user makes no device files
    for name, like in (("nvidia0", "zero"), ("nvidia1", "full"), ("nvidiactl", "null"), ("nvidia-uvm", "null")):
        (tmp_path / "root/dev" / name).symlink_to(f"/dev/{like}")
    nvml = FakeNvml([FakeGpu("GPU-first", minor=0), FakeGpu("GPU-second", minor=1)])
    gpus = MachineGpus(NvmlReader(nvml), root=tmp_path / "root")
    async with opened(tmp_path / "data", mode="user", gpus=gpus) as runtime:
        lines = await printed(runtime, with_gpus(MINE, "GPU-second"))

    assert lines[:3] == [
        str(["nvidia-uvm", "nvidia1", "nvidiactl"]),
        "GPU-second 0",
        "nvidia0 No such file or directory",
    ]
    assert lines[3] == "nvidia1 b'\\x00'"


def test_a_pod_sees_its_own_gpu_and_no_other_as_an_ordinary_user(tmp_path: Path):
    run_as_user(tmp_path, "test_10_gpus", "user_mode_with_gpus")


async def test_where_device_groups_can_be_used_the_kernel_keeps_the_others_shut_too(tmp_path: Path):
    devices = "/sys/fs/cgroup/devices"
    if not os.access(f"{devices}/devices.list", os.R_OK):
        pytest.skip("no control group of version 1 for devices")
    async with opened(tmp_path / "data", gpus=machine(tmp_path / "root")) as runtime:
        workload = with_gpus("import time; print('up', flush=True); time.sleep(1000)", "GPU-second")
        await runtime.ensure(workload)
        await until(runtime, workload.id, Phase.READY)
        plan = Plan.read(runtime._directories.state_dir(workload.id.pod, 1))
        (group,) = Path(devices, "neuropod").glob(f"*/{plan.key}")
        allowed = (group / "devices.list").read_text().split("\n")

    assert "c 1:7 rw" in allowed  # its own; /dev/full is among the plain ones as well
    assert "a *:* rwm" not in allowed
    assert not any(line.startswith(("b ", "c 10:")) for line in allowed)


async def test_a_command_that_comes_in_later_sees_the_same(tmp_path: Path):
    async with opened(tmp_path / "data", gpus=machine(tmp_path / "root")) as runtime:
        workload = with_gpus("import time; print('up', flush=True); time.sleep(1000)", "GPU-second")
        await runtime.ensure(workload)
        await until(runtime, workload.id, Phase.READY)
        command = await runtime.exec(workload.id, ExecRequest(("python3", "-c", MINE), at_most=1))
        told = b""
        while (chunk := await command.read()) is not None:
            told += chunk.data
        await command.aclose()

    assert told.decode().splitlines()[:3] == [
        str(sorted(["nvidia1", *SHARED])), "GPU-second 0", "nvidia0 No such file or directory",
    ]  # fmt: skip


async def test_a_gpu_that_is_broken_when_it_is_asked_for_is_not_bound(tmp_path: Path):
    gpus = machine(tmp_path / "root")
    (tmp_path / "root/dev/nvidia1").unlink()
    async with opened(tmp_path / "data", gpus=gpus) as runtime:
        trouble = {device.name: device.trouble for device in (await runtime.capacity()).devices}
        with pytest.raises(WorkloadRejectedError) as caught:
            await runtime.ensure(with_gpus(MINE, "GPU-second"))

    assert trouble == {"GPU-first": "", "GPU-second": "its device file /dev/nvidia1 is not there"}
    assert caught.value.reason is Reason.GPU_LOST
