"""The state file: what a shim says of its workload, and the proof that it is that shim which said it.

Written by the shim (and once, before it takes over, by `runtime`), read by `runtime`. A state is believed only when its
boot id is this boot's and a live process has the recorded number *and* start time (SECURITY 8): numbers come again,
the pair does not. Standard library only.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

STATE_FILE = "state.json"


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with its number."""

    pid: int
    start_time: int  # ticks since boot, /proc/<pid>/stat

    @staticmethod
    def of(pid: int) -> "ProcessId":
        """Return the identity of a live process; ProcessLookupError when there is none."""
        found = _stat(pid)
        if found is None:
            raise ProcessLookupError(f"no process {pid}")
        return ProcessId(pid, int(found[19]))

    @property
    def alive(self) -> bool:
        """Tell whether that very process still runs (a zombie does not)."""
        found = _stat(self.pid)
        return found is not None and int(found[19]) == self.start_time and found[0] not in "ZX"


def parent_of(pid: int) -> int | None:
    """Return the number of a process's parent; None when there is no such process."""
    found = _stat(pid)
    return None if found is None else int(found[1])


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the state on: 0 state, 1 parent, 19 start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode("ascii", "replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, parentheses too: count from the last one.
    return text[text.rindex(")") + 2 :].split()


def boot_id() -> str:
    """Return the id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class State:
    """What a shim says. Times are seconds since the epoch, words are those of `contract` and `words`."""

    installation: str
    pod: str
    incarnation: int
    boot_id: str
    shim_pid: int
    shim_start_time: int
    taken: bool = False  # the shim has the plan; until then nothing but the shim was started
    phase: str = "pending"
    reason: str = "starting"
    message: str = ""
    progress: dict[str, Any] | None = None
    address: str | None = None
    main_pid: int | None = None  # the pod's first process, as the host counts
    main_start_time: int | None = None
    exit_code: int | None = None
    started_at: float | None = None
    ready_at: float | None = None
    stopping_at: float | None = None
    finished_at: float | None = None

    @property
    def identity(self) -> str:
        """The object's own identity: boot, process, start time."""
        return f"{self.boot_id}/{self.shim_pid}/{self.shim_start_time}"

    @property
    def shim(self) -> ProcessId:
        """The shim."""
        return ProcessId(self.shim_pid, self.shim_start_time)

    @property
    def main(self) -> ProcessId | None:
        """The pod's first process, once it runs."""
        if self.main_pid is None or self.main_start_time is None:
            return None
        return ProcessId(self.main_pid, self.main_start_time)

    def shim_lives(self, *, this_boot: str) -> bool:
        """Tell whether the shim that wrote this still runs."""
        return self.boot_id == this_boot and self.shim.alive


_FIELDS = frozenset(field.name for field in fields(State))


def read_state(state_dir: Path) -> State | None:
    """Return the state in a directory; None when there is none, ValueError when it cannot be understood.

    What another version added is passed over: shims outlive upgrades of the server.
    """
    try:
        data = (state_dir / STATE_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return State(**{name: value for name, value in json.loads(data).items() if name in _FIELDS})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{state_dir / STATE_FILE} is not a state of this version: {error}") from error


def write_state(state_dir: Path, state: State) -> None:
    """Replace the state; a reader sees the old one or the new one. Not synced: after a crash its boot id is stale."""
    write_file(state_dir / STATE_FILE, json.dumps(asdict(state)).encode())


def write_file(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Replace a file of ours atomically, 0600; with `sync` it is on the disk before this returns."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
