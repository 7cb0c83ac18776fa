"""Volumes as the server sees them: how full they are, growing them, and taking them away. Called by `runtime`.

Images tell by their file system's own statistics, at once. Folders have to be scanned: what was measured last is told,
and one that was not measured lately is scanned in a thread, which the asker waits for only a moment (SECURITY 5: `du`
follows no link).
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from neuropod.ids import VolumeId
from neuropod.runtimes.local import disks, disksizes, images, linux
from neuropod.runtimes.local.diskplaces import DiskInUseError, DiskPlan, volume_place
from neuropod.runtimes.volumes import NoRoomError, VolumeInUseError, VolumeUse

_FRESH_SECONDS = 60
_WAIT_SECONDS = 2.0
_SPARE_BYTES = 16 << 20  # less than this, or than a hundredth, is left: it is full
_SPARE_SHARE = 100


class VolumeKeeper:
    """Scans and removals of folders under way; one of a volume at a time."""

    def __init__(self) -> None:
        self._removals: dict[VolumeId, asyncio.Task[None]] = {}
        self._scans: dict[VolumeId, asyncio.Task[disksizes.Size]] = {}

    async def use(self, plan: DiskPlan, volume_ids: Sequence[VolumeId]) -> dict[VolumeId, VolumeUse | None]:
        """Tell how volumes are (None: not measured yet); those that are not there are left out."""
        if plan.images:
            return dict(await asyncio.to_thread(lambda: list(_uses_of_images(plan, volume_ids))))
        known = dict(await asyncio.to_thread(lambda: list(_sizes(plan, volume_ids))))
        old = [each for each, size in known.items() if linux.wall_time() - size.measured_at > _FRESH_SECONDS]
        if scans := [self._scan(plan, each) for each in old]:
            await asyncio.wait(scans, timeout=_WAIT_SECONDS)
            known |= await asyncio.to_thread(lambda: list(_sizes(plan, old)))
        return {each: _use_of_folder(size) if size.measured_at else None for each, size in known.items()}

    def _scan(self, plan: DiskPlan, volume_id: VolumeId) -> "asyncio.Task[disksizes.Size]":
        if volume_id not in self._scans:
            place = volume_place(plan, volume_id)
            scan = asyncio.create_task(asyncio.to_thread(disksizes.measure_folder, plan, place))
            self._scans[volume_id] = scan
            scan.add_done_callback(lambda _: self._scans.pop(volume_id, None))
        return self._scans[volume_id]

    async def remove(self, plan: DiskPlan, volume_id: VolumeId) -> None:
        """Take a volume away; who gives up waiting may ask again. Raises VolumeInUseError."""
        if volume_id not in self._removals:
            removal = asyncio.create_task(asyncio.to_thread(_remove, plan, volume_id))
            self._removals[volume_id] = removal
            removal.add_done_callback(lambda done: self._removed(volume_id, done))
        await asyncio.shield(self._removals[volume_id])

    def _removed(self, volume_id: VolumeId, done: "asyncio.Task[None]") -> None:
        self._removals.pop(volume_id, None)
        if not done.cancelled():
            done.exception()  # heard, also when nobody waits any more

    async def aclose(self) -> None:
        """Wait for nothing: what is under way ends by itself, and goes on with the next server where it was cut."""
        tasks = [*self._scans.values(), *self._removals.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def grow(plan: DiskPlan, volume_id: VolumeId, size_bytes: int) -> bool:
    """Let a volume be larger; tell whether it is now. Raises NoRoomError."""
    try:
        return disks.grow_volume(plan, volume_id, size_bytes)
    except disksizes.DiskFullError as error:
        raise NoRoomError(str(error)) from error


def _remove(plan: DiskPlan, volume_id: VolumeId) -> None:
    try:
        disks.remove_volume(plan, volume_id)
    except DiskInUseError as error:
        raise VolumeInUseError(str(error)) from error


def _uses_of_images(plan: DiskPlan, volume_ids: Sequence[VolumeId]) -> Iterator[tuple[VolumeId, VolumeUse]]:
    for volume_id in volume_ids:
        place = volume_place(plan, volume_id)
        with suppress(OSError):
            facts = place.image.lstat()
            now = _time(linux.wall_time())
            if not images.is_mounted(place.at):  # nobody uses it: what it takes of the data disk
                full = is_full(facts.st_size, images.free_bytes(place.image))
                yield volume_id, VolumeUse(facts.st_size, facts.st_blocks * 512, full, now)
                continue
            found = os.statvfs(place.at)
            size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
            full = is_full(size, free) or found.f_favail == 0
            used, later = size - found.f_bfree * found.f_frsize, images.grows_later(place.image)
            yield volume_id, VolumeUse(size, used, full, now, later)


def _sizes(plan: DiskPlan, volume_ids: Sequence[VolumeId]) -> Iterator[tuple[VolumeId, disksizes.Size]]:
    for volume_id in volume_ids:
        place = volume_place(plan, volume_id)
        if place.exists(images=False):
            yield volume_id, disksizes.size_of_folder(place)


def _use_of_folder(size: disksizes.Size) -> VolumeUse:
    free = size.promised_bytes - size.used_bytes
    return VolumeUse(size.promised_bytes, size.used_bytes, is_full(size.promised_bytes, free), _time(size.measured_at))


def is_full(size_bytes: int, free_bytes: int) -> bool:
    """Tell whether next to nothing can be written."""
    return free_bytes < min(_SPARE_BYTES, size_bytes // _SPARE_SHARE)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
