"""One pod's pass under one lease: observe, decide, act, record, and on until there is nothing to do at once.

Called by the pods loop with a claimed pod. Every effect carries the incarnation it is about and may be repeated, every
record is guarded by the lease, so that a pass which is cut off anywhere, or comes too late, leaves nothing that the
next one does not put right. No session is open while a runtime is asked.

What is recorded when: Open and Close by themselves, since what follows rests on them; a Stop or Kill with the look
after it; everything else once, when the pass comes to rest. So a launch writes twice here: Open, and the look after
Ensure.
"""

import asyncio
import random
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import TypeVar, assert_never

import structlog

from neuropod.kit.errors import NoSpaceError
from neuropod.pods.claims import Claimed, Closing, Outcome
from neuropod.pods.jupyter import token_from_log
from neuropod.pods.lifecycle import (
    KILL_PAUSE_SECONDS,
    Close,
    Ensure,
    Forget,
    Kill,
    Open,
    Remove,
    Rest,
    Step,
    Stop,
    Wait,
    decide,
    rejected,
)
from neuropod.pods.runs import store as runs
from neuropod.reconcile.sharing import SharedRows
from neuropod.reconcile.world import World
from neuropod.runtimes.contract import (
    LogQuery,
    Phase,
    Runtime,
    RuntimeUnavailableError,
    Seen,
    WorkloadId,
    WorkloadRejectedError,
)
from neuropod.words import JupyterMode

T = TypeVar("T")

log = structlog.get_logger(__name__)

_MAX_WAIT_SECONDS = 60.0
_APPEAR_SECONDS = 1.0  # a workload that was asked for and is not there yet is looked for again so soon
_MOST_STEPS = 25  # more in one pass means that the runtime does not do what it is told
_TOKEN_LINES = 500


class LeaseSpentError(Exception):
    """Too little is left of the lease for another effect; the pod is due at once and goes on under the next one."""


class Pass:
    """The work on one claimed pod."""

    def __init__(
        self, world: World, rows: SharedRows, runtime: Runtime, claimed: Claimed, *, lease_until: datetime
    ) -> None:
        self._world = world
        self._rows = rows
        self._runtime = runtime
        self._claimed: Claimed | None = claimed  # None: given back, or taken over by another worker
        self._begun = claimed
        self.rested_at: Seen | None = None  # what the pass saw last, when it came to rest on that
        self.awaits_runtime = False  # the runtime is at work on what was asked of it, and tells when that is done
        self._lease_until = lease_until
        self._verb_seconds = world.settings.lease_seconds * 0.45  # under half of it, whatever happens before

    async def run(self) -> None:
        """Work until the pod rests, waits, is gone, or belongs to somebody else."""
        try:
            await self._run()
        except NoSpaceError as error:  # nothing can be written down: the lease ends, and another pass looks again
            log.error("a pass cannot write", pod=self._begun.facts.id, error=error.message)  # noqa: TRY400

    async def _run(self) -> None:
        claimed = self._begun
        try:
            seen = await self._look()
            for _ in range(_MOST_STEPS):
                if self._claimed is None:
                    return
                claimed = self._claimed
                seen = await self._go_on(claimed, seen)
            raise RuntimeUnavailableError("the runtime does not settle")
        except RuntimeUnavailableError as error:
            await self._unavailable(claimed, str(error))
        except LeaseSpentError:
            await self._release(claimed)
        except NoSpaceError:
            raise
        except Exception as error:  # one bad row never stops a loop
            log.exception("a pass failed", pod=claimed.facts.id)
            await self._failed(claimed, error)

    # ---- one turn: decide and act

    async def _go_on(self, claimed: Claimed, seen: Seen | None) -> Seen | None:
        step: Step = decide(claimed.facts, seen, self._now())
        match step:
            case Open() | Wait():
                await self._open(claimed)
                return None
            case Ensure():
                return await self._ensure(claimed)
            case Stop() | Kill():
                return await self._end(claimed, step)
            case Close():
                if seen is None:  # what was being made of it, if anything, nobody sees
                    await self._clear(claimed, step)
                await self._close(claimed, step, seen)
                return seen
            case Remove():
                await self._verb(self._runtime.remove(self._id(step.incarnation)))
                return await self._look()
            case Rest():
                await self._rest(claimed, seen, step)
                return None
            case Forget():
                await self._forget(claimed)
                return None
            case _:
                assert_never(step)

    async def _open(self, claimed: Claimed) -> None:
        capacity = await self._verb(self._rows.capacity(self._runtime))
        result = await self._rows.open(claimed, capacity)
        self._claimed = result if isinstance(result, Claimed) else None

    async def _ensure(self, claimed: Claimed) -> Seen | None:
        facts = claimed.facts
        number = facts.incarnation.number if facts.incarnation is not None else 0
        try:
            workload = await self._rows.workload(facts.id, number)
            await self._verb(self._runtime.ensure(workload))
        except WorkloadRejectedError as error:
            close = rejected(facts, error.reason, str(error), self._now())
            if close is None:
                return await self._look()
            await self._close(claimed, close, None)
            return None
        seen = await self._look()
        if seen is None:
            now = self._now()
            again = now + timedelta(seconds=_APPEAR_SECONDS)
            await self._record(claimed, None, due_at=again, step=None)
        return seen

    async def _end(self, claimed: Claimed, step: Stop | Kill) -> Seen | None:
        workload_id = self._id(step.incarnation)
        if isinstance(step, Stop):
            await self._verb(self._runtime.stop(workload_id, grace_seconds=step.grace_seconds, reason=step.reason))
            pause = float(step.grace_seconds)
        else:
            await self._verb(self._runtime.kill(workload_id, reason=step.reason))
            pause = float(KILL_PAUSE_SECONDS)
        seen = await self._look()
        goes_on = seen is None or seen.phase is Phase.EXITED
        due_at = self._now() + timedelta(seconds=pause)
        await self._record(claimed, seen, due_at=due_at, step=step, hold=goes_on)
        self.awaits_runtime = not goes_on
        return seen

    async def _clear(self, claimed: Claimed, close: Close) -> None:
        async with self._world.database.read() as session:
            place = await runs.place_of(session, claimed.facts.id)
        await self._verb(self._runtime.remove(self._id(close.incarnation), place))

    async def _close(self, claimed: Claimed, close: Close, seen: Seen | None) -> None:
        self._claimed = await self._rows.close(Closing(claimed, close, seen))

    async def _rest(self, claimed: Claimed, seen: Seen | None, step: Rest) -> None:
        await self._keep_log_token(claimed, seen)
        await self._record(claimed, seen, due_at=step.until, step=step)
        self.rested_at = seen
        self.awaits_runtime = seen is not None and seen.phase in {Phase.PENDING, Phase.STOPPING}

    async def _forget(self, claimed: Claimed) -> None:
        await self._verb(self._runtime.forget(self._id(0)))
        now = self._now()
        async with self._world.database.write() as session:
            await runs.forget_pod(session, claimed, now=now)
        self._claimed = None

    async def _keep_log_token(self, claimed: Claimed, seen: Seen | None) -> None:
        """Read the token that an image's own Jupyter printed, the first time it is seen ready."""
        current = claimed.facts.incarnation
        if claimed.lease.jupyter is not JupyterMode.FROM_LOG or current is None or seen is None:
            return
        if seen.phase is not Phase.READY or current.phase is Phase.READY:
            return
        lines = [line.text async for line in self._runtime.logs(self._id(current.number), LogQuery(tail=_TOKEN_LINES))]
        token = token_from_log(lines)
        if token is not None:
            async with self._world.database.write() as session:
                await self._world.pods.keep_log_token(session, claimed.facts.id, current.number, token)

    # ---- looking, acting, recording

    def _now(self) -> datetime:
        return self._world.clock.now()

    def _id(self, incarnation: int) -> WorkloadId:
        if self._claimed is None:
            raise RuntimeError("the pod is not ours any more")
        return self._world.pods.workloads.id_of(self._claimed.facts.id, incarnation)

    async def _look(self) -> Seen | None:
        if self._claimed is None:
            return None
        current = self._claimed.facts.incarnation
        return await self._verb(self._runtime.observe(self._id(current.number if current is not None else 0)))

    async def _verb(self, call: Awaitable[T]) -> T:
        """Ask the runtime, within the lease."""
        left = (self._lease_until - self._now()).total_seconds()
        if left < self._verb_seconds:
            if asyncio.iscoroutine(call):
                call.close()
            raise LeaseSpentError
        try:
            async with asyncio.timeout(self._verb_seconds):
                return await call
        except TimeoutError:
            raise RuntimeUnavailableError(f"no answer within {self._verb_seconds:.0f} s") from None

    async def _record(
        self,
        claimed: Claimed,
        seen: Seen | None,
        *,
        due_at: datetime | None,
        step: Rest | Stop | Kill | None,
        hold: bool = False,
    ) -> None:
        result = await self._rows.record(Outcome(claimed, seen, due_at, step, hold))
        self._claimed = result if hold else None

    async def _release(self, claimed: Claimed) -> None:
        now = self._now()
        async with self._world.database.write() as session:
            await runs.release(session, claimed, now=now, due_at=now)

    async def _unavailable(self, claimed: Claimed, error: str) -> None:
        log.info("the runtime gives no answer", pod=claimed.facts.id, error=error)
        now = self._now()
        due_at = now + timedelta(seconds=_wait_seconds(claimed.facts.failures))
        async with self._world.database.write() as session:
            await runs.record_unavailable(session, claimed, now=now, due_at=due_at)

    async def _failed(self, claimed: Claimed, error: Exception) -> None:
        now = self._now()
        due_at = now + timedelta(seconds=_wait_seconds(claimed.facts.failures))
        sentence = f"{type(error).__name__}: {error}"
        async with self._world.database.write() as session:
            await runs.record_failure(session, claimed, sentence, now=now, due_at=due_at)


def _wait_seconds(failures: int) -> float:
    """Return the wait after one more failure: doubling, capped, with jitter so that many rows do not come as one."""
    return min(2.0 ** min(failures, 10), _MAX_WAIT_SECONDS) * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secret
