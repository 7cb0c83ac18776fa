"""The server's half of the `local` runtime: the contract's verbs, each a look at files or a word to a shim.

Made by `runtimes.registry`. It keeps no truth: every answer is read from the state files and checked against the
processes that wrote them, so a restarted server knows what the last one knew. What it does keep are subscriptions, one
per live shim, which make the nudges of `watch`; losing one costs latency.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from neuropod.ids import InstallationId, PodId, RuntimeId, VolumeId
from neuropod.runtimes import logfiles
from neuropod.runtimes.contract import (
    Capability,
    Capacity,
    Connection,
    Device,
    LogLine,
    LogQuery,
    NotReadyError,
    Phase,
    Place,
    Report,
    RuntimeUnavailableError,
    Seen,
    Workload,
    WorkloadId,
    WorkloadRejectedError,
)
from neuropod.runtimes.execution import ExecRequest, Execution
from neuropod.runtimes.local import cleaning, control, executing, keeping, usage
from neuropod.runtimes.local.devices import MachineGpus, notes_on
from neuropod.runtimes.local.following import lines_of
from neuropod.runtimes.local.ground import Opened, open_machine
from neuropod.runtimes.local.nvml import NvmlReader
from neuropod.runtimes.local.owners import Owners
from neuropod.runtimes.local.places import PodDirectories
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.planning import Ground, plan_of
from neuropod.runtimes.local.seen import seen_of
from neuropod.runtimes.local.shims import ShimStarter, Subscription, ask, ask_for_port
from neuropod.runtimes.local.state import State, boot_id, read_state
from neuropod.runtimes.nudges import Nudges
from neuropod.runtimes.usage import Usage
from neuropod.runtimes.volumes import VolumeUse
from neuropod.settings import LimitSettings, LocalSettings
from neuropod.words import Reason

T = TypeVar("T")


class LocalRuntime:
    """Runs pods on this machine."""

    def __init__(
        self,
        installation: InstallationId,
        settings: LocalSettings,
        limits: LimitSettings,
        data_dir: Path,
        gpus: MachineGpus | None = None,
    ) -> None:
        self._installation = installation
        self._settings = settings
        self._limits = limits
        self._data_dir = data_dir.absolute()
        self._directories = PodDirectories(self._data_dir)
        self._owners = Owners(self._directories.root, installation)
        self._boot_id = boot_id()
        self._id = RuntimeId(f"local:{settings.machine_id or machine_id(self._data_dir)}")
        self._opened: Opened | None = None
        self._locks: WeakValueDictionary[PodId, asyncio.Lock] = WeakValueDictionary()
        self._subscriptions: dict[WorkloadId, Subscription] = {}
        self._nudges = Nudges()
        self._starter = ShimStarter()
        self._gpus = gpus or MachineGpus(NvmlReader(), given=settings.gpus)
        self._volumes = keeping.VolumeKeeper()
        self._closing = False

    @property
    def id(self) -> RuntimeId:
        return self._id

    @property
    def capabilities(self) -> frozenset[Capability]:
        isolates = self._opened is not None and self._opened.ground.mode != "none"
        here = {Capability.RECIPES, Capability.EXEC, Capability.USAGE, Capability.VOLUMES}
        return frozenset(here | ({Capability.TENANT_ISOLATION} if isolates else set()))

    # ---- opening and closing

    async def open(self) -> None:
        self._directories.prepare()
        await asyncio.to_thread(self._starter.warm_up)
        self._opened = await asyncio.to_thread(open_machine, self._installation, self._settings, self._data_dir)
        for pod, incarnation, state in await asyncio.to_thread(lambda: list(self._directories.states())):
            if state is not None and self._is_ours(state) and state.shim_lives(this_boot=self._boot_id):
                await self._subscribe(self._workload_id(pod, incarnation))
        await asyncio.to_thread(cleaning.sweep, self._opened, self._directories, this_boot=self._boot_id)

    async def aclose(self) -> None:
        self._closing = True
        for subscription in list(self._subscriptions.values()):
            subscription.close()
        self._subscriptions.clear()
        await self._volumes.aclose()
        await asyncio.to_thread(self._starter.close)
        await asyncio.to_thread(self._gpus.close)
        standing = any(self._directories.incarnations(pod) for pod in self._directories.pods())
        if self._opened is not None and not standing:
            # Nobody is left to be filtered and limited, nor in the middle of his start.
            await asyncio.to_thread(cleaning.leave, self._opened)
        self._opened = None

    def _is_ours(self, state: State) -> bool:
        return state.installation == self._installation

    def _is_of_others(self, pod: str) -> bool:
        """Tell whether what stands in the pod's place carries another installation's id."""
        for incarnation in self._directories.incarnations(pod):
            with suppress(OSError, ValueError):
                state = read_state(self._directories.state_dir(pod, incarnation))
                if state is not None and not self._is_ours(state):
                    return True
        return False

    def _workload_id(self, pod: str, incarnation: int) -> WorkloadId:
        return WorkloadId(self._installation, PodId(pod), incarnation)

    # ---- looking

    async def observe(self, workload_id: WorkloadId) -> Seen | None:
        standing = self._directories.incarnations(workload_id.pod)
        if workload_id.incarnation in standing:
            standing.insert(0, workload_id.incarnation)
        for incarnation in standing:
            if (seen := self._look(workload_id.pod, incarnation)) is not None:
                return seen
        return None

    def _look(self, pod: str, incarnation: int) -> Seen | None:
        directory = self._directories.state_dir(pod, incarnation)
        try:
            state = read_state(directory)
        except ValueError as error:
            return self._unreadable(pod, incarnation, str(error))
        except OSError as error:
            raise RuntimeUnavailableError(f"{directory} cannot be read: {error}") from error
        return self._seen_of(pod, incarnation, state)

    def _seen_of(self, pod: str, incarnation: int, state: State | None) -> Seen | None:
        if state is None or not self._is_ours(state):
            return None
        if (state.pod, state.incarnation) != (pod, incarnation):
            return self._unreadable(pod, incarnation, f"the state of {pod}.{incarnation} names another workload")
        return seen_of(state, shim_lives=state.shim_lives(this_boot=self._boot_id))

    def _unreadable(self, pod: str, incarnation: int, sentence: str) -> Seen:
        """Return what a state that cannot be believed means: whatever ran there is not ours to know any more."""
        return Seen(self._workload_id(pod, incarnation), "unreadable", Phase.EXITED, Reason.LOST, sentence)

    async def list_seen(self) -> Sequence[Seen]:
        return await asyncio.to_thread(self._list_seen)

    def _list_seen(self) -> list[Seen]:
        found = []
        for pod in self._directories.pods():
            for incarnation in self._directories.incarnations(pod):
                with suppress(RuntimeUnavailableError):
                    if (seen := self._look(pod, incarnation)) is not None:
                        found.append(seen)
        return found

    def logs(self, workload_id: WorkloadId, query: LogQuery) -> AsyncIterator[LogLine]:
        if self._is_of_others(workload_id.pod):
            return _no_lines()
        place = workload_id.pod, workload_id.incarnation
        return lines_of(self._directories.log_dir(*place), self._directories.state_dir(*place), query)

    async def capacity(self) -> Capacity:
        opened = self._required()
        disk_bytes, devices = await asyncio.to_thread(self._disk_and_devices, opened)
        return Capacity(
            cpu_cores=self._settings.cpu_cores or 4 * (os.cpu_count() or 1),
            memory_bytes=(self._settings.memory_gb or max(1, _machine_memory_bytes() // 10**9 - 1)) * 10**9,
            disk_bytes=disk_bytes,
            devices=devices,
        )

    def _disk_and_devices(self, opened: Opened) -> tuple[int, tuple[Device, ...]]:
        gpus = self._gpus.read(opened.ground.mode).gpus
        devices = tuple(Device(gpu.name, gpu.model, gpu.memory_bytes, gpu.trouble) for gpu in gpus)
        return cleaning.disk_capacity_bytes(opened), devices

    def _ground_for(self, workload: Workload) -> Ground:
        """Return what plans share, with the GPUs as they are now where the workload has some."""
        ground = self._required().ground
        if not workload.resources.devices:
            return ground
        gpus = {gpu.name: gpu for gpu in self._gpus.read(ground.mode).gpus}
        return replace(ground, gpus=gpus, device_root=str(self._gpus.root), driver_files=self._gpus.driver_files())

    async def usage(self, workload_ids: Sequence[WorkloadId]) -> Mapping[WorkloadId, Usage]:
        return await self._in_thread(partial(self._usage, workload_ids))

    def _usage(self, workload_ids: Sequence[WorkloadId]) -> dict[WorkloadId, Usage]:
        states: dict[Path, State | None] = {}
        for workload_id in workload_ids:
            directory = self._directories.state_dir(workload_id.pod, workload_id.incarnation)
            with suppress(ValueError):
                state = read_state(directory)
                states[directory] = state if state is not None and self._is_ours(state) else None
        running = usage.running_of(states, this_boot=self._boot_id)
        measured = usage.measure(running, self._gpus.use_of)
        return {self._workload_id(state.pod, state.incarnation): used for state, used in measured}

    async def report(self) -> Report:
        opened = self._required()
        told = notes_on(await asyncio.to_thread(self._gpus.read, opened.ground.mode))
        return replace(opened.report, notes=(*opened.report.notes, *told))

    def _required(self) -> Opened:
        if self._opened is None:
            raise RuntimeUnavailableError("the local runtime was not opened")
        return self._opened

    # ---- nudges

    def watch(self) -> AsyncIterator[PodId]:
        return self._nudges.follow()

    async def _subscribe(self, workload_id: WorkloadId) -> None:
        if workload_id in self._subscriptions:
            return

        def ended() -> None:
            self._subscriptions.pop(workload_id, None)
            if not self._closing:
                self._nudges.send(workload_id.pod)

        with suppress(OSError):
            self._subscriptions[workload_id] = await Subscription.open(
                self._directories.state_dir(workload_id.pod, workload_id.incarnation),
                "watch",
                on_nudge=lambda _: self._nudges.send(workload_id.pod),
                on_end=ended,
            )

    # ---- verbs

    def _lock(self, pod: PodId) -> asyncio.Lock:
        """Return the lock that orders this server's own verbs for one pod; other servers are kept out of data_dir."""
        return self._locks.setdefault(pod, asyncio.Lock())

    async def ensure(self, workload: Workload) -> None:
        opened = self._required()
        async with self._lock(workload.id.pod):
            await self._in_thread(partial(self._ensure, opened, workload))
            await self._subscribe(workload.id)

    def _ensure(self, opened: Opened, workload: Workload) -> None:
        """Start the shim where none was started; runs in a thread, under the pod's lock."""
        pod, incarnation = workload.id.pod, workload.id.incarnation
        standing = self._directories.incarnations(pod)
        if incarnation in standing and self._look(pod, incarnation) is not None:
            return
        for other in standing:
            if other != incarnation and not self._take_away_unstarted(pod, other):
                raise WorkloadRejectedError(
                    f"Incarnation {other} of this pod is still there.", reason=Reason.PLACE_OCCUPIED
                )
        as_root = opened.ground.mode == "root"
        uid = self._owners.uid_of(workload.owner) if as_root else os.getuid()
        plan = plan_of(
            workload,
            self._ground_for(workload),
            self._settings,
            self._limits,
            uid=uid,
            gid=uid if as_root else os.getgid(),
        )
        self._directories.place(plan)
        for old in logfiles.prune(plan.log_dir.parent, self._limits.log_incarnations - 1):
            cleaning.delete_log(old)
        self._starter.start(plan, {name: secret.reveal() for name, secret in workload.env.items()})

    def _take_away_unstarted(self, pod: str, incarnation: int) -> bool:
        """Take away what a server left that died before the shim had its plan; False when more than that is there."""
        directory = self._directories.state_dir(pod, incarnation)
        try:
            state = read_state(directory)
        except ValueError:
            return False
        if state is not None and (state.taken or not self._is_ours(state) or self._look(pod, incarnation) is not None):
            return False
        self._directories.take_away(directory)
        return True

    async def stop(self, workload_id: WorkloadId, *, grace_seconds: int, reason: Reason) -> None:  # noqa: ARG002
        """Pass the wish on; the caller counts the grace."""
        if self._standing_state(workload_id) is not None:
            await self._tell(workload_id, {"op": "stop", "reason": reason.value})

    async def kill(self, workload_id: WorkloadId, *, reason: Reason) -> None:
        state = self._standing_state(workload_id)
        if state is None:
            return
        try:
            await self._tell(workload_id, {"op": "kill", "reason": reason.value})
        except RuntimeUnavailableError:
            # A shim that hangs: its own end is the pod's.
            cleaning.kill_process(state.shim)

    def _standing_state(self, workload_id: WorkloadId) -> State | None:
        """Return the state of that very incarnation while its shim lives and it has not ended."""
        try:
            state = read_state(self._directories.state_dir(workload_id.pod, workload_id.incarnation))
        except ValueError:
            return None
        if state is None or not self._is_ours(state) or state.phase == Phase.EXITED:
            return None
        return state if state.shim_lives(this_boot=self._boot_id) else None

    async def _tell(self, workload_id: WorkloadId, request: control.Request) -> None:
        directory = self._directories.state_dir(workload_id.pod, workload_id.incarnation)
        with suppress(OSError):  # it ended meanwhile
            await ask(directory, request)

    async def remove(self, workload_id: WorkloadId, place: Place | None = None) -> None:  # noqa: ARG002
        opened = self._required()
        async with self._lock(workload_id.pod):
            await self._in_thread(partial(self._remove, opened, workload_id))
        self._nudges.send(workload_id.pod)

    def _remove(self, opened: Opened, workload_id: WorkloadId) -> None:
        """Take away what is left; runs in a thread, under the pod's lock."""
        directory = self._directories.state_dir(workload_id.pod, workload_id.incarnation)
        if not directory.is_dir():
            return
        state = None
        with suppress(ValueError):
            state = read_state(directory)
        if state is not None and not self._is_ours(state):
            return
        lives = state is not None and state.shim_lives(this_boot=self._boot_id)
        if state is not None and lives and state.phase != Phase.EXITED:
            return
        with suppress(OSError, ValueError):  # without a plan nothing was begun
            cleaning.clean(opened, Plan.read(directory), state if state and state.boot_id == self._boot_id else None)
        if not lives:
            logfiles.trim(self._directories.log_dir(workload_id.pod, workload_id.incarnation), self._limits.log_bytes)
        self._directories.take_away(directory)

    async def forget(self, workload_id: WorkloadId) -> None:
        for known, subscription in list(self._subscriptions.items()):
            if known.pod == workload_id.pod:
                subscription.leave()
        async with self._lock(workload_id.pod):
            await self._in_thread(partial(self._forget, workload_id.pod))

    def _forget(self, pod: PodId) -> None:
        """Drop the logs; runs in a thread, under the pod's lock."""
        if not self._is_of_others(pod):
            self._directories.drop_logs(pod)

    async def connect(self, workload_id: WorkloadId, port: int) -> Connection:
        directory = self._reachable(workload_id)
        connection = await ask_for_port(directory, port)

        async def attach(protocol: asyncio.BaseProtocol) -> asyncio.Transport:
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=connection)
            return transport

        return Connection(attach)

    def _reachable(self, workload_id: WorkloadId) -> Path:
        """Return the state directory of an incarnation of ours; NotReadyError when there is none."""
        directory = self._directories.state_dir(workload_id.pod, workload_id.incarnation)
        # One that is subscribed to is ours; the look at the files is for others, since this is the way of every stream.
        known = workload_id in self._subscriptions
        if not directory.is_dir() or (not known and self._is_of_others(workload_id.pod)):
            raise NotReadyError("it does not run")
        return directory

    async def exec(self, workload_id: WorkloadId, request: ExecRequest) -> Execution:
        return await executing.start(self._reachable(workload_id), request)

    # ---- volumes

    async def volume_use(self, volume_ids: Sequence[VolumeId]) -> Mapping[VolumeId, VolumeUse | None]:
        return await self._volumes.use(self._required().disks, volume_ids)

    async def grow_volume(self, volume_id: VolumeId, size_bytes: int) -> bool:
        return await self._in_thread(partial(keeping.grow, self._required().disks, volume_id, size_bytes))

    async def remove_volume(self, volume_id: VolumeId) -> None:
        plan = self._required().disks
        try:
            await self._volumes.remove(plan, volume_id)
        except OSError as error:
            raise RuntimeUnavailableError(f"the data directory cannot be used: {error}") from error

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise RuntimeUnavailableError(f"the data directory cannot be used: {error}") from error


async def _no_lines() -> AsyncIterator[LogLine]:
    nothing: tuple[LogLine, ...] = ()
    for line in nothing:
        yield line


def machine_id(data_dir: Path) -> str:
    """Return this machine's id, or one kept in the data directory where the machine has none."""
    for path in (Path("/etc/machine-id"), data_dir / "machine-id"):
        with suppress(OSError):
            if text := path.read_text().strip():
                return text
    data_dir.mkdir(parents=True, exist_ok=True)
    made = os.urandom(16).hex()
    (data_dir / "machine-id").write_text(f"{made}\n")
    return made


def _machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
