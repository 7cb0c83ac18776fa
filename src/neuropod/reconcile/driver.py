"""Runs loops: a turn, then sleep until a nudge or until the loop asked to be woken. Knows no domain.

Built by server with the loops. After each turn the board and the metrics hear how it went. A turn that meets a full
disk is told and tried again. One that raises anything else takes the server down loudly: a loop takes care of bad rows
itself, so what reaches the driver is a defect or a lost database, and a supervisor's restart is the same pass as any
other start.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from neuropod.db.engine import Database, Topic
from neuropod.kit.clock import Clock
from neuropod.kit.errors import NoSpaceError
from neuropod.kit.tasks import FailureHook, TaskSet
from neuropod.kit.wakeups import Wakeup
from neuropod.observability.health import Board
from neuropod.observability.metrics import Metrics

log = structlog.get_logger(__name__)

_GOOD_EXTRA_SECONDS = 60.0  # how much later than announced a loop may report before it counts as hanging

_FULL_DISK_SECONDS = 5.0  # until the next try while the disk is full

_LAST_TURN_SECONDS = 5.0  # how long a turn may take to end when the server does; one that waits for a runtime is cut


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn did, for operators, and when the next one is due without a nudge."""

    again_in_seconds: float
    report: Mapping[str, object] = field(default_factory=dict)
    ok: bool = True
    message: str = ""
    pause_seconds: float = 0.0  # no turn sooner, whatever nudges: what comes meanwhile is then done together


class Loop(Protocol):
    """One loop."""

    name: str
    topics: frozenset[Topic]  # commits that nudge it
    wakeup: Wakeup  # its own nudges: watches, workers that became free

    async def turn(self) -> Turn:
        """Do what is due now."""
        ...

    async def aclose(self) -> None:
        """Finish what is under way, with its records, and let go."""
        ...


class Driver:
    """Runs loops until it is closed."""

    def __init__(
        self,
        loops: Sequence[Loop],
        *,
        database: Database,
        board: Board,
        metrics: Metrics,
        clock: Clock,
        on_failure: FailureHook,
    ) -> None:
        self._loops = loops
        self._board = board
        self._clock = clock
        self._tasks = TaskSet(on_failure)
        self._driving: list[asyncio.Task[None]] = []
        self._closing = False
        self._seconds = metrics.histogram("loop_turn_seconds", "Duration of a loop's turn", ["loop"])
        database.listen(self._heard)

    def start(self) -> None:
        """Start every loop with a first turn."""
        for loop in self._loops:
            self._board.expect(loop.name)
            self._driving.append(self._tasks.start(self._drive(loop), name=f"loop {loop.name}"))

    def _heard(self, topics: frozenset[Topic]) -> None:
        for loop in self._loops:
            if topics & loop.topics:
                loop.wakeup.nudge()

    async def _drive(self, loop: Loop) -> None:
        cause = "start"
        while not self._closing:
            began = self._clock.monotonic()
            turn = await self._turn(loop)
            seconds = self._clock.monotonic() - began
            self._seconds.labels(loop.name).observe(seconds)
            self._board.report(
                loop.name,
                ok=turn.ok,
                message=turn.message,
                good_seconds=turn.again_in_seconds + _GOOD_EXTRA_SECONDS,
                cause=cause,
                seconds=round(seconds, 4),
                **turn.report,
            )
            if turn.pause_seconds and not self._closing:
                await self._clock.sleep(turn.pause_seconds)
            cause = "nudge" if await loop.wakeup.sleep(turn.again_in_seconds) else "period"

    async def _turn(self, loop: Loop) -> Turn:
        try:
            return await loop.turn()
        except NoSpaceError as error:  # nobody's defect, and it passes: what is due stays due
            log.error("a loop cannot write", loop=loop.name, error=error.message)  # noqa: TRY400 - no traceback
            return Turn(_FULL_DISK_SECONDS, ok=False, message=error.message)

    async def aclose(self) -> None:
        """Begin no new turn, then let turns and loops finish what is under way; may be repeated."""
        self._closing = True
        for loop in self._loops:
            loop.wakeup.nudge()
        if under_way := [task for task in self._driving if not task.done()]:
            # A turn that is cut off after its claim would leave leases, for which the next server waits.
            await asyncio.wait(under_way, timeout=_LAST_TURN_SECONDS)
        await self._tasks.aclose()
        async with AsyncExitStack() as stack:
            for loop in self._loops:
                stack.push_async_callback(loop.aclose)
