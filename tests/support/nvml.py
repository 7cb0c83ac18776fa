# ruff: noqa: N802 - the names are the library's
"""A machine's NVML as tests play it: the functions of `pynvml` that our reader calls, over GPUs made of plain facts."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class FakeNvmlError(Exception):
    pass


@dataclass
class FakeGpu:
    uuid: str
    model: str = "NVIDIA GeForce RTX 4090"
    minor: int = 0
    memory_bytes: int = 24 * 2**30
    bus_id: str = "00000000:01:00.0"
    lost: bool = False
    mig: bool = False
    percent: int = 0
    used_bytes: int = 0


@dataclass
class FakeNvml:
    """Pass it to `NvmlReader` as its library."""

    gpus: list[FakeGpu] = field(default_factory=list)
    absent: str | None = None  # why nvmlInit fails
    xids: list[tuple[str, int]] = field(default_factory=list)  # events that wait to be heard: (uuid, xid)
    inits: int = 0

    NVMLError = FakeNvmlError
    NVML_DEVICE_MIG_ENABLE = 1
    nvmlEventTypeXidCriticalError = 8  # noqa: N815 - the library's name

    def nvmlInit(self) -> None:
        if self.absent is not None:
            raise FakeNvmlError(self.absent)
        self.inits += 1

    def nvmlShutdown(self) -> None:
        self.inits -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self._answering(self.gpus[index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        for gpu in self.gpus:
            if gpu.uuid == uuid:
                return self._answering(gpu)
        raise FakeNvmlError("Not Found")

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> bytes:
        return self._answering(handle).uuid.encode()

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str:
        return self._answering(handle).model

    def nvmlDeviceGetMinorNumber(self, handle: FakeGpu) -> int:
        return handle.minor

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu) -> Any:
        return SimpleNamespace(total=handle.memory_bytes, used=handle.used_bytes)

    def nvmlDeviceGetPciInfo(self, handle: FakeGpu) -> Any:
        return SimpleNamespace(busId=handle.bus_id)

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        if not handle.mig:
            raise FakeNvmlError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu) -> Any:
        return SimpleNamespace(gpu=handle.percent)

    def nvmlEventSetCreate(self) -> object:
        return object()

    def nvmlEventSetFree(self, _events: object) -> None:
        pass

    def nvmlDeviceRegisterEvents(self, _handle: FakeGpu, _kinds: int, _events: object) -> None:
        pass

    def nvmlEventSetWait_v2(self, _events: object, _milliseconds: int) -> Any:
        if not self.xids:
            raise FakeNvmlError("Timeout")
        uuid, xid = self.xids.pop(0)
        device = next(gpu for gpu in self.gpus if gpu.uuid == uuid)
        return SimpleNamespace(eventType=self.nvmlEventTypeXidCriticalError, eventData=xid, device=device)

    @staticmethod
    def _answering(gpu: FakeGpu) -> FakeGpu:
        if gpu.lost:
            raise FakeNvmlError("GPU is lost")
        return gpu
