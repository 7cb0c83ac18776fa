"""From a workload to a plan: pure, given what was found out about the machine. Called by `runtime`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuropod.runtimes.contract import Workload, WorkloadRejectedError
from neuropod.runtimes.local.devices import Gpu, device_nodes
from neuropod.runtimes.local.plan import Mode, Plan, VolumePlan
from neuropod.settings import LimitSettings, LocalSettings
from neuropod.words import ReadyWhen, Reason

_ROOT_UID = 0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")  # what becomes part of a path of ours
_VOLUME_PATH = re.compile(r"/(workspace|data|mnt)(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){0,3}")


@dataclass(frozen=True, slots=True)
class Ground:
    """What all plans of one opened runtime share."""

    mode: Mode
    data_dir: str
    package_index_url: str | None
    pod_index_url: str | None
    ca_bundle: str | None
    tools: dict[str, list[str]]
    network: dict[str, Any]
    disks: dict[str, Any]
    cgroups: dict[str, Any]
    gpus: Mapping[str, Gpu] = field(default_factory=dict)  # as they are now
    driver_files: tuple[str, ...] = ()
    device_root: str = "/"


def plan_of(
    workload: Workload, ground: Ground, settings: LocalSettings, limits: LimitSettings, *, uid: int, gid: int
) -> Plan:
    """Return the plan, or raise WorkloadRejectedError with the sentence that says what this runtime cannot do."""
    recipe = workload.recipe
    if recipe is None:
        raise WorkloadRejectedError(
            "This machine runs templates with a local recipe; a container image needs another runtime."
        )
    command = workload.command or recipe.command
    if not command:
        raise WorkloadRejectedError("There is no command to run.")
    if ground.mode == "root" and uid == _ROOT_UID:
        raise WorkloadRejectedError("A pod never runs as root of this machine.")
    _check_words(workload, tuple(command))
    resources = workload.resources
    gpus = _gpus(resources.devices, ground)
    volume = workload.volume
    ready = workload.readiness
    return Plan(
        installation=workload.id.installation,
        pod=workload.id.pod,
        incarnation=workload.id.incarnation,
        pod_name=workload.pod_name,
        owner=workload.owner,
        owner_hash=workload.owner_hash,
        mode=ground.mode,
        uid=uid,
        gid=gid,
        data_dir=ground.data_dir,
        command=tuple(command),
        packages=tuple(recipe.packages),
        cache_author=None if recipe.shared_cache else recipe.author or workload.owner,
        cpu_cores=resources.cpu_cores,
        memory_bytes=resources.memory_bytes,
        pids_max=settings.pids_max,
        container_disk_bytes=resources.container_disk_bytes,
        disk_reserve_bytes=settings.disk_reserve_gb * 10**9,
        volume=None if volume is None else VolumePlan(volume.id, volume.name, volume.size_bytes, volume.path),
        devices=device_nodes(ground.gpus, resources.devices, root=Path(ground.device_root)),
        gpus=tuple(resources.devices),
        gpu_bus_ids=tuple(gpu.bus_id for gpu in gpus if gpu.bus_id),
        device_root=ground.device_root,
        driver_files=ground.driver_files if gpus else (),
        ports=tuple(workload.ports),
        ready_port=ready.port if ready.when is ReadyWhen.PORT else None,
        ready_http=ready.http,
        package_index_url=ground.package_index_url,
        pod_index_url=ground.pod_index_url,
        ca_bundle=ground.ca_bundle,
        prepare_timeout_seconds=settings.prepare_timeout_seconds,
        log_bytes=limits.log_bytes,
        log_incarnations=limits.log_incarnations,
        tools=ground.tools,
        network=ground.network,
        disks=ground.disks,
        cgroups=ground.cgroups,
    )


def _gpus(names: Sequence[str], ground: Ground) -> Sequence[Gpu]:
    """Return the GPUs that were given to the workload; one that is gone meanwhile is given back and another taken."""
    found = []
    for name in names:
        gpu = ground.gpus.get(name)
        if gpu is None or gpu.trouble:
            why = "it is not on this machine any more" if gpu is None else gpu.trouble
            raise WorkloadRejectedError(f"GPU {name} cannot be used: {why}.", reason=Reason.GPU_LOST)
        found.append(gpu)
    return found


def _check_words(workload: Workload, command: tuple[str, ...]) -> None:
    """Refuse what would mean something else than it says: in a path, in a mount, or as the launcher reads its order."""
    volume = workload.volume
    names = [workload.id.installation, workload.id.pod, *([volume.id] if volume else [])]
    if not all(_NAME.fullmatch(name) for name in names):
        raise WorkloadRejectedError("An identifier holds characters that cannot stand in a path.")
    if volume is not None and _VOLUME_PATH.fullmatch(volume.path) is None:
        raise WorkloadRejectedError(f"A volume cannot be mounted at {volume.path}; /workspace, /data and /mnt can.")
    variables = [text for name, value in workload.env.items() for text in (name, value.reveal())]
    if any("\0" in text for text in (*command, *variables)) or any("=" in name or not name for name in workload.env):
        raise WorkloadRejectedError("A word of the command or a variable holds what no program can be given.")
