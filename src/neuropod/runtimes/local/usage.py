"""What pods use now: CPU time and memory by their control groups, where there are none by their processes; disks; GPUs.

Called by `runtime.usage` in a thread, for all pods at once: one look at /proc serves them all, and no disk is scanned.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neuropod.runtimes.local import cgroups, disksizes
from neuropod.runtimes.local.diskplaces import DiskPlan
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.state import State
from neuropod.runtimes.usage import GpuUsage, Usage

GpuMeter = Callable[[Sequence[str]], Sequence[GpuUsage]]  # the use of GPUs by name; those it cannot tell are left out

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Processes:
    """The processes of this machine as they were at one look."""

    def __init__(self) -> None:
        self._children: dict[int, list[_Process]] = {}
        for process in _processes():
            self._children.setdefault(process.parent, []).append(process)

    def below(self, pid: int) -> "Iterator[_Process]":
        """Yield what is below a process, without itself."""
        for child in self._children.get(pid, ()):
            yield child
            yield from self.below(child.pid)


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    cpu_seconds: float  # with that of its children that ended and were waited for
    memory_bytes: int


def _processes() -> Iterator[_Process]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                text = Path(entry.path, "stat").read_bytes().decode("ascii", "replace")
                # The name stands in parentheses and may hold anything: count from the last one. 0 is the state.
                facts = text[text.rindex(")") + 2 :].split()
                ticks = sum(map(int, facts[11:15]))
                yield _Process(int(entry.name), int(facts[1]), ticks / _TICKS, int(facts[21]) * _PAGE_BYTES)


def measure(running: Iterable[tuple[State, Plan]], gpus: GpuMeter) -> Iterator[tuple[State, Usage]]:
    """Yield the use of each pod whose process runs."""
    processes: Processes | None = None
    for state, plan in running:
        cpu_seconds, memory_bytes = _by_group(plan)
        if cpu_seconds is None or memory_bytes is None:
            processes = processes or Processes()
            below = list(processes.below(state.shim_pid))
            if cpu_seconds is None:
                cpu_seconds = sum(process.cpu_seconds for process in below)
            if memory_bytes is None:
                memory_bytes = sum(process.memory_bytes for process in below)
        where = DiskPlan.from_json(plan.disks)
        yield (
            state,
            Usage(
                cpu_seconds=cpu_seconds,
                memory_bytes=memory_bytes,
                container_disk_bytes=disksizes.used_by_container_disk(where, plan.key),
                volume_bytes=None if plan.volume is None else disksizes.used_by_volume(where, plan.volume.id),
                gpus=tuple(gpus(plan.gpus)) if plan.gpus else (),
            ),
        )


def _by_group(plan: Plan) -> tuple[float | None, int | None]:
    group = cgroups.open_group(cgroups.CgroupLayout.from_json(plan.cgroups), plan.key)
    if group is None:
        return None, None
    used = group.usage()
    if used.memory_bytes is None:
        return used.cpu_seconds, None
    return used.cpu_seconds, max(0, used.memory_bytes - group.reclaimable_bytes())


def running_of(states: Mapping[Path, State | None], *, this_boot: str) -> Iterator[tuple[State, Plan]]:
    """Yield state and plan of those whose process runs, by their state directories."""
    for directory, state in states.items():
        if state is None or state.started_at is None or state.phase == "exited":
            continue
        if state.shim_lives(this_boot=this_boot):
            with suppress(OSError, ValueError):  # taken away meanwhile
                yield state, Plan.read(directory)
