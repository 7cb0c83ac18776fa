"""The GPUs of this machine, as NVIDIA's kernel driver tells them, and the device nodes that one of them needs.

Called by `runtime`. No driver, no GPU; nothing is started to find out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")
_SHARED_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its name over reboots, its model, its number here."""

    name: str
    model: str
    minor: int


def find_gpus(driver: Path = _DRIVER) -> Mapping[str, Gpu]:
    """Return the GPUs by name (`GPU-<uuid>`)."""
    found: dict[str, Gpu] = {}
    for file in sorted(driver.glob("*/information")):
        facts = dict(_facts(file.read_text()))
        if {"GPU UUID", "Model", "Device Minor"} <= facts.keys():
            gpu = Gpu(facts["GPU UUID"], facts["Model"], int(facts["Device Minor"]))
            found[gpu.name] = gpu
    return found


def _facts(text: str) -> list[tuple[str, str]]:
    return [
        (name.strip(), value.strip())
        for name, colon, value in (line.partition(":") for line in text.splitlines())
        if colon
    ]


def device_nodes(gpus: Mapping[str, Gpu], names: tuple[str, ...], *, root: Path = Path("/")) -> tuple[str, ...]:
    """Return the device nodes of the named GPUs and those that all need; none for none. KeyError: no such GPU."""
    if not names:
        return ()
    shared = (node for node in _SHARED_NODES if (root / node.lstrip("/")).exists())
    return (*(f"/dev/nvidia{gpus[name].minor}" for name in names), *shared)
