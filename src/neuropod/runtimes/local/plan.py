"""The plan: everything that the shim, and what it calls, must know to run one incarnation. Plain data, no secrets.

Made by `runtime` from a Workload, the settings and the machine; written to `<state dir>/plan.json` (so that a cleaner
can undo what a dead shim left); handed to the shim with the secrets over a pipe. `environments` takes it as it is;
`network`, `disks` and `cgroups` find their own plans in it. Standard library only, like everything the shim imports.

Where things are, all below `<data dir>`, root-only (0700) and never mounted into a pod:

    pods/<pod>/<incarnation>/   plan.json, state.json, `s` (the control socket), and what disks puts there
    pods/<pod>/logs/<incarnation>/  the log's segments; they stay after `remove`, until `forget`
    pods/owners.json            the uid of each user
    volumes/                    NETDISK's, cache/ ENV's
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

Mode = Literal["root", "user", "none"]


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """A persistent disk: its row's id, its size and where it appears inside."""

    id: str
    name: str
    size_bytes: int
    path: str = "/workspace"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run and within which bounds."""

    installation: str
    pod: str
    incarnation: int
    pod_name: str
    owner: str  # the user's id
    owner_hash: str
    mode: Mode
    uid: int  # the pod's user on the host: one per owner as root, the server's own otherwise
    gid: int
    data_dir: str  # absolute
    command: tuple[str, ...]
    packages: tuple[str, ...] = ()  # `name==version`, `name[extra]==version`
    cache_author: str | None = None  # whose environments may be used; None: those that all share
    cpu_cores: int = 1
    memory_bytes: int = 1 << 30
    pids_max: int = 4096
    container_disk_bytes: int = 1 << 30
    disk_reserve_bytes: int = 0
    volume: VolumePlan | None = None
    devices: tuple[str, ...] = ()  # device nodes (/dev/nvidia0, …), nothing else is passed in
    gpus: tuple[str, ...] = ()  # their names (`GPU-<uuid>`), for the pod's NVIDIA_VISIBLE_DEVICES
    gpu_bus_ids: tuple[str, ...] = ()  # what of the driver's part of /proc is theirs
    device_root: str = "/"  # where the device nodes are taken from; only tests have another
    driver_files: tuple[str, ...] = ()  # the driver's libraries that the pod has not anyway
    ports: tuple[int, ...] = ()
    ready_port: int | None = None  # None: ready as soon as the process runs
    ready_http: bool = True
    package_index_url: str | None = None
    pod_index_url: str | None = None  # the same as a pod may see it; None: pip's own default
    ca_bundle: str | None = None  # the host's bundle of certificate authorities
    prepare_timeout_seconds: float = 1800
    log_bytes: int = 1 << 20
    log_incarnations: int = 5
    tools: dict[str, list[str]] = field(default_factory=dict)  # Tools.as_json: name -> argv prefix, absolute path
    network: dict[str, Any] = field(default_factory=dict)  # NetworkPlan.as_json
    disks: dict[str, Any] = field(default_factory=dict)  # DiskPlan.as_json
    cgroups: dict[str, Any] = field(default_factory=dict)  # CgroupLayout.as_json

    @property
    def key(self) -> str:
        """12 hex digits that name this incarnation on the machine: for interfaces (15 characters), cgroups, tables."""
        return hashlib.sha256(f"{self.installation}/{self.pod}/{self.incarnation}".encode()).hexdigest()[:12]

    @property
    def data(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)

    @property
    def state_dir(self) -> Path:
        """The incarnation's own directory; removed with it."""
        return self.data / "pods" / self.pod / str(self.incarnation)

    @property
    def log_dir(self) -> Path:
        """Where the log's segments are; stays after the incarnation was removed."""
        return self.data / "pods" / self.pod / "logs" / str(self.incarnation)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as what `json` can write."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Plan":
        """Return the plan that `to_json` wrote; what another version added is passed over."""
        known = {each.name for each in fields(Plan)}
        fixed = {name: content for name, content in value.items() if name in known}
        for name in ("command", "packages", "devices", "gpus", "gpu_bus_ids", "driver_files", "ports"):
            fixed[name] = tuple(fixed.get(name, ()))
        if fixed.get("volume") is not None:
            fixed["volume"] = VolumePlan(**fixed["volume"])
        return Plan(**fixed)

    @staticmethod
    def read(state_dir: Path) -> "Plan":
        """Return the plan in a state directory; OSError or ValueError when there is none to be read."""
        try:
            return Plan.from_json(json.loads((state_dir / "plan.json").read_bytes()))
        except TypeError as error:
            raise ValueError(f"{state_dir}/plan.json is not a plan of this version: {error}") from error
