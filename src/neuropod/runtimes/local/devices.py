"""The GPUs of this machine: what one is, the device files that it needs, and which of them can be given out.

Called by `runtime` and `planning`. Who tells what is there is a `GpuReader` (`nvml` on a real machine); here is what is
made of that: a GPU whose device files pods cannot open is in trouble, whatever the driver says of it.
"""

import os
import stat
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from neuropod.runtimes.local.driverfiles import driver_files
from neuropod.runtimes.usage import GpuUsage

_CONTROL = "/dev/nvidiactl"
_MEMORY = "/dev/nvidia-uvm"
_NEEDED = (_CONTROL, _MEMORY)
_WHERE_THERE = ("/dev/nvidia-uvm-tools",)  # for profilers
_MAKER = "/usr/bin/nvidia-modprobe"  # the driver's own program that makes missing device files
_OPEN_TO_ALL = stat.S_IROTH | stat.S_IWOTH
_LEFT_TO_OTHERS = "the setting local.gpus leaves it to others"
_FRESH_SECONDS = 2.0
_NONE_AGAIN_SECONDS = 30.0  # where there were no GPUs: a driver that is loaded later is found so soon


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its name over reboots (`GPU-<uuid>`), its model, its number here, and what is wrong with it."""

    name: str
    model: str
    minor: int
    index: int = 0
    memory_bytes: int = 0
    bus_id: str = ""  # of the PCI bus, as the kernel writes it: `0000:01:00.0`
    trouble: str = ""  # a sentence; such a GPU is given to nobody


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found, in the driver's order; `why_none` is the sentence when it could not look."""

    gpus: tuple[Gpu, ...] = ()
    why_none: str = ""


class GpuReader(Protocol):
    """Where GPUs are read from. Called from threads, one call at a time."""

    def read(self) -> Reading:
        """Look now; never raises for a machine without GPUs."""
        ...

    def use_of(self, names: Sequence[str]) -> Sequence[GpuUsage]:
        """Tell how much of these GPUs is used; those it cannot tell are left out."""
        ...

    def close(self) -> None:
        """Let go of the driver; may be repeated."""
        ...


class MachineGpus:
    """The GPUs of this machine as they are now. Made by `runtime`; threads may call it."""

    def __init__(self, reader: GpuReader, *, root: Path = Path("/"), given: Collection[str] | None = None) -> None:
        self.root = root  # where device files are: `<root>/dev/nvidia0`
        self._given = given  # names of those that pods may have; None: all
        self._reader = reader
        self._lock = threading.Lock()
        self._reading = Reading()
        self._fresh_until = 0.0
        self._driver_files: tuple[str, ...] | None = None

    def read(self, mode: Literal["root", "user", "none"]) -> Reading:
        """Return what is there, at most a few seconds old; `mode` is how pods will be isolated."""
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                found = self._reader.read()
                if mode == "root":
                    make_missing_nodes(found.gpus, self.root)
                self._reading = replace(found, gpus=tuple(self._checked(gpu, mode) for gpu in found.gpus))
                seconds = _FRESH_SECONDS if found.gpus else _NONE_AGAIN_SECONDS
                self._fresh_until = time.monotonic() + seconds
            return self._reading

    def _checked(self, gpu: Gpu, mode: str) -> Gpu:
        if self._given is not None and gpu.name not in self._given:
            return replace(gpu, trouble=_LEFT_TO_OTHERS)
        return _checked(gpu, mode, self.root)

    def driver_files(self) -> tuple[str, ...]:
        """Return the driver's files that pods with a GPU need and have not anyway (`driverfiles`), looked for once."""
        with self._lock:
            if self._driver_files is None:
                self._driver_files = driver_files()
            return self._driver_files

    def use_of(self, names: Sequence[str]) -> Sequence[GpuUsage]:
        """Tell how much of these GPUs is used (`usage.GpuMeter`)."""
        with self._lock:
            return self._reader.use_of(names)

    def close(self) -> None:
        """Let go of the driver."""
        with self._lock:
            self._reader.close()
            self._fresh_until = 0.0


def notes_on(reading: Reading) -> tuple[str, ...]:
    """Return what `neuropod doctor` says of the GPUs: a line each."""
    if not reading.gpus:
        return (f"GPUs: none. {reading.why_none}".rstrip(),)
    lines = [f"GPU {gpu.index}: {gpu.model}, {gpu.memory_bytes // 2**30} GiB, {gpu.name}" for gpu in reading.gpus]
    return tuple(
        line if not gpu.trouble else f"{line}. NOT given to pods: {gpu.trouble}."
        for line, gpu in zip(lines, reading.gpus, strict=True)
    )


def node_of(gpu: Gpu) -> str:
    """Return the GPU's own device file."""
    return f"/dev/nvidia{gpu.minor}"


def device_nodes(gpus: Mapping[str, Gpu], names: Sequence[str], *, root: Path = Path("/")) -> tuple[str, ...]:
    """Return the device files of the named GPUs and those that all need; none for none. KeyError: no such GPU.

    A GPU is given whole, so none of the driver's capability files (`/dev/nvidia-caps`, for parts of one) is among them.
    """
    if not names:
        return ()
    shared = (node for node in (*_NEEDED, *_WHERE_THERE) if _place(root, node).exists())
    return (*(node_of(gpus[name]) for name in names), *shared)


def make_missing_nodes(gpus: Sequence[Gpu], root: Path) -> None:
    """Let the driver's own program make device files that are missing, as the first CUDA program of a host does."""
    minors = [gpu.minor for gpu in gpus if not _place(root, node_of(gpu)).exists()]
    if gpus and root == Path("/") and (minors or not Path(_MEMORY).exists()) and os.access(_MAKER, os.X_OK):
        words = [_MAKER, "-u", "-c", "0", *(word for minor in minors for word in ("-c", str(minor)))]
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(words, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)


def _checked(gpu: Gpu, mode: str, root: Path) -> Gpu:
    """Return the GPU with what its device files have wrong, unless something is wrong with it already."""
    if gpu.trouble:
        return gpu
    for node in (node_of(gpu), *_NEEDED):
        if trouble := _trouble_of(node, mode, root):
            return replace(gpu, trouble=trouble)
    return gpu


def _trouble_of(node: str, mode: str, root: Path) -> str:
    place = _place(root, node)
    try:
        permissions = place.stat().st_mode
    except OSError:
        return f"its device file {node} is not there"
    # As root each owner's pods have a uid of their own; else they have this server's.
    usable = permissions & _OPEN_TO_ALL == _OPEN_TO_ALL if mode == "root" else os.access(place, os.R_OK | os.W_OK)
    return "" if usable else f"pods cannot open its device file {node} (mode {stat.S_IMODE(permissions):04o})"


def _place(root: Path, node: str) -> Path:
    return root / node.lstrip("/")
