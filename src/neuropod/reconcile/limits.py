"""The limits loop: measures what pods use, judges which are idle, warns, and stops those whose limit is reached.

A turn looks when it is time for a look (`reconcile.look_seconds`), and in between when a deadline or its warning comes.
A look asks each runtime once for all that run on it, Jupyter where idleness is limited and there is one, and the
gateways for what was used. It decides nothing itself (`pods.limits.idleness` does) and writes no wish: a stop is the
use-case `stop_pod`, by the system. What it writes is one transaction a look for all pods, none while nothing runs.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from neuropod.accounts.access import SYSTEM
from neuropod.db.engine import Topic
from neuropod.db.events import Happening, record_events
from neuropod.gateway.traffic import Traffic
from neuropod.ids import PodId
from neuropod.kit.errors import NeuropodError
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.limits import store
from neuropod.pods.limits.idleness import (
    Found,
    Idleness,
    Stop,
    Thresholds,
    coming_stops,
    looked,
    outlook_of,
    thresholds_of,
    warning,
)
from neuropod.pods.limits.store import Running
from neuropod.pods.stopping import Overdue, stop_at_limit
from neuropod.pods.usage import store as usage_store
from neuropod.pods.usage.series import Meter, Point, Recorder
from neuropod.reconcile.driver import Turn
from neuropod.reconcile.kernels import worked_at
from neuropod.reconcile.world import World
from neuropod.runtimes.contract import RuntimeUnavailableError, WorkloadId
from neuropod.runtimes.usage import Usage, usage_reader
from neuropod.settings import LimitSettings
from neuropod.words import JupyterMode, Reason

log = structlog.get_logger(__name__)

_KEEP_SECONDS = 300.0  # how old what is written of idleness may be while nothing changes
_ASK_AT_ONCE = 16
_ASK_ALL_SECONDS = 20.0  # pods that hang delay a look by no more than this
_ROWS_EVERY = timedelta(hours=1)


@dataclass(slots=True)
class _Known:
    """What this server knows of an incarnation: what its last look found, and what of that is written."""

    number: int
    idleness: Idleness
    written: Idleness | None


@dataclass(frozen=True, slots=True)
class _Due:
    """What a turn has to write and do."""

    warnings: list[tuple[Running, Stop]] = field(default_factory=list)
    stops: list[tuple[Running, Overdue]] = field(default_factory=list)
    next_at: list[datetime] = field(default_factory=list)


class LimitsLoop:
    """Implements driver.Loop."""

    name = "limits"
    topics = frozenset({Topic.LIMITS})

    def __init__(self, world: World, settings: LimitSettings, traffic: Traffic) -> None:
        self.wakeup = Wakeup()
        self._world = world
        self._traffic = traffic
        self._thresholds: Thresholds = thresholds_of(settings, look_seconds=world.settings.look_seconds)
        self._look = timedelta(seconds=world.settings.look_seconds)
        self._meter = Meter()
        self._recorder = Recorder()
        self._known: dict[PodId, _Known] = {}
        self._looked_at: datetime | None = None
        self._rows_swept_at: datetime | None = None
        self._stopped = world.metrics.counter("pods_stopped_by_limits", "Pods stopped by a limit of time", ["reason"])

    async def turn(self) -> Turn:
        world = self._world
        now = world.clock.now()
        async with world.database.read() as session:
            running = await store.running_on(session, world.runtimes.keys())
        looks = self._looked_at is None or self._seconds_since(self._looked_at, now) >= world.settings.look_seconds
        points: Mapping[PodId, Point] = {}
        used: set[PodId] = set()
        if looks:
            self._looked_at = now
            points = await self._measure(running, now)
            used = self._traffic.take()
            await self._judge(running, points, used, now)
        due = self._due(running, now, looked_now=looks)
        warned = await self._write(running, points, used, due, now)
        stopped = [await self._stop(run, overdue, now) for run, overdue in due.stops]
        await self._sweep_rows(now)
        report = {"running": len(running), "measured": len(points), "warned": warned, "stopped": sum(stopped)}
        return Turn(self._seconds_to_next(due, now), report)

    @staticmethod
    def _seconds_since(before: datetime, now: datetime) -> float:
        return (now - before).total_seconds()

    def _seconds_to_next(self, due: _Due, now: datetime) -> float:
        if self._looked_at is None:
            return 0.0
        return max(0.0, (min([self._looked_at + self._look, *due.next_at]) - now).total_seconds())

    # ---- a look

    async def _measure(self, running: Sequence[Running], now: datetime) -> dict[PodId, Point]:
        """Return a point of each pod that was measured; what a runtime does not tell is not there."""
        world = self._world
        ids = {world.pods.workloads.id_of(run.pod_id, run.number): run for run in running}
        points = {}
        for runtime_id, runtime in world.runtimes.items():
            reader = usage_reader(runtime)
            wanted = [one for one, run in ids.items() if run.runtime_id == runtime_id]
            if reader is None or not wanted:
                continue
            measured: Mapping[WorkloadId, Usage] = {}
            try:
                async with asyncio.timeout(world.settings.lease_seconds * 0.45):
                    measured = await reader.usage(wanted)
            except (RuntimeUnavailableError, TimeoutError) as error:
                log.info("a runtime does not tell what is used", runtime=runtime_id, error=str(error))
            except Exception:  # a defect in measuring must not keep deadlines from being kept
                log.exception("what is used cannot be measured", runtime=runtime_id)
            for one in wanted:
                if one in measured:
                    points[one.pod] = self._meter.point(one, measured[one], now)
        self._meter.keep(ids)
        self._recorder.add(points)
        return points

    async def _judge(
        self, running: Sequence[Running], points: Mapping[PodId, Point], used: set[PodId], now: datetime
    ) -> None:
        """Take in what was found of the pods whose idleness is limited; of one that was not measured, nothing."""
        watched = [
            run for run in running if run.limits.idle_stop_after_seconds is not None and run.ready and run.wanted
        ]
        self._known = {
            run.pod_id: known
            for run in watched
            if (known := self._known.get(run.pod_id)) is not None and known.number == run.number
        }
        rates = {pod_id: point.cpu_cores for pod_id, point in points.items()}
        observed = [run for run in watched if rates.get(run.pod_id) is not None]
        kernels = await self._kernels(observed, now)
        for run in observed:
            before, written = self._before(run)
            found = Found(
                at=now,
                cpu_cores=rates[run.pod_id] or 0.0,
                gpu_percent=points[run.pod_id].gpu_percent,
                used=run.pod_id in used or _was_used(run, before),
                kernels_at=kernels.get(run.pod_id),
            )
            self._known[run.pod_id] = _Known(run.number, looked(before, found, self._thresholds), written)

    def _before(self, run: Running) -> tuple[Idleness | None, Idleness | None]:
        """Return what was known last, by this server or another one, and what of it is written."""
        known = self._known.get(run.pod_id)
        if known is None:
            return run.idleness, run.idleness
        if run.idleness is not None and run.idleness.looked_at > known.idleness.looked_at:
            return run.idleness, run.idleness
        return known.idleness, run.idleness

    async def _kernels(self, runs: Sequence[Running], now: datetime) -> Mapping[PodId, datetime | None]:
        world = self._world
        asked = [run for run in runs if run.jupyter is not JupyterMode.OFF]
        if not asked:
            return {}
        async with world.database.read() as session:
            tokens = await world.pods.jupyter_tokens(session, [run.pod_id for run in asked])
        at_once = asyncio.Semaphore(_ASK_AT_ONCE)

        async def ask(run: Running) -> datetime | None:
            workload_id = world.pods.workloads.id_of(run.pod_id, run.number)
            async with at_once:
                return await worked_at(world.runtimes[run.runtime_id], workload_id, tokens.get(run.pod_id), now)

        tasks = {run.pod_id: asyncio.create_task(ask(run)) for run in asked}
        _, late = await asyncio.wait(tasks.values(), timeout=_ASK_ALL_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        answers = {}
        for pod_id, task in tasks.items():
            if task in late:
                continue
            if (error := task.exception()) is not None:  # nothing that a pod says may end the loop
                log.error("a Jupyter cannot be asked", pod=pod_id, exc_info=error)
            else:
                answers[pod_id] = task.result()
        return answers

    # ---- what follows

    def _due(self, running: Sequence[Running], now: datetime, *, looked_now: bool) -> _Due:
        due = _Due()
        for run in running:
            if not run.wanted:
                continue
            known = self._known.get(run.pod_id)
            # Idleness is judged with a look alone: between two nobody knows whether the pod has been used since.
            fresh = known is not None and looked_now and known.idleness.looked_at == now
            idleness = known.idleness if known is not None and fresh else None
            outlook = outlook_of(run.limits, run.started_at, idleness)
            for stop in coming_stops(run.limits, outlook, self._thresholds):
                unwarned = run.warned[stop.reason] != stop.at
                # Nobody is stopped for being idle who was not warned, though the limit is short, or new and passed:
                # then the next look does it.
                if stop.at <= now and not (unwarned and stop.reason is Reason.IDLE):
                    since = None if idleness is None else idleness.since
                    due.stops.append((run, Overdue(run.pod_id, run.number, stop.reason, since)))
                    break
                warns = stop.warned_from <= now
                if warns and unwarned:
                    due.warnings.append((run, stop))
                if stop.reason is Reason.DEADLINE:
                    due.next_at.append(stop.at if warns else stop.warned_from)
        return due

    async def _write(
        self, running: Sequence[Running], points: Mapping[PodId, Point], used: set[PodId], due: _Due, now: datetime
    ) -> int:
        """Write points, what changed of idleness, and warnings; return how many were warned now."""
        world = self._world
        changed = {(pod_id, known.number): known for pod_id, known in self._to_keep(now)}
        # Others may watch what was used here, where several servers share a database.
        elsewhere = set() if world.database.is_sqlite else used - {run.pod_id for run in running if not run.wanted}
        if not (points or changed or elsewhere or due.warnings):
            return 0
        async with world.database.write() as session:
            if points:
                await usage_store.keep_chunks(session, self._recorder.chunks)
            await store.keep_idleness(session, {key: known.idleness for key, known in changed.items()})
            if elsewhere:
                await store.mark_used(session, elsewhere, now=now)
            happenings = [
                _warned(run, stop, now)
                for run, stop in due.warnings
                if await store.claim_warning(session, run, stop.reason, stop.at)
            ]
            if happenings:
                session.nudge(Topic.ROUTES)  # the gate's pages say it too
            await record_events(session, happenings)
        for known in changed.values():
            known.written = known.idleness
        return len(happenings)

    def _to_keep(self, now: datetime) -> Iterator[tuple[PodId, _Known]]:
        for pod_id, known in self._known.items():
            written, idleness = known.written, known.idleness
            if idleness.looked_at != now:
                continue
            if (
                written is None
                or written.kept_by != idleness.kept_by
                or (not idleness.kept_by and written.since != idleness.since)
                or (now - written.looked_at).total_seconds() >= _KEEP_SECONDS
            ):
                yield pod_id, known

    async def _stop(self, run: Running, overdue: Overdue, now: datetime) -> bool:
        world = self._world
        try:
            async with world.database.write() as session:
                done = await stop_at_limit(session, world.pods, overdue, now=now, actor=SYSTEM)
        except NeuropodError:
            log.exception("a pod cannot be stopped at its limit", pod=run.pod_id)
            return False
        if done:
            self._stopped.labels(overdue.reason).inc()
            log.info("stopped at its limit", pod=run.pod_id, reason=overdue.reason)
        return done

    async def _sweep_rows(self, now: datetime) -> None:
        if self._rows_swept_at is not None and now - self._rows_swept_at < _ROWS_EVERY:
            return
        self._rows_swept_at = now
        async with self._world.database.write() as session:
            await usage_store.delete_old(session, now=now)
            await store.delete_old(session)

    async def aclose(self) -> None:
        """Write what is known of idleness and was not worth a transaction yet, so that the next server goes on."""
        known = {
            (pod_id, one.number): one.idleness for pod_id, one in self._known.items() if one.written != one.idleness
        }
        if known:
            async with self._world.database.write() as session:
                await store.keep_idleness(session, known)


def _was_used(run: Running, before: Idleness | None) -> bool:
    """Tell whether another server's gateway saw the pod used since the last look."""
    return run.used_at is not None and before is not None and run.used_at > before.looked_at


def _warned(run: Running, stop: Stop, now: datetime) -> Happening:
    data = {"reason": stop.reason, "stops_at": stop.at.isoformat()}
    return Happening(
        "pod.stop_warned", f"Pod {run.pod_name}: {warning(stop, now)}", now, run.owner_id, run.pod_id, data
    )
