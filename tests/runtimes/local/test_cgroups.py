"""Control groups on this machine: limits that hold, everything killed, nothing left, and the absence of them said."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuropod.runtimes.local import cgroups
from neuropod.runtimes.local.cgroups import CgroupLayout, Limits

MIB = 1 << 20
LIMITS = Limits(memory_bytes=128 * MIB, cpu_cores=1, pids=50)
MOUNTS = Path("/proc/self/mounts")


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def layout(request: pytest.FixtureRequest) -> Iterator[CgroupLayout]:
    """An installation's groups of that version; afterwards nothing of it is left."""
    version = request.param
    installation = f"test-{secrets.token_hex(4)}"
    layout = cgroups.find_layout(installation)
    if layout.version != version:
        cgroups.uninstall(layout)
        pytest.skip(f"not run: this machine has no usable controllers of cgroup version {version}")
    yield layout
    cgroups.sweep(layout, keep=frozenset())
    cgroups.uninstall(layout)
    assert not any(Path(root).exists() for root in layout.folders)


def start(group: cgroups.Cgroup, program: str) -> subprocess.Popen[bytes]:
    """Start a Python program in a group, as the shim does: the child enters before it becomes the program."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r go; exec "$0" "$@"', sys.executable, "-I", "-S", "-c", program],
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    os.close(reading)
    group.add(process.pid)
    os.write(writing, b"go\n")
    os.close(writing)
    return process


def end(group: cgroups.Cgroup, process: subprocess.Popen[bytes]) -> None:
    group.kill()
    process.wait(10)
    assert process.stdout is not None
    process.stdout.close()
    group.remove()


def line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


@pytest.mark.root
def test_who_takes_more_memory_is_killed_and_that_is_told(layout: CgroupLayout):
    group = cgroups.create(layout, "w1", LIMITS)
    assert group.oom_kills() == 0

    process = start(group, "blocks = []\nwhile True: blocks.append(b'x' * (8 << 20))")

    assert process.wait(20) == -9
    assert group.oom_kills() == 1
    end(group, process)


@pytest.mark.root
def test_who_stays_within_its_memory_is_not(layout: CgroupLayout):
    group = cgroups.create(layout, "w1", LIMITS)

    process = start(group, "import time; block = b'x' * (64 << 20); print(len(block), flush=True); time.sleep(1000)")

    assert line(process) == str(64 * MIB)
    used = group.usage().memory_bytes
    assert used is not None
    assert 64 * MIB <= used < 128 * MIB
    end(group, process)


@pytest.mark.root
def test_there_are_no_more_processes_than_allowed(layout: CgroupLayout):
    group = cgroups.create(layout, "w1", LIMITS)

    process = start(
        group,
        "import os, time\ncount = 1\ntry:\n    while os.fork(): count += 1\n    time.sleep(1000)\n"
        "except BlockingIOError: print(count, flush=True)\ntime.sleep(1000)",
    )

    assert line(process) == "50"
    assert group.usage().pids == 50
    assert len(group.pids()) == 50
    end(group, process)


@pytest.mark.root
def test_a_group_gets_no_more_than_its_cores(layout: CgroupLayout):
    if (os.cpu_count() or 1) < 2:
        pytest.skip("not run: this machine has one core, so nothing can exceed it")
    group = cgroups.create(layout, "w1", LIMITS)
    process = start(group, "import os\nos.fork(); os.fork()\nwhile True: pass")
    began, before = time.monotonic(), group.usage().cpu_seconds  # a pause between the two is in both or in time alone

    time.sleep(2)  # the very thing that is measured

    used, elapsed = group.usage().cpu_seconds, time.monotonic() - began
    assert used is not None
    assert before is not None
    assert 0 < used - before <= elapsed + 0.2  # a period's worth may have been granted just before
    end(group, process)


@pytest.mark.root
def test_everything_is_killed_though_it_multiplies(layout: CgroupLayout):
    group = cgroups.create(layout, "w1", LIMITS)
    bomb = "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\nwhile True:\n"
    process = start(group, bomb + "    try: os.fork(); os.setsid()\n    except OSError: pass")
    assert line(process) == "on"

    assert group.kill(timeout_seconds=30)  # they take their share of a busy machine too

    assert group.pids() == frozenset()
    end(group, process)


@pytest.mark.root
def test_limits_are_set_again_on_a_group_that_is_there(layout: CgroupLayout):
    group = cgroups.create(layout, "w1", LIMITS)
    process = start(group, "import time; time.sleep(1000)")

    for limits in (Limits(256 * MIB, 2, 60), Limits(64 * MIB, 1, 20)):
        again = cgroups.create(layout, "w1", limits)
        assert again.pids() == {process.pid}
    fresh = start(again, "b'x' * (100 << 20)")

    assert fresh.wait(20) == -9
    assert fresh.stdout is not None
    fresh.stdout.close()
    end(again, process)


@pytest.mark.root
def test_a_sweep_takes_what_nobody_keeps_and_only_of_its_own_installation(layout: CgroupLayout):
    other = cgroups.find_layout(f"test-{secrets.token_hex(4)}")
    groups = {name: cgroups.create(layout, name, LIMITS) for name in ("kept", "left", "empty")}
    others = cgroups.create(other, "left", LIMITS)
    processes = {
        name: start(group, "import time; time.sleep(1000)")
        for name, group in (("kept", groups["kept"]), ("left", groups["left"]), ("other", others))
    }

    assert cgroups.sweep(layout, keep=frozenset({"kept", "unknown"})) == ("empty", "left")
    assert cgroups.sweep(layout, keep=frozenset({"kept"})) == ()

    assert processes["left"].wait(10) == -9
    assert processes["kept"].poll() is processes["other"].poll() is None
    assert cgroups.open_group(layout, "left") is None
    assert cgroups.open_group(layout, "kept") is not None
    end(groups["kept"], processes["kept"])
    end(others, processes["other"])
    assert processes["left"].stdout is not None
    processes["left"].stdout.close()
    cgroups.uninstall(other)


@pytest.mark.root
def test_removing_and_killing_may_be_repeated(layout: CgroupLayout):
    group = cgroups.create(layout, "w1", LIMITS)

    for _ in range(2):
        assert group.kill()
        group.remove()

    assert not group.exists
    assert (group.pids(), group.oom_kills()) == (frozenset(), 0)


@pytest.mark.root
def test_finding_out_leaves_no_group_behind_and_removing_takes_the_installations_own():
    layout = cgroups.find_layout(installation := f"test-{secrets.token_hex(4)}")

    assert all(not [entry for entry in os.scandir(root) if entry.is_dir()] for root in layout.folders)
    cgroups.uninstall(layout)
    cgroups.uninstall(layout)

    left = [mount.split()[1] for mount in MOUNTS.read_text().splitlines() if mount.split()[2].startswith("cgroup")]
    assert not any(Path(place, "neuropod", installation).exists() for place in left)


def without_groups() -> CgroupLayout:
    return CgroupLayout(0, {}, {"memory": "none", "cpu": "none", "pids": "none"})


def test_without_control_groups_everything_does_nothing():
    layout = without_groups()
    group = cgroups.create(layout, "w1", LIMITS)

    group.add(os.getpid())
    group.remove()

    assert group.kill()
    assert group.oom_kills() == 0
    assert group.usage() == cgroups.Usage(None, None, None)
    assert cgroups.open_group(layout, "w1") is None
    assert cgroups.sweep(layout, keep=frozenset()) == ()


@pytest.mark.user
def test_a_user_whom_none_is_delegated_to_is_told_why():
    layout = cgroups.find_layout("test-user")

    if layout.version:
        pytest.skip("not run: control groups are delegated to this user")
    assert layout.roots == {}
    assert set(layout.missing) == {"memory", "cpu", "pids"}
    assert all("group" in why for why in layout.missing.values())


def test_a_layout_survives_the_way_through_json():
    layout = CgroupLayout(1, {"memory": "/sys/fs/cgroup/memory/neuropod/i"}, {"cpu": "because"})

    assert CgroupLayout.from_json(layout.as_json()) == layout
