"""Opening the machine for the local runtime: its tools, its mode, its networks and groups; done once, in a thread.

Called by `runtime.open`. What is found goes into every plan, so that a shim finds nothing out for itself.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from neuropod.ids import InstallationId
from neuropod.runtimes.contract import Report
from neuropod.runtimes.local import machine as machines
from neuropod.runtimes.local.cgroups import CgroupLayout
from neuropod.runtimes.local.diskplaces import DiskPlan
from neuropod.runtimes.local.environments import host_index_url
from neuropod.runtimes.local.environments.plan import PYPI, host_ca_bundle, without_credentials
from neuropod.runtimes.local.network import NetworkPlan, install
from neuropod.runtimes.local.planning import Ground
from neuropod.runtimes.local.tools import Tools, ToolsMissingError, fetch_tools, find_tools
from neuropod.settings import LocalSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """The machine as it was found, with the typed plans that the server itself uses."""

    ground: Ground
    report: Report
    network: NetworkPlan
    disks: DiskPlan
    cgroups: CgroupLayout


def open_machine(installation: InstallationId, settings: LocalSettings, data_dir: Path) -> Opened:
    """Find out what this machine can do and prepare it. Raises RuntimeUnavailableError."""
    tools = _tools(data_dir / "cache" / "tools", settings)
    # Another data directory of the same installation, such as a backup's, has groups and rules of its own: nothing of
    # the one is the other's to sweep.
    scope = f"{installation}-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:8]}"
    machine = machines.probe(settings, tools, installation=scope, data_dir=data_dir)
    network = install(
        mode=machine.mode,
        installation=scope,
        run_dir=run_dir(installation, data_dir),
        tools=machine.tools,
        egress_allow=settings.egress_allow,
        tun=machine.tun,
    )
    disks = DiskPlan(
        data_dir=str(data_dir),
        images=machine.mode == "root" and machine.loop_mounts,
        tools=machine.tools,
        overcommit=settings.disk_overcommit,
        reserve_bytes=settings.disk_reserve_gb * 10**9,
    )
    index_url = settings.package_index_url or host_index_url()
    ground = Ground(
        mode=machine.mode,
        data_dir=str(data_dir),
        package_index_url=index_url,
        pod_index_url=None if index_url == PYPI else without_credentials(index_url),
        ca_bundle=host_ca_bundle(),
        tools=machine.tools.as_json(),
        network=network.as_json(),
        disks=disks.as_json(),
        cgroups=machine.cgroups.as_json(),
    )
    return Opened(ground, machines.report_of(machine), network, disks, machine.cgroups)


def _tools(cache_dir: Path, settings: LocalSettings) -> Tools:
    """Find the programs that pods need; what this system lacks is fetched, once, where that can be done."""
    tools = find_tools(cache_dir)
    missing = tools.missing(root=os.geteuid() == 0)
    if not missing or settings.mode == "none":
        return tools
    _log.info("This system lacks %s: fetched from its own package sources into %s.", ", ".join(missing), cache_dir)
    try:
        return fetch_tools(cache_dir)
    except ToolsMissingError as error:
        _log.warning("%s", error)
        return find_tools(cache_dir)


def run_dir(installation: str, data_dir: Path) -> Path:
    """Return a folder that a reboot empties where there is one: locks, which mean nothing afterwards."""
    if os.getuid() == 0:
        return Path("/run/neuropod")
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR")
    if runtime_dir and Path(runtime_dir).is_dir():
        return Path(runtime_dir, f"neuropod-{hashlib.sha256(installation.encode()).hexdigest()[:8]}")
    return data_dir / "run"
