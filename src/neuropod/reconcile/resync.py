"""The resync loop: one bulk list per runtime against the rows; what differs becomes due, what has no row is swept.

It decides nothing about a pod: the pass that follows looks and decides. It runs at start, every `resync_seconds`, and
sooner while a runtime gives no answer, so that its return is seen. The sweep is careful: it removes only what carries
this installation's id (runtimes list nothing else), what has stood without a row for a grace time, never a volume, and
it halts with an alarm when it would remove more than 3 and more than 20 % of all at once. After a restore (the epoch is
not confirmed) it only lists.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import structlog

from neuropod.db.engine import ReadSession, Topic
from neuropod.db.events import prune_events
from neuropod.db.idempotency import delete_old
from neuropod.db.installation import epochs
from neuropod.ids import IncarnationId, PodId, RuntimeId
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.resync import store
from neuropod.pods.resync.store import Expected
from neuropod.reconcile.departures import close_departed
from neuropod.reconcile.driver import Turn
from neuropod.reconcile.world import World
from neuropod.runtimes.contract import Phase, Runtime, RuntimeUnavailableError, Seen, WorkloadId
from neuropod.words import Reason

log = structlog.get_logger(__name__)

_AWAY_SECONDS = 5.0
_SWEEP_FEW = 3
_SWEEP_SHARE = 0.2
_ROWS_EVERY = timedelta(hours=1)  # nothing hangs on it, and an idle server shall not write
_KEEP_REQUESTS = timedelta(days=1)  # how long an Idempotency-Key holds


class ResyncLoop:
    """Implements driver.Loop."""

    name = "resync"
    topics = frozenset({Topic.RUNTIMES})

    def __init__(self, world: World) -> None:
        self.wakeup = Wakeup()
        self._world = world
        self._begun: set[RuntimeId] = set()  # looked at once since this server began, or since it gave no answer
        self._allowed = world.sweeping_allowed
        self._waiting: dict[RuntimeId, str] = {}  # what a confirmation of the epoch would sweep
        self._rows_swept_at: datetime | None = None
        self._orphans: dict[WorkloadId, datetime] = {}  # without a row, since when
        self._swept = world.metrics.counter("workloads_swept", "Workloads removed because they belong to no row")

    async def turn(self) -> Turn:
        away, alarms, swept, differing = [], [], 0, 0
        for runtime in self._world.runtimes.values():
            seen = await self._list(runtime)
            if seen is None:
                away.append(runtime.id)
                continue
            differing += await self._compare(runtime, seen)
            alarm, removed = await self._sweep(runtime, seen)
            swept += removed
            if alarm:
                alarms.append(alarm)
        await self._sweep_rows()
        await close_departed(self._world)
        report = {"differing": differing, "swept": swept, "without_row": len(self._orphans), "away": away}
        again = _AWAY_SECONDS if away else self._world.settings.resync_seconds
        if self._orphans:
            again = min(again, self._world.settings.sweep_grace_seconds)
        # What waits for a confirmation is told and is no fault: the server is as ready as ever.
        message = "; ".join(
            [*alarms, *self._waiting.values(), *(f"{runtime_id} gives no answer" for runtime_id in away)]
        )
        return Turn(again, report, ok=not alarms, message=message)

    async def _list(self, runtime: Runtime) -> Sequence[Seen] | None:
        world = self._world
        try:
            async with asyncio.timeout(world.settings.lease_seconds):
                return await runtime.list_seen()
        except (RuntimeUnavailableError, TimeoutError) as error:
            log.warning("a runtime gives no answer", runtime=runtime.id, error=str(error))
        self._begun.discard(runtime.id)  # what waits for it with growing waits goes on as soon as it is back
        async with world.database.write() as session:
            await store.mark_unavailable(session, runtime.id, now=world.clock.now())
        return None

    async def _compare(self, runtime: Runtime, seen: Sequence[Seen]) -> int:
        world = self._world
        async with world.database.read() as session:
            expected = await store.expected_on(session, runtime.id)
        due, same = difference(expected, seen)
        now = world.clock.now()
        first = runtime.id not in self._begun
        self._begun.add(runtime.id)
        if not (due or same or first):
            return 0
        async with world.database.write() as session:
            await store.mark_seen(session, same, now=now)
            if first:
                await store.make_all_due(session, runtime.id, now=now)
            elif due:
                await store.make_due(session, due, now=now)
        return len(due)

    # ---- the sweep

    async def _sweep(self, runtime: Runtime, seen: Sequence[Seen]) -> tuple[str, int]:
        """Remove what has no row; return an alarm if it would be too much, and how many went."""
        world = self._world
        async with world.database.read() as session:
            orphans = {one.id: one for one in await store.without_row(session, seen)}
            allowed = self._allowed or (bool(orphans) and await self._is_confirmed(session))
        now = world.clock.now()
        self._orphans = {workload: self._orphans.get(workload, now) for workload in orphans}
        self._waiting.pop(runtime.id, None)
        if not orphans:
            return "", 0
        if not allowed:
            advice = "look at them with `neuropod admin show-epoch`, then run `neuropod admin confirm-epoch`"
            told = f"{len(orphans)} workloads without a row after a restore; {advice}"
            self._waiting[runtime.id] = told
            return "", 0
        grace = world.settings.sweep_grace_seconds
        ripe = [
            orphans[workload] for workload, since in self._orphans.items() if (now - since).total_seconds() >= grace
        ]
        if too_many(len(ripe), len(seen)):
            return f"the sweep would remove {len(ripe)} of {len(seen)} workloads and has halted", 0
        for orphan in ripe:
            await self._take_away(runtime, orphan)
        return "", len(ripe)

    async def _is_confirmed(self, session: ReadSession) -> bool:
        """Tell whether somebody has confirmed the epoch since the server began."""
        epoch, confirmed = await epochs(session)
        self._allowed = epoch <= confirmed
        return self._allowed

    async def _take_away(self, runtime: Runtime, orphan: Seen) -> None:
        log.warning("removing a workload that belongs to no row", workload=str(orphan.id), runtime=runtime.id)
        try:
            async with asyncio.timeout(self._world.settings.lease_seconds):
                if orphan.phase is not Phase.EXITED:
                    await runtime.kill(orphan.id, reason=Reason.LOST)
                await runtime.remove(orphan.id)
                if await runtime.observe(orphan.id) is None:
                    await runtime.forget(orphan.id)
        except (RuntimeUnavailableError, TimeoutError) as error:
            log.warning("it cannot be removed now", workload=str(orphan.id), error=str(error))
            return
        self._swept.inc()

    async def _sweep_rows(self) -> None:
        """Delete rows that have had their time: ended sessions, links and keys, requests that nobody sends again."""
        now = self._world.clock.now()
        if self._rows_swept_at is not None and now - self._rows_swept_at < _ROWS_EVERY:
            return
        self._rows_swept_at = now
        async with self._world.database.write() as session:
            await self._world.accounts.sweep(session)
            await delete_old(session, before=now - _KEEP_REQUESTS)
            kept = self._world.events
            await prune_events(session, now=now, keep_seconds=kept.keep_seconds, keep_count=kept.keep_count)

    async def aclose(self) -> None:
        """Nothing is under way between turns."""


def difference(expected: Iterable[Expected], seen: Iterable[Seen]) -> tuple[set[PodId], set[IncarnationId]]:
    """Return the pods whose rows and world differ, and the open incarnations that are as the rows have them. Pure."""
    by_id = {(one.id.pod, one.id.incarnation): one for one in seen}
    due: set[PodId] = set()
    same: set[IncarnationId] = set()
    for row in expected:
        found = by_id.pop((row.pod_id, row.number), None)
        if found is not None and row.open and (found.phase, found.identity) == (row.phase, row.identity):
            same.add(row.incarnation_id)
        else:
            due.add(row.pod_id)
    due.update(pod for pod, _ in by_id)  # stands there and no row expects it; without any row it is the sweep's
    return due, same


def too_many(removals: int, workloads: int) -> bool:
    """Tell whether a sweep of so many looks like a mistake: more than 3, and more than 20 % of what is there. Pure."""
    return removals > _SWEEP_FEW and removals > workloads * _SWEEP_SHARE
