"""Slots: small numbers that networks are named by, each held by one live shim. The kernel lets go for the dead.

A slot is the lock file `<run dir>/slots/<number>`; its content says who took it last and what he left on the machine
if he died, so that the next one, or a sweep, takes that away first. Called by `rootnet` and `usernet`.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Slot:
    """A slot that this process holds as long as the descriptor is open."""

    number: int
    fd: int

    def note(self) -> dict[str, Any]:
        """Return what the last holder left; empty when he went in order."""
        with suppress(ValueError):
            value = json.loads(os.pread(self.fd, 65536, 0) or b"{}")
            if isinstance(value, dict):
                return value
        return {}

    def write(self, note: Mapping[str, Any]) -> None:
        """Say what there is to be taken away if this process dies."""
        data = json.dumps(dict(note)).encode()
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, data, 0)

    def leave(self) -> None:
        """Let go, with nothing left behind; may be repeated."""
        if self.fd >= 0:
            os.ftruncate(self.fd, 0)
            self.drop()

    def drop(self) -> None:
        """Let go as a process that dies does: what was noted stays noted."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def take(run_dir: Path, limit: int) -> Slot:
    """Take the first free slot; OSError when all are held."""
    folder = _folder(run_dir)
    for number in range(limit):
        if (slot := _try(folder / str(number), number, create=True)) is not None:
            return slot
    raise OSError(f"all {limit} network slots are taken")


def abandoned(run_dir: Path) -> Iterator[Slot]:
    """Yield, held, each slot that its last holder left without a word; what the caller does not `leave` stays noted."""
    folder = _folder(run_dir)
    for path in sorted(folder.iterdir()):
        if not path.name.isdigit() or not _size(path):
            continue
        slot = _try(path, int(path.name), create=False)
        if slot is not None:
            try:
                if slot.note():
                    yield slot
            finally:
                slot.drop()


def held(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Yield the note of each slot that a live shim holds now."""
    folder = _folder(run_dir)
    for path in folder.iterdir():
        if path.name.isdigit() and _size(path):
            slot = _try(path, int(path.name), create=False)
            if slot is not None:
                slot.drop()
                continue
            with suppress(OSError, ValueError):
                yield json.loads(path.read_bytes())


@contextmanager
def alone(run_dir: Path) -> Iterator[None]:
    """Be the only one, of all installations of this machine, who changes what they share."""
    fd = os.open(_folder(run_dir).parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _folder(run_dir: Path) -> Path:
    folder = run_dir / "slots"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _try(path: Path, number: int, *, create: bool) -> Slot | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return Slot(number, fd)
