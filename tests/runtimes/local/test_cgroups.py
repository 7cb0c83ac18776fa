"""Control groups on this machine: limits that hold, everything killed, nothing left."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuropod.kit.identifiers import new_id
from neuropod.runtimes.local import cgroups
from neuropod.runtimes.local.cgroups import CgroupLayout, Limits

LIMITS = Limits(memory_bytes=64 << 20, cpu_cores=1, pids=50)


def in_group(group: cgroups.Cgroup, code: str, *, lines: int = 0) -> tuple[subprocess.Popen[str], list[str]]:
    """Start a Python program in the group and read so many lines of it."""
    start = "import sys; sys.stdin.readline()\n"
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", start + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    group.add(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process, [process.stdout.readline().strip() for _ in range(lines)]


def end(process: subprocess.Popen[str]) -> int:
    code = process.wait(20)
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()
    return code


@pytest.fixture
def layout() -> Iterator[CgroupLayout]:
    found = cgroups.find_layout(new_id("inst"))
    yield found
    cgroups.sweep(found, keep=frozenset())
    cgroups.uninstall(found)
    assert not any(Path(root).exists() for root in found.folders)


def test_a_layout_survives_the_way_through_json():
    layout = CgroupLayout(2, {"memory": "/a", "pids": "/a"}, {"cpu": "why"})

    assert CgroupLayout.from_json(layout.as_json()) == layout
    assert layout.folders == ("/a",)


def test_without_controllers_a_group_does_nothing_and_holds_nobody():
    layout = CgroupLayout(0, {}, {"memory": "none"})

    group = cgroups.create(layout, "w", LIMITS)
    group.add(os.getpid())

    assert group.pids() == frozenset()
    assert group.kill()
    assert group.oom_kills() == 0
    assert group.usage() == cgroups.Usage(None, None, None)
    assert cgroups.open_group(layout, "w") is None
    assert cgroups.sweep(layout, keep=frozenset()) == ()


@pytest.mark.root
def test_root_can_use_all_three_here(layout: CgroupLayout):
    assert layout.version in {1, 2}
    assert {"memory", "cpu", "pids"} <= layout.roots.keys()
    assert not layout.missing


@pytest.mark.root
def test_version_2_where_it_has_controllers(tmp_path: Path):
    """Everything here runs on the version that the machine has; this one says when that was not version 2."""
    layout = cgroups.find_layout(new_id("inst"))
    cgroups.uninstall(layout)
    if layout.version != 2:
        pytest.skip("not run: control groups version 2 have no controllers on this machine")
    assert layout.roots["memory"] == layout.roots["pids"]


@pytest.mark.root
def test_a_group_is_made_again_without_harm_and_removed(layout: CgroupLayout):
    cgroups.create(layout, "w", LIMITS)
    group = cgroups.create(layout, "w", Limits(32 << 20, 2, 10))

    assert cgroups.open_group(layout, "w") is not None
    group.remove()
    group.remove()
    assert cgroups.open_group(layout, "w") is None


@pytest.mark.root
def test_who_takes_too_much_memory_is_killed_and_counted(layout: CgroupLayout):
    group = cgroups.create(layout, "w", LIMITS)
    process, _ = in_group(group, "blocks = []\nwhile True: blocks.append(bytearray(b'x' * (1 << 20)))")

    assert end(process) == -9
    assert group.oom_kills() == 1
    assert cgroups.create(layout, "other", LIMITS).oom_kills() == 0


@pytest.mark.root
def test_more_processes_than_the_limit_cannot_be_started(layout: CgroupLayout):
    group = cgroups.create(layout, "w", LIMITS)
    bomb = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0: time.sleep(1000)
        count += 1
except OSError: print(count, flush=True)
time.sleep(1000)"""
    process, lines = in_group(group, bomb, lines=1)

    assert lines == ["49"]
    assert group.usage().pids == len(group.pids()) == 50
    # All of them go, however many there are.
    assert group.kill()
    assert end(process) == -9
    assert group.pids() == frozenset()


@pytest.mark.root
def test_two_busy_processes_get_one_core_together(layout: CgroupLayout):
    group = cgroups.create(layout, "w", LIMITS)
    busy = "import os\nos.fork()\nprint('busy', flush=True)\nwhile True: pass"
    process, _ = in_group(group, busy, lines=2)
    before, begun = group.usage().cpu_seconds, time.monotonic()
    while time.monotonic() - begun < 1.5:
        time.sleep(0.05)
    after, elapsed = group.usage().cpu_seconds, time.monotonic() - begun

    group.kill()
    end(process)
    assert before is not None
    assert after is not None
    assert 0 < (after - before) / elapsed < 1.15


@pytest.mark.root
def test_memory_in_use_is_measured(layout: CgroupLayout):
    group = cgroups.create(layout, "w", LIMITS)
    process, _ = in_group(group, "x = bytearray(b'x' * (20 << 20)); print('up', flush=True); input()", lines=1)

    used = group.usage().memory_bytes
    group.kill()
    end(process)

    assert used is not None
    assert 20 << 20 < used < 64 << 20


@pytest.mark.root
def test_a_sweep_kills_and_removes_what_nobody_keeps_and_nothing_of_another_installation(layout: CgroupLayout):
    kept, lost = cgroups.create(layout, "kept", LIMITS), cgroups.create(layout, "lost", LIMITS)
    other_layout = cgroups.find_layout(new_id("inst"))
    other = cgroups.create(other_layout, "lost", LIMITS)
    processes = [
        in_group(group, "print('up', flush=True)\nwhile True: input()", lines=1)[0] for group in (kept, lost, other)
    ]

    assert cgroups.sweep(layout, keep=frozenset({"kept"})) == ("lost",)

    assert end(processes[1]) == -9
    assert [process.poll() for process in processes] == [None, -9, None]
    for group, process in ((kept, processes[0]), (other, processes[2])):
        group.kill()
        end(process)
    cgroups.sweep(other_layout, keep=frozenset())
    cgroups.uninstall(other_layout)


@pytest.mark.user
def test_an_ordinary_user_is_told_why_there_are_no_limits_or_has_them(tmp_path: Path):
    layout = cgroups.find_layout(new_id("inst"))

    for controller in ("memory", "cpu", "pids"):
        assert (controller in layout.roots) != (controller in layout.missing)
    assert all(layout.missing.values())
    cgroups.uninstall(layout)
