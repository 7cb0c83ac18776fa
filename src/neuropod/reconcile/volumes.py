"""The volumes loop: removes the data of deleted volumes, deletes those that go with their owner, sees which are full.

Only volumes with a row that says so are removed, each by its id: nothing is ever listed or swept. A removal may be cut
short at any moment, by the server's end too: the row stays until the runtime confirmed it, and the next turn goes on.
It writes no wish: what goes with its owner is deleted by the use-case, by the system.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime

import structlog

from neuropod.accounts.access import SYSTEM
from neuropod.db.engine import Topic
from neuropod.ids import RuntimeId, VolumeId
from neuropod.kit.errors import NeuropodError
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.attachments.service import Volumes
from neuropod.pods.attachments.store import volumes_in_use
from neuropod.reconcile.driver import Turn
from neuropod.reconcile.world import World
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.volumes import VolumeInUseError, VolumeUse, volumes_of
from neuropod.volumes import store

log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 10.0  # after a removal that could not be done


class VolumesLoop:
    """Implements driver.Loop."""

    name = "volumes"
    topics = frozenset({Topic.VOLUMES})

    def __init__(self, world: World, volumes: Volumes) -> None:
        self.wakeup = Wakeup()
        self._world = world
        self._volumes = volumes
        self._looked_at: datetime | None = None
        self._removed = world.metrics.counter("volumes_removed", "Deleted volumes whose data were removed")

    async def turn(self) -> Turn:
        world = self._world
        now = world.clock.now()
        look = world.settings.look_seconds
        if self._looked_at is None or (now - self._looked_at).total_seconds() >= look:
            self._looked_at = now
            await self._delete_with_owners()
            await self._measure(now)
        removed, left = await self._remove()
        again = look - (now - self._looked_at).total_seconds()
        return Turn(min(again, _AGAIN_SECONDS) if left else again, {"removed": removed, "to_remove": left})

    # ---- what is to go

    async def _delete_with_owners(self) -> None:
        async with self._world.database.read() as session:
            leaving = await store.volumes_of_leaving(session)
        for _, volume_id in leaving:
            try:
                async with self._world.database.write() as session:
                    await self._volumes.delete_volume(session, volume_id, actor=SYSTEM)
            except NeuropodError as error:  # a pod of theirs is still being deleted, most likely
                log.info("a volume does not go yet", volume=volume_id, why=error.message)

    async def _remove(self) -> tuple[int, int]:
        """Remove the data of deleted volumes; return how many went, and how many are left."""
        async with self._world.database.read() as session:
            going = await store.volumes_going(session, self._world.runtimes.keys())
        removed = 0
        for runtime_id, volume_id in going:
            if await self._take_away(runtime_id, VolumeId(volume_id)):
                async with self._world.database.write() as session:
                    await store.mark_removed(session, volume_id, now=self._world.clock.now())
                self._removed.inc()
                removed += 1
        return removed, len(going) - removed

    async def _take_away(self, runtime_id: RuntimeId, volume_id: VolumeId) -> bool:
        keeper = volumes_of(self._world.runtimes[runtime_id])
        if keeper is None:
            return False
        try:
            async with asyncio.timeout(self._world.settings.lease_seconds):
                await keeper.remove_volume(volume_id)
        except (VolumeInUseError, RuntimeUnavailableError, TimeoutError) as error:
            log.info("a deleted volume cannot be removed yet", volume=volume_id, error=str(error))
            return False
        except Exception:  # one bad volume keeps no other
            log.exception("a deleted volume cannot be removed", volume=volume_id)
            return False
        log.info("removed a deleted volume", volume=volume_id, runtime=runtime_id)
        return True

    # ---- what is full

    async def _measure(self, now: datetime) -> None:
        """Look at the volumes of pods that run, and write down which have become full, or are not any more."""
        async with self._world.database.read() as session:
            in_use = await volumes_in_use(session, self._world.runtimes.keys())
        full_since = {volume_id: since for _, volume_id, since in in_use}
        changed: dict[VolumeId, datetime | None] = {}
        for runtime_id in {runtime_id for runtime_id, _, _ in in_use}:
            uses = await self._uses(runtime_id, [each for place, each, _ in in_use if place == runtime_id])
            for volume_id, use in uses.items():
                if use.full is (full_since[volume_id] is None):
                    changed[volume_id] = now if use.full else None
        if not changed:
            return
        async with self._world.database.write() as session:
            for volume_id, since in changed.items():
                await store.mark_full(session, volume_id, since)

    async def _uses(self, runtime_id: RuntimeId, volume_ids: list[VolumeId]) -> Mapping[VolumeId, VolumeUse]:
        keeper = volumes_of(self._world.runtimes[runtime_id])
        if keeper is None:
            return {}
        try:
            async with asyncio.timeout(self._world.settings.lease_seconds):
                told = await keeper.volume_use(volume_ids)
        except (RuntimeUnavailableError, TimeoutError) as error:
            log.info("a runtime does not tell how full volumes are", runtime=runtime_id, error=str(error))
            return {}
        return {volume_id: use for volume_id, use in told.items() if use is not None}

    async def aclose(self) -> None:
        """Nothing is under way between turns."""
