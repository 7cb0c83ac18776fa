"""Limits of memory, CPU and processes by control groups, version 1 and (delegated) version 2.

Called by the server (`sweep`, `find_layout` through `machine`) and by each pod's shim (`create`). A machine without
usable controllers has an empty layout: groups of it do nothing and say so in the report.

The groups are `neuropod/<installation>/<workload>`: on version 1 below each controller's mount, on version 2 below the
root's group (as root) or below the highest group that is delegated to this user.
"""

import errno
import os
import signal
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_LIMITING = ("memory", "cpu", "pids")
_COUNTING = "cpuacct"  # version 1 counts CPU time elsewhere
_DEVICES = "devices"  # version 1 can also keep device files shut; there is no promise about it
# null, zero, full, random, urandom, tty, ptmx and the terminals below it: what every sandbox has.
_PLAIN_DEVICES = ("c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:2", "c 136:*")
_PERIOD_MICROSECONDS = 100_000
_PAUSE_SECONDS = 0.002
_TOP = "neuropod"


@dataclass(frozen=True, slots=True)
class CgroupLayout:
    """Where this installation's groups are made."""

    version: Literal[0, 1, 2]
    roots: Mapping[str, str]  # controller (memory, cpu, pids) → folder of the installation; v2: all the same one
    missing: Mapping[str, str]  # controller → why it cannot be used

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"version": self.version, "roots": dict(self.roots), "missing": dict(self.missing)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CgroupLayout":
        """Return the layout that `as_json` wrote."""
        return cls(data["version"], dict(data["roots"]), dict(data["missing"]))

    @property
    def folders(self) -> tuple[str, ...]:
        """Return each folder once."""
        return tuple(dict.fromkeys(self.roots.values()))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a group may use."""

    memory_bytes: int
    cpu_cores: int
    pids: int
    devices: tuple[str, ...] = ()  # device files that may be opened besides the plain ones: GPUs


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group uses now; None where its controller is missing."""

    memory_bytes: int | None
    cpu_seconds: float | None
    pids: int | None


class Cgroup:
    """The group of one workload."""

    def __init__(self, layout: CgroupLayout, workload: str) -> None:
        self._version = layout.version
        self._folders = {controller: Path(root, workload) for controller, root in layout.roots.items()}
        self._all = tuple(dict.fromkeys(self._folders.values()))

    def make(self, limits: Limits) -> None:
        """Let the group be there with these limits."""
        for folder in self._all:
            folder.mkdir(exist_ok=True)
        write = self._write_limits_1 if self._version == 1 else self._write_limits_2
        write(limits)

    def _write_limits_1(self, limits: Limits) -> None:
        if (memory := self._folders.get("memory")) is not None:
            swap = memory / "memory.memsw.limit_in_bytes"
            if swap.exists():  # it may never be below the limit of memory, whichever way that moves
                with suppress(OSError):
                    _write(swap, "-1")
            _write(memory / "memory.limit_in_bytes", limits.memory_bytes)
            if swap.exists():
                _write(swap, limits.memory_bytes)
        if (cpu := self._folders.get("cpu")) is not None:
            _write(cpu / "cpu.cfs_period_us", _PERIOD_MICROSECONDS)
            _write(cpu / "cpu.cfs_quota_us", limits.cpu_cores * _PERIOD_MICROSECONDS)
        if (pids := self._folders.get("pids")) is not None:
            _write(pids / "pids.max", limits.pids)
        if (devices := self._folders.get(_DEVICES)) is not None:
            with suppress(OSError):  # a group above does not let us: nothing in the pod can make a device file anyway
                _write(devices / "devices.deny", "a")
                for rule in (*_PLAIN_DEVICES, *map(_device_rule, limits.devices)):
                    _write(devices / "devices.allow", f"{rule} rw")

    def _write_limits_2(self, limits: Limits) -> None:
        if (memory := self._folders.get("memory")) is not None:
            _write(memory / "memory.max", limits.memory_bytes)
            with suppress(OSError):  # no swap accounting
                _write(memory / "memory.swap.max", 0)
        if (cpu := self._folders.get("cpu")) is not None:
            _write(cpu / "cpu.max", f"{limits.cpu_cores * _PERIOD_MICROSECONDS} {_PERIOD_MICROSECONDS}")
        if (pids := self._folders.get("pids")) is not None:
            _write(pids / "pids.max", limits.pids)

    @property
    def exists(self) -> bool:
        """Tell whether any of its folders is there."""
        return any(folder.is_dir() for folder in self._all)

    def add(self, pid: int) -> None:
        """Put a process, and what it starts, under the limits."""
        for folder in self._all:
            _write(folder / "cgroup.procs", pid)

    def pids(self) -> frozenset[int]:
        """Return the processes in it."""
        found: set[int] = set()
        for folder in self._all:
            found |= _members(folder)
        return frozenset(found)

    def kill(self, *, timeout_seconds: float = 5) -> bool:
        """Kill everything in it, until it is empty (True) or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            empty = True
            for folder in self._all:
                empty = _kill_members(folder) and empty
            if empty or time.monotonic() > deadline:
                return empty
            time.sleep(_PAUSE_SECONDS)

    def oom_kills(self) -> int:
        """Tell how often the kernel killed something in it for memory."""
        memory = self._folders.get("memory")
        if memory is None:
            return 0
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        return _field(memory / name, "oom_kill") or 0

    def usage(self) -> Usage:
        """Measure."""
        memory, cpu, pids = (self._folders.get(controller) for controller in _LIMITING)
        if self._version == 1:
            counted = self._folders.get(_COUNTING)
            used = None if counted is None else _number(counted / "cpuacct.usage")
            seconds = None if used is None else used / 1e9
        else:
            used = None if cpu is None else _field(cpu / "cpu.stat", "usage_usec")
            seconds = None if used is None else used / 1e6
        name = "memory.usage_in_bytes" if self._version == 1 else "memory.current"
        return Usage(
            memory_bytes=None if memory is None else _number(memory / name),
            cpu_seconds=seconds,
            pids=None if pids is None else _number(pids / "pids.current"),
        )

    def reclaimable_bytes(self) -> int:
        """Tell how much of its memory is cache of files that nobody used lately: the kernel takes that back first."""
        memory = self._folders.get("memory")
        if memory is None:
            return 0
        name = "total_inactive_file" if self._version == 1 else "inactive_file"
        return _field(memory / "memory.stat", name) or 0

    def remove(self) -> None:
        """Remove the emptied group; may be repeated. A group that does not empty within a second stays to `sweep`."""
        deadline = time.monotonic() + 1
        for folder in self._all:
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError as error:
                    # A process that was reaped a moment ago may still be counted.
                    if error.errno != errno.EBUSY or time.monotonic() > deadline:
                        break
                    time.sleep(_PAUSE_SECONDS)
                else:
                    break


def find_layout(installation: str) -> CgroupLayout:
    """Find, by trying, which controllers this process can use for groups of its own."""
    mounts = _mounts()
    roots: dict[str, str] = {}
    missing: dict[str, str] = {}
    version: Literal[0, 1, 2] = 0
    unified = _unified(mounts)
    if unified is not None:
        roots, missing = _try_version_2(unified, installation)
        version = 2 if roots else 0
    if not roots:
        found, why = _try_version_1(mounts, installation)
        if found or not missing:
            roots, missing = found, why
        version = 1 if roots else 0
    return CgroupLayout(version, roots, missing)


def _mounts() -> list[tuple[str, str, frozenset[str]]]:
    """Return (kind, mount point, options of the file system) of every control group mount that is seen whole."""
    found = []
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(" ", 2)
            if kind in {"cgroup", "cgroup2"}:
                found.append((kind, left.split(" ")[4], frozenset(options.split(","))))
    return found


def _unified(mounts: list[tuple[str, str, frozenset[str]]]) -> Path | None:
    return next((Path(place) for kind, place, _ in mounts if kind == "cgroup2"), None)


def _try_version_1(
    mounts: list[tuple[str, str, frozenset[str]]], installation: str
) -> tuple[dict[str, str], dict[str, str]]:
    roots: dict[str, str] = {}
    missing: dict[str, str] = {}
    for controller in (*_LIMITING, _COUNTING, _DEVICES):
        place = next((place for kind, place, options in mounts if kind == "cgroup" and controller in options), None)
        if place is None:
            missing[controller] = f"no control group with the controller {controller} is mounted"
            continue
        folder = Path(place, _TOP, installation)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _try(folder)
        except OSError as error:
            missing[controller] = f"no group can be made in {place}: {error.strerror}"
        else:
            roots[controller] = str(folder)
    for name in (_COUNTING, _DEVICES):
        missing.pop(name, None)
    return roots, missing


def _try_version_2(unified: Path, installation: str) -> tuple[dict[str, str], dict[str, str]]:
    base = _highest_of_ours(unified)
    if base is None:
        return {}, dict.fromkeys(_LIMITING, "no control group is delegated to this user")
    try:
        offered = set((base / "cgroup.controllers").read_text().split())
        folder = base / _TOP / installation
        for parent, child in ((base, folder.parent), (folder.parent, folder)):
            _pass_down(parent, offered)
            child.mkdir(exist_ok=True)
        _pass_down(folder, offered)
        _try(folder)
        usable = set((folder / "cgroup.subtree_control").read_text().split())
    except OSError as error:
        return {}, dict.fromkeys(_LIMITING, f"no group can be made in {base}: {error.strerror}")
    roots = {controller: str(folder) for controller in _LIMITING if controller in usable}
    missing = {
        controller: f"{base} does not have the controller {controller}"
        for controller in _LIMITING
        if controller not in usable
    }
    if not roots:
        _drop(folder)
        _drop(folder.parent)
    return roots, missing


def _highest_of_ours(unified: Path) -> Path | None:
    """Return the highest group on the way to this process's own in which it may make groups."""
    if os.access(unified / "cgroup.subtree_control", os.W_OK):
        return unified
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                own = line[len("0::/") :]
                place = unified
                for part in own.split("/"):
                    place = place / part
                    if all(os.access(place / name, os.W_OK) for name in ("", "cgroup.procs", "cgroup.subtree_control")):
                        return place
    return None


def _pass_down(folder: Path, offered: set[str]) -> None:
    have = set((folder / "cgroup.subtree_control").read_text().split())
    for controller in _LIMITING:
        if controller in offered and controller not in have:
            with suppress(OSError):  # a group with processes of its own passes nothing down
                _write(folder / "cgroup.subtree_control", f"+{controller}")


def _try(folder: Path) -> None:
    """Make a group, put a process in it and take both away again; OSError when that does not go."""
    trial = folder / f".trial-{os.getpid()}"
    trial.mkdir(exist_ok=True)
    try:
        pid = os.posix_spawn("/bin/sleep", ["sleep", "5"], {})
        try:
            _write(trial / "cgroup.procs", pid)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    finally:
        _drop(trial)


def create(layout: CgroupLayout, workload: str, limits: Limits) -> Cgroup:
    """Make the workload's group with its limits, or set them again on one that is there."""
    for root in layout.folders:
        Path(root).mkdir(parents=True, exist_ok=True)  # `sweep` of an empty installation took it away
    group = Cgroup(layout, workload)
    group.make(limits)
    return group


def open_group(layout: CgroupLayout, workload: str) -> Cgroup | None:
    """Return the workload's group if there is one, for looking at it and killing it."""
    group = Cgroup(layout, workload)
    return group if group.exists else None


def sweep(layout: CgroupLayout, *, keep: frozenset[str]) -> tuple[str, ...]:
    """Kill and remove this installation's groups whose workload is not in `keep`; returns their names."""
    names: set[str] = set()
    for root in layout.folders:
        with suppress(FileNotFoundError):
            names |= {entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)}
    gone = tuple(sorted(names - keep))
    for name in gone:
        group = Cgroup(layout, name)
        group.kill()
        group.remove()
    return gone


def uninstall(layout: CgroupLayout) -> None:
    """Remove the installation's own folders when no group is left in them; may be repeated."""
    for root in layout.folders:
        for folder in (Path(root), Path(root).parent):
            with suppress(OSError):
                folder.rmdir()


def _device_rule(path: str) -> str:
    """Return how version 1 names a device file."""
    facts = os.stat(path)  # noqa: PTH116 - a plain call, as all of this module's
    kind = "b" if stat.S_ISBLK(facts.st_mode) else "c"
    return f"{kind} {os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}"


def _write(path: Path, value: int | str) -> None:
    # Unbuffered and one call, since each write is an order to the kernel.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def _members(folder: Path) -> set[int]:
    try:
        return {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    except OSError:
        return set()


def _kill_members(folder: Path) -> bool:
    """Kill what is in a group now; True when nothing was."""
    members = _members(folder)
    if not members:
        return True
    with suppress(OSError):
        _write(folder / "cgroup.kill", 1)
        return False
    held: dict[int, int] = {}
    for pid in members:
        with suppress(ProcessLookupError):
            held[pid] = os.pidfd_open(pid)
    try:
        # Who is still listed after its descriptor was opened is who the descriptor means (SECURITY 8).
        for pid in held.keys() & _members(folder):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(held[pid], signal.SIGKILL)
    finally:
        for fd in held.values():
            os.close(fd)
    return False


def _drop(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _field(path: Path, name: str) -> int | None:
    with suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return None
