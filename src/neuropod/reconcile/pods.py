"""The pods loop: claims due pods in batches and works on several at once; each one's pass is `passes.Pass`.

A turn claims what its workers have room for. It is woken by commits that made a pod due (Topic.PODS), by what runtimes
tell (`watch`), by workers that became free, and when the next pod falls due. A runtime's nudge writes nothing: the pod
is looked at again, and only if something is new does the next claim take it. Behind all nudges stands the resync loop.
"""

import asyncio
from datetime import datetime, timedelta

import structlog

from neuropod.db.engine import Topic
from neuropod.ids import PodId, RuntimeId
from neuropod.kit.tasks import FailureHook, TaskSet
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.claims import Claimed
from neuropod.pods.resync.store import next_due_at
from neuropod.pods.runs.store import claim_pods
from neuropod.reconcile.driver import Turn
from neuropod.reconcile.passes import Pass
from neuropod.reconcile.sharing import SharedRows
from neuropod.reconcile.world import World
from neuropod.runtimes.contract import Capacity, Phase, Runtime, RuntimeUnavailableError, Seen

log = structlog.get_logger(__name__)

_LONGEST_SLEEP_SECONDS = 3600.0
_WATCH_AGAIN_SECONDS = 1.0
# Between two turns, so that what comes meanwhile is done together: in a burst a turn finds several pods, not one.
_BREATH_SECONDS = 0.03  # at least,
_CLAIMED_SECONDS, _LONGEST_FOR_CLAIMED_SECONDS = 0.03, 0.15  # for each pod that was claimed: more will come,
_AWAITED_SECONDS, _LONGEST_FOR_AWAITED_SECONDS = 0.01, 0.8  # for each that a runtime is at: its end waits for theirs,
_AWAITED_LATELY_SECONDS = 30.0  # unless it takes that long
_CAPACITY_SECONDS = 60.0  # how old a capacity may be that only narrows what is claimed; Open asks anew


class PodsLoop:
    """Implements driver.Loop."""

    name = "pods"
    topics = frozenset({Topic.PODS, Topic.RUNTIMES})

    def __init__(self, world: World, on_failure: FailureHook) -> None:
        self.wakeup = Wakeup()
        self._world = world
        self._watches = TaskSet(on_failure)
        self._watched: set[RuntimeId] = set()
        self._workers = TaskSet(on_failure)
        self._busy: dict[PodId, asyncio.Task[None]] = {}
        self._rows = SharedRows(world.database, world.pods, world.clock, lambda: len(self._busy))
        self._nudged: dict[PodId, Runtime] = {}
        self._told = True  # a commit has made a pod due
        self._rested: dict[PodId, Seen] = {}  # what the last pass of an open incarnation rested on
        self._awaited: dict[PodId, float] = {}  # where a runtime is at work, and since when
        self._capacities: dict[RuntimeId, Capacity] = {}
        self._capacities_at: datetime | None = None
        world.database.listen(self._heard)
        self._passes = world.metrics.counter("pod_passes", "Passes of the pods loop")

    async def turn(self) -> Turn:
        if not self._world.runtimes:
            return Turn(_LONGEST_SLEEP_SECONDS, ok=False, message="no runtime is open")
        self._start_watches()
        await self._look_at_capacities()
        claimed_in_all, due_in = 0, None
        while room := self._world.settings.workers - len(self._busy):
            limit = min(room, self._world.settings.batch)
            claimed, due_in = await self._claim(limit)
            claimed_in_all += len(claimed)
            if len(claimed) < limit:
                break
        report = {"claimed": claimed_in_all, "busy": len(self._busy)}
        if len(self._busy) >= self._world.settings.workers:
            return Turn(_LONGEST_SLEEP_SECONDS, report)  # a worker that becomes free wakes us
        due_in = await self._seconds_to_next() if due_in is None else due_in
        return Turn(due_in, report, pause_seconds=self._pause_seconds(claimed_in_all))

    def _pause_seconds(self, claimed: int) -> float:
        latest = self._world.clock.monotonic() - _AWAITED_LATELY_SECONDS
        awaited = sum(since > latest for since in self._awaited.values())
        return max(
            _BREATH_SECONDS,
            min(_CLAIMED_SECONDS * claimed, _LONGEST_FOR_CLAIMED_SECONDS),
            min(_AWAITED_SECONDS * awaited, _LONGEST_FOR_AWAITED_SECONDS),
        )

    def _heard(self, topics: frozenset[Topic]) -> None:
        if topics & self.topics:
            self._told = True

    async def _claim(self, limit: int) -> tuple[list[Claimed], float | None]:
        """Claim and begin to work; return the claims and, where they were all there is, when the next pod is due.

        Nudges are taken out before anything is asked about their pods: one that comes meanwhile may tell of something
        newer than the answer, and stays for the next claim.
        """
        nudged = self._take_nudged()
        try:
            await self._drop_without_news(nudged)
            told, self._told = self._told, False
            if not (nudged or told) and (seconds := await self._seconds_to_next()) > 0:
                return [], seconds  # a claim of nothing would be a write for nothing
            world = self._world
            async with world.database.write() as session:
                now = world.clock.now()  # not before: what became due while this stood in line is claimed with the rest
                claimed = list(
                    await claim_pods(
                        session,
                        capacities=self._capacities,
                        nudged=set(nudged),
                        policy=world.pods.policy,
                        now=now,
                        lease_seconds=world.settings.lease_seconds,
                        limit=limit,
                    )
                )
                due_in = (
                    self._seconds_to(await next_due_at(session, self._capacities)) if len(claimed) < limit else None
                )
            if len(claimed) < limit:
                nudged.clear()  # what was not claimed is closed, or another server's to look at
            lease_until = now + timedelta(seconds=world.settings.lease_seconds)
            for pod in sorted(claimed, key=lambda pod: pod.facts.requested_at):  # who asked first is opened first
                nudged.pop(pod.lease.pod_id, None)
                self._rested.pop(pod.lease.pod_id, None)
                self._work_on(pod, lease_until)
            return claimed, due_in
        finally:
            self._nudged = nudged | self._nudged

    def _work_on(self, claimed: Claimed, lease_until: datetime) -> None:
        pod_id = claimed.lease.pod_id
        runtime = self._world.runtimes[claimed.facts.runtime_id]
        work = Pass(self._world, self._rows, runtime, claimed, lease_until=lease_until)
        task = self._workers.start(work.run(), name=f"pass of {pod_id}")
        self._busy[pod_id] = task
        self._passes.inc()

        def free(_: asyncio.Task[None]) -> None:
            self._busy.pop(pod_id, None)
            if (seen := work.rested_at) is not None and seen.phase is not Phase.EXITED:
                self._rested[pod_id] = seen
            if work.awaits_runtime:
                self._awaited.setdefault(pod_id, self._world.clock.monotonic())
            else:
                self._awaited.pop(pod_id, None)
            self.wakeup.nudge()

        task.add_done_callback(free)

    def _take_nudged(self) -> dict[PodId, Runtime]:
        """Take out the nudged pods that no worker is at; the others stay until theirs is free."""
        free = {pod_id: runtime for pod_id, runtime in self._nudged.items() if pod_id not in self._busy}
        for pod_id in free:
            del self._nudged[pod_id]
        return free

    async def _drop_without_news(self, nudged: dict[PodId, Runtime]) -> None:
        """Take away the pods that are as their last pass left them."""
        asked = {pod_id: rested for pod_id in nudged if (rested := self._rested.get(pod_id)) is not None}
        answers = await asyncio.gather(*(self._is_still(nudged[pod_id], asked[pod_id]) for pod_id in asked))
        for pod_id, still in zip(asked, answers, strict=True):
            if still:
                del nudged[pod_id]

    async def _is_still(self, runtime: Runtime, rested: Seen) -> bool:
        try:
            async with asyncio.timeout(self._world.settings.lease_seconds * 0.45):
                return await runtime.observe(rested.id) == rested
        except (RuntimeUnavailableError, TimeoutError):
            return False  # the pass that follows says so

    async def _seconds_to_next(self) -> float:
        async with self._world.database.read() as session:
            return self._seconds_to(await next_due_at(session, self._capacities))

    def _seconds_to(self, at: datetime | None) -> float:
        if at is None:
            return _LONGEST_SLEEP_SECONDS
        return min(max(0.0, (at - self._world.clock.now()).total_seconds()), _LONGEST_SLEEP_SECONDS)

    # ---- what runtimes tell

    def _start_watches(self) -> None:
        for runtime_id, runtime in self._world.runtimes.items():
            if runtime_id not in self._watched:
                self._watched.add(runtime_id)
                self._watches.start(self._watch(runtime), name=f"watch of {runtime_id}")

    async def _watch(self, runtime: Runtime) -> None:
        while True:
            try:
                async for pod_id in runtime.watch():
                    self._nudged[pod_id] = runtime
                    self.wakeup.nudge()
            except RuntimeUnavailableError as error:
                log.info("a watch ended", runtime=runtime.id, error=str(error))
            await self._world.clock.sleep(_WATCH_AGAIN_SECONDS)

    async def _look_at_capacities(self) -> None:
        """Know roughly what there is, so that a pod without room need not be opened to find out."""
        now = self._world.clock.now()
        known = self._world.runtimes.keys() <= self._capacities.keys()
        young = self._capacities_at is not None and (now - self._capacities_at).total_seconds() < _CAPACITY_SECONDS
        if known and young:
            return
        self._capacities_at = now
        for runtime_id, runtime in self._world.runtimes.items():
            try:
                async with asyncio.timeout(self._world.settings.lease_seconds * 0.45):
                    self._capacities[runtime_id] = await runtime.capacity()
            except (RuntimeUnavailableError, TimeoutError) as error:
                log.info("a runtime does not tell its capacity", runtime=runtime_id, error=str(error))
                self._capacities.setdefault(runtime_id, Capacity(0, 0, 0))

    async def aclose(self) -> None:
        await self._watches.aclose()
        if self._busy:
            await asyncio.wait(list(self._busy.values()), timeout=self._world.settings.lease_seconds / 2)
        await self._workers.aclose()
        await self._rows.aclose()
