"""What passes ask of the database and of runtimes, together. Made by the pods loop.

Those that ask the database while a transaction is under way share the next one: a burst of launches would otherwise pay
for a transaction per pod and step, and wait in the line of writers for each. While many are at work a record waits a
moment for theirs (as PostgreSQL's commit_delay and commit_siblings do). One that fails is tried again pod by pod, so
that one bad row spoils nothing for the others. And those that ask a runtime for its capacity share the answer that
is under way: it is counted over all pods there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from neuropod.db.engine import Database
from neuropod.ids import PodId, RuntimeId
from neuropod.kit.clock import Clock
from neuropod.pods.claims import Claimed, Closing, Outcome
from neuropod.pods.opening.store import Opened, open_incarnations
from neuropod.pods.runs.store import close_incarnations, record_passes
from neuropod.pods.service import Pods
from neuropod.pods.workload import Lacking
from neuropod.runtimes.contract import Capacity, Runtime, Workload, WorkloadRejectedError
from neuropod.words import Reason

AskT = TypeVar("AskT")
AnswerT = TypeVar("AnswerT")
Run = tuple[PodId, int]  # a pod and the number of an incarnation

_SIBLINGS = 4  # while so many other passes are at work, what one of them records
_DELAY_SECONDS = 0.05  # waits so long for what they record


class SharedRows:
    """Opens incarnations, reads what they run, records outcomes and ends, for many passes at once where many ask.

    Before an incarnation is opened its runtime's capacity is asked, in the same way. `at_work` counts the passes that
    are under way.
    """

    def __init__(self, database: Database, pods: Pods, clock: Clock, at_work: Callable[[], int] = lambda: 0) -> None:
        async def opened(asks: Sequence[tuple[Claimed, Capacity]]) -> Sequence[Opened]:
            # All of one runtime: the queue below is one per runtime.
            claims = [claimed for claimed, _ in asks]
            async with database.write() as session:
                return await open_incarnations(session, claims, asks[-1][1], now=clock.now())

        async def read(runs: Sequence[Run]) -> Sequence[Workload | Lacking | None]:
            async with database.read() as session:
                workloads = await pods.workloads.of(session, runs)
            return [workloads.get(run) for run in runs]

        async def recorded(outcomes: Sequence[Outcome]) -> Sequence[Claimed | None]:
            async with database.write() as session:
                return await record_passes(session, outcomes, now=clock.now())

        async def ended(closings: Sequence[Closing]) -> Sequence[Claimed | None]:
            async with database.write() as session:
                return await close_incarnations(session, closings, now=clock.now())

        self._opened = opened
        self._opens: dict[str, Shared[tuple[Claimed, Capacity], Opened]] = {}
        self._capacities = SharedCapacities()
        self._workloads = Shared(read)
        self._records = Shared(recorded, at_work)
        self._ends = Shared(ended, at_work)

    async def capacity(self, runtime: Runtime) -> Capacity:
        """Return what `runtime.capacity` does. Raises what it raises."""
        return await self._capacities.of(runtime)

    async def open(self, claimed: Claimed, capacity: Capacity) -> Opened:
        """Make the pod's next incarnation, or let it wait (`pods.opening`)."""
        runtime_id = claimed.facts.runtime_id
        shared = self._opens.get(runtime_id)
        if shared is None:
            shared = self._opens[runtime_id] = Shared(self._opened)
        return await shared.ask((claimed, capacity))

    async def workload(self, pod_id: PodId, incarnation: int) -> Workload:
        """Return what the runtime is asked to run for an incarnation, secrets included.

        Raises WorkloadRejectedError where a secret is missing: it is not run without it.
        """
        workload = await self._workloads.ask((pod_id, incarnation))
        if workload is None:
            raise LookupError(f"pod {pod_id} has no row")
        if isinstance(workload, Lacking):
            raise WorkloadRejectedError(workload.message, reason=Reason.SECRET_MISSING)
        return workload

    async def record(self, outcome: Outcome) -> Claimed | None:
        """Record what a pass saw and did (`pods.runs`)."""
        return await self._records.ask(outcome)

    async def close(self, closing: Closing) -> Claimed | None:
        """Record the end of an incarnation (`pods.runs`)."""
        return await self._ends.ask(closing)

    async def aclose(self) -> None:
        """End what is under way; for when nobody waits any more."""
        for opens in self._opens.values():
            await opens.aclose()
        await self._capacities.aclose()
        await self._workloads.aclose()
        await self._records.aclose()
        await self._ends.aclose()


class SharedCapacities:
    """The capacities of runtimes, each asked once for all who ask meanwhile."""

    def __init__(self) -> None:
        self._asked: dict[RuntimeId, asyncio.Task[Capacity]] = {}

    async def of(self, runtime: Runtime) -> Capacity:
        """Return what `runtime.capacity` does. Raises what it raises."""
        asked = self._asked.get(runtime.id)
        if asked is None:
            asked = self._asked[runtime.id] = asyncio.create_task(runtime.capacity())
            asked.add_done_callback(lambda done: self._drop(runtime.id, done))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            self._drop(runtime.id, asked)  # should it hang, whoever comes next asks anew
            raise

    def _drop(self, runtime_id: RuntimeId, asked: "asyncio.Task[Capacity]") -> None:
        if self._asked.get(runtime_id) is asked:
            del self._asked[runtime_id]
        if asked.done() and not asked.cancelled():
            asked.exception()  # whoever asked has it, unless they are all gone

    async def aclose(self) -> None:
        """End what is under way."""
        under_way = list(self._asked.values())
        for asked in under_way:
            asked.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


class Shared(Generic[AskT, AnswerT]):
    """One kind of question, asked for many at once; `answer` takes a transaction and answers in the order of asks.

    `at_work` counts those who may ask soon, with those who have: the others are waited for a moment if they are many.
    """

    def __init__(
        self, answer: Callable[[Sequence[AskT]], Awaitable[Sequence[AnswerT]]], at_work: Callable[[], int] = lambda: 0
    ) -> None:
        self._answer = answer
        self._at_work = at_work
        self._waiting: list[tuple[AskT, asyncio.Future[AnswerT]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, ask: AskT) -> AnswerT:
        """Return the answer, or raise what kept it from being given to this ask."""
        answer: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        batch: list[tuple[AskT, asyncio.Future[AnswerT]]] = []
        try:
            while self._waiting:
                if self._at_work() - len(self._waiting) >= _SIBLINGS:
                    await asyncio.sleep(_DELAY_SECONDS)  # of real time: nothing is decided by it
                batch, self._waiting = self._waiting, []
                try:
                    await self._transact(batch)
                except Exception as error:  # noqa: BLE001 - each pass gets its own error
                    await self._one_by_one(batch, error)
        finally:
            # Cut off: who waits ends with it. Nobody else would ever answer, and the leases run out by themselves.
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting = []
            self._running = None

    async def _transact(self, batch: "list[tuple[AskT, asyncio.Future[AnswerT]]]") -> None:
        answers = await self._answer([ask for ask, _ in batch])
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _one_by_one(self, batch: "list[tuple[AskT, asyncio.Future[AnswerT]]]", error: Exception) -> None:
        for one in batch:
            if len(batch) > 1:
                try:
                    await self._transact([one])
                    continue
                except Exception as own:  # noqa: BLE001 - the pass of this row says what happened
                    error = own
            if not one[1].done():
                one[1].set_exception(error)

    async def aclose(self) -> None:
        """End what is under way, and who waits for it."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
