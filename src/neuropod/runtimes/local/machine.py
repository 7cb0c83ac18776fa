"""What this machine can isolate, found by trying; the strongest mode it allows, and the sentences that say so.

Called by the local runtime at open and by `neuropod doctor`. The shim does not import this: it gets the parts it needs
in its plan.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuropod.runtimes.contract import Report
from neuropod.runtimes.local.cgroups import CgroupLayout
from neuropod.runtimes.local.tools import Tools
from neuropod.settings import LocalSettings

Mode = Literal["root", "user", "none"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found."""

    mode: Mode
    machine_id: str
    boot_id: str
    tools: Tools
    cgroups: CgroupLayout
    tun: bool  # /dev/net/tun can be used (user mode's internet)
    loop_mounts: bool
    problems: tuple[str, ...]  # sentences: why a stronger mode is not had


def probe(settings: LocalSettings, tools: Tools, *, installation: str, data_dir: Path) -> Machine:
    """Try what each mode needs and return the strongest that works, or the one that settings name.

    Raises RuntimeUnavailableError when settings name a mode that cannot be had here.
    """
    raise NotImplementedError


def report_of(machine: Machine) -> Report:
    """Return the eight guarantees (files, processes, ports, egress, memory, cpu, pids, disk) and whether each holds."""
    raise NotImplementedError


def boot_id() -> str:
    """Return the id of this boot."""
    raise NotImplementedError
