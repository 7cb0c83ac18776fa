"""What of NVIDIA's driver a pod finds beside the device files: its user-space libraries, and its part of /proc.

Called by `ground` (what there is on this machine) and by `resources`, in the shim (what a pod gets of it). The list of
names is that of NVIDIA's container toolkit (libnvidia-container, `nvc_info.c`: utility and compute). Where the driver
was installed under /usr, as distributions do, a pod finds it there already; what stands elsewhere is named here and
mounted read-only. Standard library only.
"""

import os
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

PROC = "/proc/driver/nvidia"

_LIBRARIES = (
    "libcuda", "libcudadebugger", "libnvidia-allocator", "libnvidia-cfg", "libnvidia-compiler", "libnvidia-encode",
    "libnvidia-fatbinaryloader", "libnvidia-gpucomp", "libnvidia-ml", "libnvidia-nvvm", "libnvidia-nvvm70",
    "libnvidia-opencl", "libnvidia-opticalflow", "libnvidia-pkcs11", "libnvidia-pkcs11-openssl3",
    "libnvidia-ptxjitcompiler", "libnvcuvid",
)  # fmt: skip
_OTHERS = ("/etc/OpenCL/vendors/nvidia.icd",)
_PROGRAMS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
_PROGRAM_FOLDERS = ("/opt/bin", "/opt/nvidia/bin", "/usr/local/nvidia/bin")
_INSIDE_ANYWAY = ("/usr/", "/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/")
_COMMON = ("params", "registry", "version")


def driver_files() -> tuple[str, ...]:
    """Return the driver's files on this machine that no pod sees without a mount."""
    listed = ""
    with suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(
            ["/sbin/ldconfig", "-p"], env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10,
            check=False,
        ).stdout  # fmt: skip
    programs = (f"{folder}/{name}" for folder in _PROGRAM_FOLDERS for name in _PROGRAMS)
    return chosen((*libraries_in(listed), *programs, *_OTHERS))


def libraries_in(listed: str) -> Sequence[str]:
    """Return the driver's libraries in what `ldconfig -p` printed."""
    found = []
    for line in listed.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        if arrow and name.partition(".so")[0] in _LIBRARIES:
            found.append(path)
    return found


def chosen(paths: Iterable[str]) -> tuple[str, ...]:
    """Return those of the paths that are there and not inside every pod anyway, each once."""
    return tuple(
        path
        for path in dict.fromkeys(paths)
        if not path.startswith(_INSIDE_ANYWAY) and os.path.isfile(path)  # noqa: PTH113 - strings in, strings out
    )


def proc_files(bus_ids: Sequence[str], proc: Path = Path(PROC)) -> tuple[tuple[str, bytes], ...] | None:
    """Return what a pod with these GPUs sees of the driver's part of /proc; None where there is no driver.

    A pod without a GPU sees an empty folder. The kernel's own tells the names of all GPUs of the machine.
    """
    if not proc.is_dir():
        return None
    if not bus_ids:
        return ()
    found: list[tuple[str, bytes]] = []
    for name in (*_COMMON, *(f"gpus/{bus_id}/information" for bus_id in bus_ids)):
        with suppress(OSError):
            content = (proc / name).read_bytes()
            if name == "params":  # the driver's libraries shall not try to make device files
                content = content.replace(b"ModifyDeviceFiles: 1", b"ModifyDeviceFiles: 0")
            found.append((f"{PROC}/{name}", content))
    return tuple(found)
