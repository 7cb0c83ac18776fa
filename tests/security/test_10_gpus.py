"""SECURITY 10: a pod sees the device nodes that were assigned to it, and none otherwise."""

import stat
from pathlib import Path

import pytest

from runtimes.local.as_user import run_as_user
from runtimes.local.pods import opened, printed, python

pytestmark = pytest.mark.root

LOOK = """
import os
print(sorted(os.listdir('/dev')))
print(os.environ['NVIDIA_VISIBLE_DEVICES'], os.environ.get('CUDA_VISIBLE_DEVICES'))
"""
WITHOUT_GPU = [
    "core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
]  # fmt: skip


def check(lines: list[str]) -> None:
    assert lines == [str(WITHOUT_GPU), "void None"]


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
