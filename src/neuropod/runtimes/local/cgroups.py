"""Limits of memory, CPU and processes by control groups, version 1 and (delegated) version 2.

Called by the server (`sweep`, `find_layout` through `machine`) and by each pod's shim (`create`). A machine without
usable controllers has an empty layout: groups of it do nothing and say so in the report.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class CgroupLayout:
    """Where this installation's groups are made."""

    version: Literal[0, 1, 2]
    roots: Mapping[str, str]  # controller (memory, cpu, pids) → folder of the installation; v2: all the same one
    missing: Mapping[str, str]  # controller → why it cannot be used

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CgroupLayout":
        """Return the layout that `as_json` wrote."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Limits:
    """What a group may use."""

    memory_bytes: int
    cpu_cores: int
    pids: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group uses now; None where its controller is missing."""

    memory_bytes: int | None
    cpu_seconds: float | None
    pids: int | None


class Cgroup:
    """The group of one workload."""

    def add(self, pid: int) -> None:
        """Put a process, and what it starts, under the limits."""
        raise NotImplementedError

    def pids(self) -> frozenset[int]:
        """Return the processes in it."""
        raise NotImplementedError

    def kill(self, *, timeout_seconds: float = 5) -> bool:
        """Kill everything in it, until it is empty (True) or the time is over."""
        raise NotImplementedError

    def oom_kills(self) -> int:
        """Tell how often the kernel killed something in it for memory."""
        raise NotImplementedError

    def usage(self) -> Usage:
        """Measure."""
        raise NotImplementedError

    def remove(self) -> None:
        """Remove the emptied group; may be repeated."""
        raise NotImplementedError


def find_layout(installation: str) -> CgroupLayout:
    """Find, by trying, which controllers this process can use for groups of its own."""
    raise NotImplementedError


def create(layout: CgroupLayout, workload: str, limits: Limits) -> Cgroup:
    """Make the workload's group with its limits, or set them again on one that is there."""
    raise NotImplementedError


def open_group(layout: CgroupLayout, workload: str) -> Cgroup | None:
    """Return the workload's group if there is one, for looking at it and killing it."""
    raise NotImplementedError


def sweep(layout: CgroupLayout, *, keep: frozenset[str]) -> tuple[str, ...]:
    """Kill and remove this installation's groups whose workload is not in `keep`; returns their names."""
    raise NotImplementedError
