"""The contract over a FakeWorld. Made by `runtimes.registry` when `fake_runtime` is set, and by tests."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence

from neuropod.ids import InstallationId, PodId, RuntimeId, VolumeId
from neuropod.runtimes.contract import (
    Capability,
    Capacity,
    Connection,
    LogLine,
    LogQuery,
    NotReadyError,
    Phase,
    Place,
    Report,
    Seen,
    Workload,
    WorkloadId,
    WorkloadRejectedError,
)
from neuropod.runtimes.execution import ExecRequest, Execution, TooManyExecutionsError
from neuropod.runtimes.fake.execution import FakeExecution
from neuropod.runtimes.fake.hello import Hello
from neuropod.runtimes.fake.world import FakeWorld, Standing
from neuropod.runtimes.usage import Usage
from neuropod.runtimes.volumes import NoRoomError, VolumeInUseError, VolumeUse
from neuropod.words import Reason


class FakeRuntime:
    """Runs nothing, and tells everything a runtime tells."""

    def __init__(self, installation: InstallationId, world: FakeWorld, name: str = "one") -> None:
        self._installation = installation
        self._world = world
        self._id = RuntimeId(f"fake:{name}")

    @property
    def id(self) -> RuntimeId:
        return self._id

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(
            {
                Capability.IMAGES,
                Capability.RECIPES,
                Capability.TENANT_ISOLATION,
                Capability.EXEC,
                Capability.USAGE,
                Capability.VOLUMES,
            }
        )

    async def open(self) -> None:
        await self._before("open")

    async def aclose(self) -> None:
        """Nothing is held: the world goes on."""

    async def report(self) -> Report:
        return Report("fake", notes=("Nothing runs here: the fake runtime only tells that it does.",))

    # ---- looking

    async def observe(self, workload_id: WorkloadId) -> Seen | None:
        await self._before("observe")
        standing = self._standing(workload_id)
        return None if standing is None else standing.seen(self._world.clock.now())

    def _standing(self, workload_id: WorkloadId) -> Standing | None:
        """Return what stands in the pod's place: that incarnation, else the newest other one."""
        if (exact := self._world.standing.get(workload_id)) is not None:
            return exact
        if workload_id.pod not in self._world.highest:
            return None  # nothing of it ever stood here, so that a crowd of others costs nothing
        same_pod = [one for one in self._world.standing if one.pod == workload_id.pod and self._is_ours(one)]
        return self._world.standing[max(same_pod)] if same_pod else None

    def _is_ours(self, workload_id: WorkloadId) -> bool:
        return workload_id.installation == self._installation

    async def list_seen(self) -> Sequence[Seen]:
        await self._before("list_seen")
        now = self._world.clock.now()
        return [one.seen(now) for workload_id, one in self._world.standing.items() if self._is_ours(workload_id)]

    async def capacity(self) -> Capacity:
        await self._before("capacity")
        return self._world.capacity

    async def usage(self, workload_ids: Sequence[WorkloadId]) -> Mapping[WorkloadId, Usage]:
        await self._before("usage")
        now = self._world.clock.now()
        standing = {one: self._world.standing.get(one) for one in workload_ids if self._is_ours(one)}
        measured = {one: found.usage(now) for one, found in standing.items() if found is not None}
        return {one: usage for one, usage in measured.items() if usage is not None}

    def watch(self) -> AsyncIterator[PodId]:
        return self._world.nudges.follow()

    async def logs(self, workload_id: WorkloadId, query: LogQuery) -> AsyncIterator[LogLine]:
        position, skip = 0, 0
        if query.tail is not None:
            skip = max(0, len(self._lines(workload_id)) - query.tail)
        number = 0
        while True:
            changed = self._world.changed
            for line in self._lines(workload_id)[number:]:
                if number >= skip and (query.since is None or position > query.since):
                    yield LogLine(position, line)
                position += len(line.encode()) + 1
                number += 1
            if not query.follow or not self._writes_on(workload_id):
                return
            await changed.wait()

    def _lines(self, workload_id: WorkloadId) -> list[str]:
        standing = self._world.standing.get(workload_id)
        return self._world.kept_lines.get(workload_id, []) if standing is None else standing.lines

    def _writes_on(self, workload_id: WorkloadId) -> bool:
        standing = self._world.standing.get(workload_id)
        return standing is not None and standing.seen(self._world.clock.now()).phase is not Phase.EXITED

    # ---- verbs

    async def ensure(self, workload: Workload) -> None:
        await self._before("ensure")
        standing = self._standing(workload.id)
        if standing is not None and standing.workload.id != workload.id:
            raise WorkloadRejectedError("another incarnation stands in its place", reason=Reason.PLACE_OCCUPIED)
        if standing is None:
            script = self._world.scripts.get(workload.pod_name, self._world.default_script)
            if script.reject is not None:
                raise WorkloadRejectedError(script.reject, reason=script.reject_reason)
            self._world.place(workload)
        await self._after("ensure")

    async def stop(self, workload_id: WorkloadId, *, grace_seconds: int, reason: Reason) -> None:  # noqa: ARG002
        await self._before("stop")
        standing = self._world.standing.get(workload_id)
        now = self._world.clock.now()
        if standing is not None and standing.seen(now).phase in {Phase.PENDING, Phase.READY}:
            pending = standing.started_at > now
            standing.stop_at, standing.end_reason = now, reason
            if pending:
                standing.ended = (now, 0, reason)
            self._world.nudge(workload_id.pod)
            if standing.script.stop_seconds:
                self._world.nudge_after(standing.script.stop_seconds, workload_id.pod)
        await self._after("stop")

    async def kill(self, workload_id: WorkloadId, *, reason: Reason) -> None:
        await self._before("kill")
        standing = self._world.standing.get(workload_id)
        if standing is not None:
            standing.kill(self._world.clock.now(), reason)
            self._world.nudge(workload_id.pod)
        await self._after("kill")

    async def remove(self, workload_id: WorkloadId, place: Place | None = None) -> None:  # noqa: ARG002
        await self._before("remove")
        standing = self._world.standing.get(workload_id)
        if standing is not None and standing.seen(self._world.clock.now()).phase is Phase.EXITED:
            self._world.kept_lines[workload_id] = standing.lines
            del self._world.standing[workload_id]
            self._world.nudge(workload_id.pod)
        await self._after("remove")

    async def forget(self, workload_id: WorkloadId) -> None:
        await self._before("forget")
        for kept in [one for one in self._world.kept_lines if one.pod == workload_id.pod and self._is_ours(one)]:
            del self._world.kept_lines[kept]
        await self._after("forget")

    async def connect(self, workload_id: WorkloadId, port: int) -> Connection:
        await self._before("connect")
        standing = self._world.standing.get(workload_id)
        if standing is None or standing.seen(self._world.clock.now()).phase is not Phase.READY:
            raise NotReadyError(f"{workload_id} is not ready")
        if port not in standing.workload.ports:
            raise NotReadyError(f"nothing listens on port {port} of {workload_id}")
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: Hello(f"{standing.workload.pod_name}:{port}"), sock=there)

        async def attach(protocol: asyncio.BaseProtocol) -> asyncio.Transport:
            transport, _ = await loop.create_unix_connection(lambda: protocol, sock=here)
            return transport

        return Connection(attach)

    async def exec(self, workload_id: WorkloadId, request: ExecRequest) -> Execution:
        await self._before("exec")
        standing = self._world.standing.get(workload_id)
        seen = None if standing is None else standing.seen(self._world.clock.now())
        if standing is None or seen is None or seen.started_at is None or seen.phase is Phase.EXITED:
            raise NotReadyError(f"{workload_id} does not run")
        if len(self._world.executions.get(workload_id, ())) >= request.at_most:
            raise TooManyExecutionsError("too many commands run in it")
        env = {name: value.reveal() for name, value in standing.workload.env.items()}
        return FakeExecution(self._world, workload_id, env, request)

    # ---- volumes

    async def volume_use(self, volume_ids: Sequence[VolumeId]) -> Mapping[VolumeId, VolumeUse | None]:
        await self._before("volume_use")
        now, made = self._world.clock.now(), self._world.volumes
        return {
            each: VolumeUse(
                found.size_bytes,
                found.used_bytes,
                found.used_bytes >= found.size_bytes,
                now,
                found.wanted_bytes > found.size_bytes,
            )
            for each, found in made.items()
            if each in volume_ids
        }

    async def grow_volume(self, volume_id: VolumeId, size_bytes: int) -> bool:
        await self._before("grow_volume")
        volume = self._world.volumes.get(volume_id)
        if size_bytes > self._world.capacity.disk_bytes:
            raise NoRoomError("There is no room.")
        if volume is None or size_bytes <= volume.size_bytes:
            return True
        if volume.grows_at_once:
            volume.size_bytes = size_bytes
        volume.wanted_bytes = size_bytes
        await self._after("grow_volume")
        return volume.grows_at_once

    async def remove_volume(self, volume_id: VolumeId) -> None:
        await self._before("remove_volume")
        now = self._world.clock.now()
        for standing in self._world.standing.values():
            attached = standing.workload.volume
            if attached is not None and attached.id == volume_id and standing.seen(now).phase is not Phase.EXITED:
                raise VolumeInUseError(f"{standing.workload.pod_name} uses it")
        self._world.volumes.pop(volume_id, None)
        await self._after("remove_volume")

    async def _before(self, verb: str) -> None:
        if self._world.before is not None:
            await self._world.before(verb)

    async def _after(self, verb: str) -> None:
        if self._world.after is not None:
            await self._world.after(verb)
