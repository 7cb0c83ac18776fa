"""The devices loop: GPUs that pods hold and that are gone or broken are told to their owners; those that came wake.

A GPU vanishes without anybody's doing (a bus error, a pulled card), and no commit and no watch tells of it, so this
loop looks now and then. It gives nothing and takes nothing: who holds a broken GPU goes on with what still works until
its owner restarts it, and the queues look for themselves when they are woken.
"""

import asyncio

import structlog

from neuropod.db.engine import Topic
from neuropod.ids import RuntimeId
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.gpus.health import troubles
from neuropod.pods.gpus.store import held_devices, record_troubles
from neuropod.pods.queue.store import lock_runtime, wake_next
from neuropod.reconcile.driver import Turn
from neuropod.reconcile.world import World
from neuropod.runtimes.contract import Capacity, RuntimeUnavailableError

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 60.0


class DevicesLoop:
    """Implements driver.Loop."""

    name = "devices"
    topics = frozenset[Topic]()

    def __init__(self, world: World) -> None:
        self.wakeup = Wakeup()
        self._world = world
        self._well: dict[RuntimeId, frozenset[str]] = {}  # GPUs that could be given out at the last look

    async def turn(self) -> Turn:
        capacities = await self._capacities()
        async with self._world.database.read() as session:
            held = await held_devices(session, self._world.runtimes.keys())
        changed = troubles(held, capacities)
        if changed:
            for one, trouble in changed.values():
                log.warning("a pod's GPU", pod=one.pod_id, runtime=one.runtime_id, trouble=trouble or "well again")
            async with self._world.database.write() as session:
                await record_troubles(session, changed, self._world.clock.now())
        await self._wake(capacities)
        devices = [device for capacity in capacities.values() for device in capacity.devices]
        broken = [f"{device.name}: {device.trouble}" for device in devices if device.trouble]
        report = {"devices": len(devices), "held": len(held), "broken": len(broken)}
        return Turn(_LOOK_SECONDS, report, message="; ".join(broken))  # the server is well, its GPUs are not

    async def _capacities(self) -> dict[RuntimeId, Capacity]:
        found = {}
        for runtime_id, runtime in self._world.runtimes.items():
            try:
                async with asyncio.timeout(self._world.settings.lease_seconds):
                    found[runtime_id] = await runtime.capacity()
            except (RuntimeUnavailableError, TimeoutError) as error:
                log.info("a runtime does not tell its devices", runtime=runtime_id, error=str(error))
        return found

    async def _wake(self, capacities: dict[RuntimeId, Capacity]) -> None:
        """Let the queues of a runtime look that has GPUs which it had not at the last look."""
        for runtime_id, capacity in capacities.items():
            well = frozenset(device.name for device in capacity.devices if not device.trouble)
            before = self._well.get(runtime_id, well)
            self._well[runtime_id] = well
            if well - before:
                async with self._world.database.write() as session:
                    await lock_runtime(session, runtime_id)
                    await wake_next(session, runtime_id, self._world.clock.now())

    async def aclose(self) -> None:
        """Nothing is under way between turns."""
