"""What a shim holds for its pod: environment, disks, cgroup, network, name server; taken in order, given back in order.

Called by `shim` alone. Each part belongs to its own module; here is only who comes when, and how the pod's processes
are ended for certain: by its first process (whose end is the end of the PID namespace), by walking the descendants, by
the control group.
"""

import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuropod.runtimes.local import cgroups, disks, dns, launcher, network, seccomp
from neuropod.runtimes.local.diskplaces import DiskPlan
from neuropod.runtimes.local.disksizes import DiskFullError
from neuropod.runtimes.local.driverfiles import proc_files
from neuropod.runtimes.local.entering import Entrance
from neuropod.runtimes.local.environments import BuildProgress, ensure, environment_plan, podvenv
from neuropod.runtimes.local.loop import Loop
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.podenv import DISK_FOLDERS, Places, binds_of, device_sources
from neuropod.runtimes.local.sandbox import INTERPRETER, LAUNCHER_PATH, HostRoot, Sandbox, plain_of, sandbox_of
from neuropod.runtimes.local.state import parent_of

_EMPTY_SECONDS = 10.0


class NotPreparedError(Exception):
    """The environment is not there; building it takes a while."""


def prepare_environment(plan: Plan, *, report: Callable[[dict[str, Any]], None] | None) -> Path | None:
    """Return the recipe's environment (None: the recipe has no packages) and hold it until this process ends.

    Without `report` nothing is built: NotPreparedError then. Raises PrepareFailedError.
    """
    if not plan.packages:
        return None

    def tell(progress: BuildProgress) -> None:
        if report is None:
            raise NotPreparedError
        report(asdict(progress))

    return ensure(environment_plan(plan), tell)


class Resources:
    """The pod's share of the machine."""

    def __init__(self, plan: Plan, loop: Loop) -> None:
        self.environment: Path | None = None
        self._plan = plan
        self._loop = loop
        self._disk: disks.Disk | None = None
        self._volume: disks.Disk | None = None
        self._cgroup: cgroups.Cgroup | None = None
        self._network: network.PodNetwork | None = None
        self._names: dns.NameServer | None = None
        self._first: int | None = None  # descriptor of the first process of the PID namespace
        # bubblewrap and the first process of the namespace; what is below that dies with it.
        self._depth = 100_000 if plan.mode == "none" else 2

    def attach(self) -> None:
        """Take disks, cgroup and network. What fails is raised; `detach` gives back what was had until then."""
        plan = self._plan
        where = DiskPlan.from_json(plan.disks)
        self._disk = disks.attach_container_disk(
            where, plan.key, size_bytes=plan.container_disk_bytes, uid=plan.uid, gid=plan.gid
        )
        self._make_folders(self._disk.path)
        if plan.volume is not None:
            self._volume = disks.attach_volume(
                where, plan.volume.id, size_bytes=plan.volume.size_bytes, uid=plan.uid, gid=plan.gid
            )
        limits = cgroups.Limits(plan.memory_bytes, plan.cpu_cores, plan.pids_max, device_sources(plan))
        self._cgroup = cgroups.create(cgroups.CgroupLayout.from_json(plan.cgroups), plan.key, limits)
        # Last of all: in user mode this process moves into a user namespace, out of which nothing of the above works.
        self._network = network.open_network(network.NetworkPlan.from_json(plan.network))
        self._network.keep(self._loop)
        if plan.mode != "none":  # there the host's own resolver is in sight
            self._names = dns.serve_names(self._network, self._loop)

    def _make_folders(self, disk: Path) -> None:
        for name in DISK_FOLDERS:
            folder = disk / name
            folder.mkdir(exist_ok=True)
            folder.chmod(0o1777 if name.endswith("tmp") else 0o755)
            if self._plan.mode == "root":
                os.chown(folder, self._plan.uid, self._plan.gid, follow_symlinks=False)

    @property
    def places(self) -> Places:
        """Where things are on the host."""
        if self._disk is None:
            raise RuntimeError("nothing is attached")
        return Places(self._disk.path, None if self._volume is None else self._volume.path, self.environment)

    @property
    def address(self) -> str | None:
        """The pod's address, for people."""
        return None if self._network is None else self._network.address

    @property
    def podvenv_module(self) -> str:
        """Where the launcher finds `podvenv`."""
        return str(Path(podvenv.__file__)) if self._plan.mode == "none" else "/run/neuropod/podvenv.py"

    def sandbox(self) -> Sandbox:
        """Return what to start."""
        if self._plan.mode == "none":
            return plain_of(INTERPRETER, launcher.__file__)
        if self._network is None:
            raise RuntimeError("nothing is attached")
        files = {"launcher.py": Path(launcher.__file__).read_bytes()}
        if self.environment is not None:
            files["podvenv.py"] = Path(podvenv.__file__).read_bytes()
        return sandbox_of(
            self._plan,
            host=HostRoot.look(),
            binds=binds_of(self._plan, self.places),
            resolv_conf=self._network.resolv_conf,
            program_files=files,
            driver=proc_files(self._plan.gpu_bus_ids),
            bpf=seccomp.program(),
        )

    def entrance(self, main: int) -> Entrance:
        """Return how another process comes beside the pod's own one, which `main` (a pidfd) holds."""
        plan, isolated = self._plan, self._plan.mode != "none"
        return Entrance(
            isolated=isolated,
            user_namespace=plan.mode == "user",
            uid=plan.uid,
            gid=plan.gid,
            main=main,
            launcher=LAUNCHER_PATH if isolated else launcher.__file__,
            bpf=seccomp.program() if isolated else b"",
        )

    def inside(self) -> AbstractContextManager[None]:
        """Be in the pod's network for the length of a block."""
        return nullcontext() if self._network is None else self._network.inside()

    def enter_cgroup(self, pid: int) -> None:
        """Put a process under the pod's limits."""
        if self._cgroup is not None:
            self._cgroup.add(pid)

    def hold_namespace(self, monitor: int) -> None:
        """Remember the first process of the PID namespace, by descriptor: the only child that bubblewrap has."""
        if self._plan.mode == "none":
            return
        with suppress(OSError, IndexError, ValueError):
            children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
            self._first = os.pidfd_open(int(children[0]))

    # ---- the end

    def kill(self) -> None:
        """Kill every process of the pod; may be repeated, waits for none."""
        if self._first is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
        # And what is below this process: in mode `none` there is nothing else, and a bubblewrap that is killed while
        # it starts leaves a child that waits for it for ever (seen with 0.8).
        for pid, parent in list(_descendants(os.getpid(), self._depth)):
            _kill_child(pid, parent)

    def wait_until_empty(self) -> None:
        """Wait, bounded, until no process of the pod is left, and kill what the namespace did not hold."""
        if self._first is not None:
            select.select([self._first], [], [], _EMPTY_SECONDS)
            os.close(self._first)
            self._first = None
        deadline = time.monotonic() + _EMPTY_SECONDS
        while any(_descendants(os.getpid(), self._depth)) and time.monotonic() < deadline:
            self.kill()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.002)
        if self._cgroup is not None:
            self._cgroup.kill()

    def out_of_memory(self) -> bool:
        """Tell whether the kernel killed something of the pod for memory."""
        return self._cgroup is not None and self._cgroup.oom_kills() > 0

    def detach(self) -> None:
        """Give everything back; each part even when another fails. May be repeated."""
        backs: list[Callable[[], None]] = []
        if self._names is not None:
            backs.append(self._names.close)
        if self._network is not None:
            backs.append(self._network.close)
        if self._cgroup is not None:
            backs.append(self._cgroup.remove)
        backs += [disk.detach for disk in (self._volume, self._disk) if disk is not None]
        self._names = self._network = self._cgroup = self._volume = self._disk = None
        for back in backs:
            try:
                back()
            except Exception:  # noqa: BLE001 - the server's sweeps take away what stays
                traceback.print_exc()

    @staticmethod
    def reason_of(error: Exception) -> str:
        """Return the reason code of a failed start."""
        return "disk_full" if isinstance(error, DiskFullError) else "internal"

    # ---- folders without a limit of their own

    @property
    def must_measure(self) -> bool:
        """Tell whether the disks are folders, which hold more than they should until somebody looks."""
        return not self._plan.disks.get("images")

    def measure(self, tell: Callable[[str], None]) -> None:
        """Look; tells a sentence when a disk holds more than its size. Runs in a worker."""
        os.nice(19)
        for name, disk in (("container disk", self._disk), ("volume", self._volume)):
            if disk is not None and disk.overrun():
                tell(f"The {name} holds more than its {disk.size_bytes // 10**6} MB.")


def _descendants(pid: int, depth: int) -> Iterator[tuple[int, int]]:
    """Yield process and parent of what is below a process, down to so many levels."""
    level = [pid]
    while level and depth > 0:
        below = []
        for parent in level:
            with suppress(OSError):
                for task in Path(f"/proc/{parent}/task").iterdir():
                    for child in map(int, (task / "children").read_text().split()):
                        yield child, parent
                        below.append(child)
        level, depth = below, depth - 1


def _kill_child(pid: int, parent: int) -> None:
    """Kill a process of that parent, or of this one that inherits orphans; by a descriptor (SECURITY 8)."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if parent_of(pid) in {parent, os.getpid()}:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
