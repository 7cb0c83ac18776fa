"""Fates: a server that dies, or stands still, at one chosen moment of its work, while the world and other servers go on.

A fate follows the work by a context variable: whatever a turn starts (its passes) inherits it, and nobody else has it.
Two kinds of moments are counted:

- coarse: before and after each verb of the runtime, before, at the end of and after each writing transaction. Between
  two of them nothing that outlives the server changes, so dying anywhere between them comes to the same.
- fine: every single time that a turn or a pass gives up control, in the middle of statements and commits too. Held
  against the claim above.
"""

import asyncio
import traceback
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import coroutine
from typing import Any

from neuropod.db.engine import Database, Session
from neuropod.kit.tasks import TaskSet
from neuropod.reconcile.sharing import Shared
from reconcile.plant import Server


class Died(BaseException):
    """The process ended here; no handler of ours runs, but what the operating system and the database clean up."""


class Fate:
    """Counts moments; at the chosen one its server dies, or stands still until it is woken."""

    def __init__(self, at: int | None = None, *, fine: bool = False, still: bool = False) -> None:
        self.at = at
        self.fine = fine
        self.met: str | None = None  # the moment's name
        self.names: list[str] = []
        self.has_died = False
        self.under_way: asyncio.Future[Any] | None = None  # what it was waiting for when it died
        self.stands = asyncio.Event()  # still, or dead
        self.woken = asyncio.Event()
        self.still = still

    def passes(self, name: str) -> bool:
        """Count a moment; tell whether it is the chosen one."""
        self.names.append(name)
        if len(self.names) != self.at:
            return False
        self.met = name
        return True

    async def moment(self, name: str) -> None:
        if self.fine or (self.still and name == "before its commit"):
            return  # who stands still inside a transaction holds its locks: the others wait, or the database ends it
        if not self.passes(name):
            return
        if not self.still:
            raise self.death()
        self.stands.set()
        await self.woken.wait()

    def death(self) -> Died:
        """Die: everything of the server ends with this moment."""
        self.has_died = True
        self.stands.set()
        return Died(self.met)


_FATE: ContextVar[Fate | None] = ContextVar("fate", default=None)


async def moment(name: str) -> None:
    """Meet the fate of the work that runs here, if it has one."""
    fate = _FATE.get()
    if fate is not None:
        await fate.moment(name)


class MortalDatabase(Database):
    """A database that has moments around each writing transaction."""

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Session]:
        await moment("before a transaction")
        async with super().write() as session:
            yield session
            await moment("before its commit")
        await moment("after its commit")


class _MortalTasks(TaskSet):
    """Passes whose every step is a moment."""

    def start(self, coroutine: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        return super().start(_stepping(coroutine), name=name)


@coroutine
def _stepping(work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Drive a coroutine; where it gives up control at the chosen moment, what it waits for happens without it."""
    fate = _FATE.get()
    throw: BaseException | None = None
    answer: Any = None
    while True:
        try:
            asked = work.throw(throw) if throw is not None else work.send(answer)
        except StopIteration as end:
            return end.value
        throw = None
        if fate is not None and fate.fine and fate.passes("a step"):
            throw = fate.death()
            fate.under_way = asked
            continue
        try:
            answer = yield asked
        except BaseException as error:
            throw = error


def live(server: Server, fate: Fate) -> asyncio.Task[None]:
    """Let the server do all that is due, under a fate. The task ends with Died, or stands still until it is woken."""
    if fate.fine:
        _make_steps_moments(server)
    token = _FATE.set(fate)
    try:
        return asyncio.create_task(_turn(server))
    finally:
        _FATE.reset(token)


def _make_steps_moments(server: Server) -> None:
    """Let each step of the passes, and of what they ask of the rows together, be a moment."""
    server.loop._workers = _MortalTasks(server.failures)
    rows = server.loop._rows
    opens = rows._opens.setdefault(server.runtime.id, Shared(rows._opened))
    for shared in (opens, rows._workloads, rows._records):
        shared._run = lambda run=shared._run: _stepping(run())


async def _turn(server: Server) -> None:
    await _stepping(server.turn())


async def dies(server: Server, fate: Fate) -> bool:
    """Let the server do all that is due; tell whether it died over it. What it held is as a dead process leaves it."""
    return await _until(server, live(server, fate), fate) is None


async def stands_still(server: Server, fate: Fate) -> asyncio.Task[None] | None:
    """Let the server do all that is due; return its life when it stands still in the midst of it."""
    life = await _until(server, live(server, fate), fate)
    return None if life is None or life.done() else life


async def _until(server: Server, life: asyncio.Task[None], fate: Fate) -> asyncio.Task[None] | None:
    """Wait until the fate is met or the work is done; None: it has died, and is buried."""
    met = asyncio.ensure_future(fate.stands.wait())
    await asyncio.wait([life, met], return_when=asyncio.FIRST_COMPLETED)
    met.cancel()
    if fate.has_died:
        life.cancel()
        await asyncio.wait([life])
        await bury(server, fate, life)
        return None
    if life.done():
        await life
    return life


async def bury(server: Server, fate: Fate, life: asyncio.Task[None]) -> None:
    """End everything of a dead server without letting it finish anything."""
    await server.loop._watches.aclose()
    await server.loop._workers.aclose()
    for error in (None if life.cancelled() else life.exception(), (server.failures.first or (None, None))[1]):
        if error is not None:
            traceback.clear_frames(error.__traceback__)  # they hold open cursors, and those the lock of SQLite
    if fate.under_way is not None:
        await asyncio.wait([fate.under_way], timeout=1)
