"""The fake's world: what "runs" in it, how it behaves, and what goes wrong. It outlives every FakeRuntime on it.

A workload costs a small object and no task: its phase follows from its times and the clock when somebody looks. Only a
script with delays starts a timer, which nudges the watchers when there is something to see.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from neuropod.ids import PodId, VolumeId
from neuropod.kit.clock import Clock
from neuropod.runtimes.contract import Capacity, Device, Phase, Progress, Seen, Workload, WorkloadId
from neuropod.runtimes.execution import Execution
from neuropod.runtimes.nudges import Nudges
from neuropod.runtimes.usage import GpuUsage, Usage
from neuropod.words import Reason

_SIGTERM_CODE = 143
_SIGKILL_CODE = 137


@dataclass(frozen=True, slots=True)
class Uses:
    """What a workload uses while its process runs."""

    cpu_cores: float = 0.0
    memory_bytes: int = 100_000_000
    container_disk_bytes: int = 1_000_000
    volume_bytes: int = 0
    gpu_percent: int = 0
    gpu_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """How a workload behaves, in seconds after it was asked for."""

    prepare_seconds: float = 0.0  # pending: preparing
    ready_seconds: float | None = 0.0  # after its process runs; None: never ready
    exit_seconds: float | None = None  # after its process runs; None: runs until it is stopped
    exit_code: int = 0
    exit_reason: Reason | None = None  # default: exited or crashed, by the code
    stop_seconds: float | None = 0.0  # from SIGTERM to its end; None: it ignores SIGTERM
    stop_code: int = _SIGTERM_CODE  # with which SIGTERM ends it
    reject: str | None = None  # the runtime rejects it with this sentence
    reject_reason: Reason = Reason.REJECTED
    prints: tuple[str, ...] = ()  # lines of its log
    line_every_seconds: float | None = None  # after its process runs; None: all lines at once
    usage: Uses = Uses()


@dataclass(slots=True)
class Standing:
    """A workload that stands in the world."""

    workload: Workload
    script: Script
    identity: str
    asked_at: datetime
    lines: list[str] = field(default_factory=list)
    stop_at: datetime | None = None
    end_reason: Reason | None = None
    ended: tuple[datetime, int, Reason] | None = None  # time, exit code, reason
    uses: Uses | None = None  # since `uses_since`, where a test changed it; else the script's
    uses_since: datetime | None = None
    cpu_before: float = 0.0  # seconds until then

    @property
    def started_at(self) -> datetime:
        """When its process runs."""
        return self.asked_at + timedelta(seconds=self.script.prepare_seconds)

    @property
    def ready_at(self) -> datetime | None:
        """When it is ready, if ever."""
        seconds = self.script.ready_seconds
        return None if seconds is None else self.started_at + timedelta(seconds=seconds)

    def settle(self, now: datetime) -> None:
        """Let it have ended if its time has come."""
        if self.ended is not None:
            return
        ends = []
        if self.script.exit_seconds is not None:
            code = self.script.exit_code
            reason = self.script.exit_reason or (Reason.CRASHED if code else Reason.EXITED)
            at = self.started_at + timedelta(seconds=self.script.exit_seconds)
            asked_before = self.stop_at is not None and self.stop_at <= at
            ends.append((at, code, (self.end_reason or reason) if asked_before else reason))
        if self.stop_at is not None and self.script.stop_seconds is not None:
            reason = self.end_reason or Reason.REQUESTED
            ends.append((self.stop_at + timedelta(seconds=self.script.stop_seconds), self.script.stop_code, reason))
        if ends and min(ends)[0] <= now:
            self.ended = min(ends)

    def kill(self, now: datetime, reason: Reason) -> None:
        """End it now."""
        self.settle(now)
        if self.ended is None:
            self.ended = (now, _SIGKILL_CODE, self.end_reason or reason)

    def use(self, uses: Uses, now: datetime) -> None:
        """Let it use that from now on."""
        used = self.usage(now)
        self.cpu_before = 0.0 if used is None else used.cpu_seconds or 0.0
        self.uses, self.uses_since = uses, now

    def usage(self, now: datetime) -> Usage | None:
        """Return what it uses; None while its process does not run."""
        seen = self.seen(now)
        if seen.started_at is None or seen.phase is Phase.EXITED:
            return None
        uses = self.uses or self.script.usage
        seconds = (now - (self.uses_since or seen.started_at)).total_seconds()
        return Usage(
            cpu_seconds=self.cpu_before + seconds * uses.cpu_cores,
            memory_bytes=uses.memory_bytes,
            container_disk_bytes=uses.container_disk_bytes,
            volume_bytes=None if self.workload.volume is None else uses.volume_bytes,
            gpus=tuple(
                GpuUsage(device, uses.gpu_percent, uses.gpu_memory_bytes) for device in self.workload.resources.devices
            ),
        )

    def seen(self, now: datetime) -> Seen:
        """Return what a look shows."""
        self.settle(now)
        until = now if self.ended is None else min(now, self.ended[0])  # after its end nothing comes about any more
        began = self.started_at if self.started_at <= until else None
        ready = self.ready_at if self.ready_at is not None and self.ready_at <= until else None
        seen = Seen(self.workload.id, self.identity, Phase.PENDING, Reason.NOT_READY, started_at=began, ready_at=ready)
        if self.ended is not None:
            at, code, reason = self.ended
            return replace(
                seen,
                phase=Phase.EXITED,
                reason=reason,
                exit_code=code if began is not None else None,
                stopping_at=self.stop_at,
                finished_at=at,
            )
        if self.stop_at is not None:
            return replace(
                seen, phase=Phase.STOPPING, reason=self.end_reason or Reason.REQUESTED, stopping_at=self.stop_at
            )
        if began is None:
            return replace(seen, reason=Reason.PREPARING, progress=Progress("packages", 0, 1, "packages"))
        return seen if ready is None else replace(seen, phase=Phase.READY, reason=Reason.READY)


@dataclass(slots=True)
class FakeVolume:
    """A volume that was made."""

    size_bytes: int
    used_bytes: int = 0
    grows_at_once: bool = True
    wanted_bytes: int = 0  # by a growth that comes later


class FakeWorld:
    """Everything that stands, by workload; scripts by pod name; faults by a hook."""

    def __init__(self, clock: Clock, *, cpu_cores: int = 100_000, devices: tuple[Device, ...] = ()) -> None:
        self.clock = clock
        self.standing: dict[WorkloadId, Standing] = {}
        self.kept_lines: dict[WorkloadId, list[str]] = {}  # of removed incarnations
        self.executions: dict[WorkloadId, set[Execution]] = {}  # that run now
        self.volumes: dict[VolumeId, FakeVolume] = {}  # that were made
        self.scripts: dict[str, Script] = {}
        self.default_script = Script()
        self.capacity = Capacity(cpu_cores, 10**15, 10**16, devices)
        self.before: Callable[[str], Awaitable[None]] | None = None  # raises or waits before an effect
        self.after: Callable[[str], Awaitable[None]] | None = None  # the effect is done, the answer is lost
        self.nudges = Nudges()
        self.changed = asyncio.Event()  # replaced at each change: wakes followers of logs
        self.highest: dict[PodId, int] = {}  # the highest incarnation ever asked for, for the tests' claims
        self._identities = 0
        self._timers: set[asyncio.Task[None]] = set()

    def place(self, workload: Workload) -> None:
        """Let a workload stand."""
        script = self.scripts.get(workload.pod_name, self.default_script)
        if workload.volume is not None:
            volume = self.volumes.setdefault(workload.volume.id, FakeVolume(workload.volume.size_bytes))
            volume.size_bytes = max(volume.size_bytes, workload.volume.size_bytes)
        self._identities += 1
        standing = Standing(workload, script, f"fake-{self._identities}", self.clock.now())
        self.standing[workload.id] = standing
        self.highest[workload.id.pod] = max(self.highest.get(workload.id.pod, 0), workload.id.incarnation)
        if script.line_every_seconds is None:
            standing.lines.extend(script.prints)
        else:
            self._start(self._speak(standing, script.line_every_seconds))
        moments = {script.prepare_seconds}
        if script.ready_seconds is not None:
            moments.add(script.prepare_seconds + script.ready_seconds)
        if script.exit_seconds is not None:
            moments.add(script.prepare_seconds + script.exit_seconds)
        for seconds in moments:
            self.nudge_after(seconds, workload.id.pod)

    def print(self, workload_id: WorkloadId, line: str) -> None:
        """Let a workload write a line."""
        self.standing[workload_id].lines.append(line)
        self.wake_followers()

    def wake_followers(self) -> None:
        """Let followers of logs look again."""
        self.changed.set()
        self.changed = asyncio.Event()

    def nudge(self, pod: PodId) -> None:
        """Tell the watchers, and the followers of logs."""
        self.wake_followers()
        self.nudges.send(pod)

    def nudge_after(self, seconds: float, pod: PodId) -> None:
        """Tell the watchers later; at once when it is now."""
        if seconds <= 0:
            self.nudge(pod)
            return

        async def later() -> None:
            await self.clock.sleep(seconds)
            self.nudge(pod)

        self._start(later())

    async def _speak(self, standing: Standing, every_seconds: float) -> None:
        await self.clock.sleep(standing.script.prepare_seconds)
        for line in standing.script.prints:
            await self.clock.sleep(every_seconds)
            standing.settle(self.clock.now())
            if standing.ended is not None:
                return
            standing.lines.append(line)
            self.wake_followers()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        timer = asyncio.get_running_loop().create_task(work)
        self._timers.add(timer)
        timer.add_done_callback(self._timers.discard)

    async def aclose(self) -> None:
        """End the timers."""
        for execution in [one for running in self.executions.values() for one in running]:
            await execution.aclose()
        for timer in list(self._timers):
            timer.cancel()
        await asyncio.gather(*self._timers, return_exceptions=True)
