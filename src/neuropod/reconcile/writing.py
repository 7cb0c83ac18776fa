"""What passes write, together: those that come while a transaction is under way share the next one.

A burst of launches would otherwise pay for a transaction per pod and step, and wait in the line of writers for each.
One that fails is tried again pod by pod, so that one bad row spoils nothing for the others. Made by the pods loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from neuropod.db.engine import Database, Session
from neuropod.kit.clock import Clock
from neuropod.pods.claims import Claimed, Outcome
from neuropod.pods.opening.store import Opened, open_incarnations
from neuropod.pods.runs.store import record_passes
from neuropod.runtimes.contract import Capacity

AskT = TypeVar("AskT")
AnswerT = TypeVar("AnswerT")


class Writer:
    """Opens incarnations and records outcomes, many at once where many ask."""

    def __init__(self, database: Database, clock: Clock) -> None:
        async def opened(session: Session, asks: Sequence[tuple[Claimed, Capacity]]) -> Sequence[Opened]:
            # All of one runtime: the shared queue below is one per runtime.
            claims = [claimed for claimed, _ in asks]
            return await open_incarnations(session, claims, asks[-1][1], now=clock.now())

        async def recorded(session: Session, outcomes: Sequence[Outcome]) -> Sequence[Claimed | None]:
            return await record_passes(session, outcomes, now=clock.now())

        self._database = database
        self._opened = opened
        self._opens: dict[str, _Shared[tuple[Claimed, Capacity], Opened]] = {}
        self._records = _Shared(database, recorded)

    async def open(self, claimed: Claimed, capacity: Capacity) -> Opened:
        """Make the pod's next incarnation, or let it wait (`pods.opening`)."""
        runtime_id = claimed.facts.runtime_id
        shared = self._opens.get(runtime_id)
        if shared is None:
            shared = self._opens[runtime_id] = _Shared(self._database, self._opened)
        return await shared.ask((claimed, capacity))

    async def record(self, outcome: Outcome) -> Claimed | None:
        """Record what a pass saw and did (`pods.runs`)."""
        return await self._records.ask(outcome)


class _Shared(Generic[AskT, AnswerT]):
    """One kind of writing, in shared transactions."""

    def __init__(
        self, database: Database, write: Callable[[Session, Sequence[AskT]], Awaitable[Sequence[AnswerT]]]
    ) -> None:
        self._database = database
        self._write = write
        self._waiting: list[tuple[AskT, asyncio.Future[AnswerT]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, ask: AskT) -> AnswerT:
        answer: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    await self._transact(batch)
                except Exception as error:  # noqa: BLE001 - each pass gets its own error
                    await self._one_by_one(batch, error)
        finally:
            self._running = None

    async def _transact(self, batch: list[tuple[AskT, "asyncio.Future[AnswerT]"]]) -> None:
        async with self._database.write() as session:
            answers = await self._write(session, [ask for ask, _ in batch])
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _one_by_one(self, batch: list[tuple[AskT, "asyncio.Future[AnswerT]"]], error: Exception) -> None:
        for one in batch:
            if len(batch) > 1:
                try:
                    await self._transact([one])
                    continue
                except Exception as own:  # noqa: BLE001 - the pass of this row says what happened
                    error = own
            if not one[1].done():
                one[1].set_exception(error)
