"""Taking away what an incarnation left: its disk always, and what its shim could not give back when that was killed.

Called by `runtime` in threads. Everything is found by the incarnation's own key, and processes by number *and* start
time, so that a stale call hits nothing (SECURITY 8).
"""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from neuropod.runtimes.local import cgroups, disks, disksizes, network
from neuropod.runtimes.local.ground import Opened
from neuropod.runtimes.local.places import PodDirectories
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.state import ProcessId, State
from neuropod.runtimes.local.tools import ToolFailedError


def clean(opened: Opened, plan: Plan, state: State | None) -> None:
    """Take away the incarnation's processes, groups, mounts and disk; `state` is one of this boot, or None.

    Where the shim ended in order only the disk is left.
    """
    if state is not None and state.main is not None:
        kill_process(state.main)
    group = cgroups.open_group(opened.cgroups, plan.key)
    if group is not None:
        group.kill()
        group.remove()
    if state is None or state.phase != "exited":
        network.sweep(opened.network)
        disks.sweep(opened.disks)
    disks.remove_container_disk(opened.disks, plan.key)


def kill_process(process: ProcessId) -> None:
    """Kill that very process if it still runs: the descriptor is opened first, then the identity is compared."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if process.alive:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


def sweep(opened: Opened, directories: PodDirectories, *, this_boot: str) -> None:
    """Take away what shims that were killed left on the machine, at open; workloads themselves wait for `remove`."""
    alive = {
        Plan.read(directories.state_dir(pod, incarnation)).key
        for pod, incarnation, state in directories.states()
        if state is not None and state.shim_lives(this_boot=this_boot)
    }
    cgroups.sweep(opened.cgroups, keep=frozenset(alive))
    network.sweep(opened.network)
    disks.sweep(opened.disks)


def leave(opened: Opened) -> None:
    """Take back what was prepared for pods, when none is left; the next open prepares it again."""
    with suppress(OSError, ToolFailedError):
        network.uninstall(opened.network)
        cgroups.uninstall(opened.cgroups)


def delete_log(directory: Path) -> None:
    """Delete an old log: files of ours alone."""
    shutil.rmtree(directory, ignore_errors=True)


def disk_capacity_bytes(opened: Opened) -> int:
    """Tell how much disk can be promised in all."""
    return disksizes.capacity_bytes(opened.disks)
