"""The reader of NVIDIA's GPUs: NVML, the driver's management library, by its official bindings.

Made by `runtimes.local.runtime` where nobody brings another. A machine without the driver is no error: the reading says
why there is nothing. NVML is opened at the first look and stays open, which also keeps the driver awake.

Health: a GPU that no longer answers (it has fallen off its bus) and one that reported a critical Xid are in trouble.
Xids that a pod's own program causes are passed over, as NVIDIA's device plugin does. One that has reported a critical
Xid stays in trouble until the server starts anew: what it needs is a reset by a person.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pynvml

from neuropod.runtimes.local.devices import Gpu, Reading
from neuropod.runtimes.local.driverfiles import PROC
from neuropod.runtimes.usage import GpuUsage

# Of the program, not of the GPU: graphics engine exception, page fault, stopped processing, preemptive cleanup, video
# processor exception, context switch timeout (NVIDIA's k8s-device-plugin passes over the same).
_OF_PROGRAMS = frozenset({13, 31, 43, 45, 68, 109})
_MOST_EVENTS = 1000  # of one look


class NvmlReader:
    """Implements `devices.GpuReader`. `library` is the module `pynvml`, or what tests play it with."""

    def __init__(self, library: Any = pynvml) -> None:
        self._nvml = library
        self._is_open = False
        self._events: Any = None
        self._watched: set[str] = set()
        self._known: dict[str, Gpu] = {}  # every GPU that was ever seen: one that is lost cannot tell its name
        self._xids: dict[str, int] = {}

    def read(self) -> Reading:
        try:
            self._open()
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            self.close()
            lost = tuple(_lost(gpu, str(error)) for gpu in self._known.values())
            return Reading(lost, _why_none(error))
        found = [gpu for gpu in (self._gpu(index) for index in range(count)) if gpu is not None]
        self._hear_events()
        names = {gpu.name for gpu in found}
        found += [_lost(gpu, "it does not answer") for name, gpu in self._known.items() if name not in names]
        return Reading(tuple(self._with_xid(gpu) for gpu in found), "" if found else "The driver tells of no GPU.")

    def use_of(self, names: Sequence[str]) -> Sequence[GpuUsage]:
        nvml = self._nvml
        found = []
        for name in names if self._is_open else ():
            try:
                handle = nvml.nvmlDeviceGetHandleByUUID(name)
            except nvml.NVMLError:
                continue
            rates = self._told(partial(nvml.nvmlDeviceGetUtilizationRates, handle))
            memory = self._told(partial(nvml.nvmlDeviceGetMemoryInfo, handle))
            found.append(
                GpuUsage(name, None if rates is None else int(rates.gpu), None if memory is None else int(memory.used))
            )
        return found

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._watched.clear()
            with suppress(self._nvml.NVMLError):
                if self._events is not None:
                    self._nvml.nvmlEventSetFree(self._events)
            self._events = None
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _open(self) -> None:
        if not self._is_open:
            self._nvml.nvmlInit()
            self._is_open = True

    def _gpu(self, index: int) -> Gpu | None:
        """Read one GPU; None when it does not even tell its name."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = _text(nvml.nvmlDeviceGetUUID(handle))
            gpu = Gpu(
                name=name,
                model=_text(nvml.nvmlDeviceGetName(handle)),
                minor=int(nvml.nvmlDeviceGetMinorNumber(handle)),
                index=index,
                memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
                bus_id=_bus_id(_text(nvml.nvmlDeviceGetPciInfo(handle).busId)),
            )
        except nvml.NVMLError:
            return None  # one that was known is told as lost
        self._watch(name, handle)
        mig = self._told(partial(nvml.nvmlDeviceGetMigMode, handle))
        if mig is not None and mig[0] == nvml.NVML_DEVICE_MIG_ENABLE:
            gpu = _in_trouble(gpu, "it is split (MIG is on), and GPUs are given whole")
        self._known[name] = gpu
        return gpu

    def _watch(self, name: str, handle: Any) -> None:
        nvml = self._nvml
        if name in self._watched:
            return
        self._watched.add(name)
        with suppress(nvml.NVMLError):  # an old one tells no events, and is believed to be well
            if self._events is None:
                self._events = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)

    def _hear_events(self) -> None:
        """Take what came since the last look; waits for nothing."""
        nvml = self._nvml
        if self._events is None:
            return
        for _ in range(_MOST_EVENTS):
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError:  # the time-out: there is no more
                return
            xid = int(event.eventData)
            if event.eventType == nvml.nvmlEventTypeXidCriticalError and xid not in _OF_PROGRAMS:
                name = self._told(partial(nvml.nvmlDeviceGetUUID, event.device))
                for hit in list(self._known) if name is None else [_text(name)]:  # not told which one: any may be it
                    self._xids.setdefault(hit, xid)

    def _with_xid(self, gpu: Gpu) -> Gpu:
        xid = self._xids.get(gpu.name)
        return gpu if xid is None else _in_trouble(gpu, f"it reported a critical error (Xid {xid})")

    def _told(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._nvml.NVMLError:  # this GPU or driver does not tell it
            return None


def _why_none(error: Exception) -> str:
    if Path(PROC).is_dir():
        return f"The NVIDIA driver is loaded, and its library gives no answer: {error}."
    return f"There is no NVIDIA driver here ({error})."


def _in_trouble(gpu: Gpu, trouble: str) -> Gpu:
    return Gpu(gpu.name, gpu.model, gpu.minor, gpu.index, gpu.memory_bytes, gpu.bus_id, gpu.trouble or trouble)


def _lost(gpu: Gpu, why: str) -> Gpu:
    return Gpu(gpu.name, gpu.model, gpu.minor, gpu.index, gpu.memory_bytes, gpu.bus_id, f"it is lost: {why}")


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _bus_id(text: str) -> str:
    """Return the bus id as the kernel writes it: NVML has a domain of eight digits, in capitals."""
    domain, colon, rest = text.partition(":")
    return f"{domain[-4:]}{colon}{rest}".lower()
