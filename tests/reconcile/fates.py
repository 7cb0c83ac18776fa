"""Fates: a server that dies, or stands still, at one chosen moment of its work, while the world and other servers go on.

A fate follows the work by a context variable: whatever a turn starts (its passes) inherits it, and nobody else has it.
Two kinds of moments are counted:

- coarse: before and after each verb of the runtime, before, at the end of and after each writing transaction. Between
  two of them nothing that outlives the server changes, so dying anywhere between them comes to the same.
- fine: every single time that a turn or a pass gives up control, in the middle of statements and commits too. Held
  against the claim above.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import coroutine
from typing import Any

from neuropod.db.engine import Database, Session
from neuropod.kit.tasks import TaskSet
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
        self.stands = asyncio.Event()
        self.woken = asyncio.Event()
        self._still = still

    def passes(self, name: str) -> bool:
        """Count a moment; tell whether it is the chosen one."""
        self.names.append(name)
        if len(self.names) != self.at:
            return False
        self.met = name
        return True

    async def moment(self, name: str) -> None:
        if self.fine or (self._still and name == "before its commit"):
            return  # who stands still inside a transaction holds its locks: the others wait, or the database ends it
        if not self.passes(name):
            return
        if not self._still:
            raise Died(name)
        self.stands.set()
        await self.woken.wait()


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
    """Drive a coroutine; where it gives up control at the chosen moment, what it waits for never answers."""
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
            throw = Died("a step")
            continue
        try:
            answer = yield asked
        except BaseException as error:
            throw = error


def live(server: Server, fate: Fate) -> asyncio.Task[None]:
    """Let the server do all that is due, under a fate. The task ends with Died, or stands still until it is woken."""
    if fate.fine:
        server.loop._workers = _MortalTasks(server.failures)
    token = _FATE.set(fate)
    try:
        task = asyncio.create_task(_turn(server))
    finally:
        _FATE.reset(token)
    return task


async def _turn(server: Server) -> None:
    await _stepping(server.turn())


async def dies(server: Server, fate: Fate) -> bool:
    """Let the server do all that is due; tell whether it died over it. What it held is as a dead process leaves it."""
    task = live(server, fate)
    await asyncio.wait([task])
    if has_died(task):
        await bury(server)
        return True
    return False


def has_died(task: asyncio.Task[None]) -> bool:
    """Tell whether a life that has ended was ended by its fate; what else ended it is raised."""
    error = task.exception()
    if error is not None and not isinstance(error, Died):
        raise error
    return error is not None


async def stands_still(server: Server, fate: Fate) -> asyncio.Task[None] | None:
    """Let the server do all that is due; return its life when it stands still in the midst of it."""
    task = live(server, fate)
    stands = asyncio.ensure_future(fate.stands.wait())
    await asyncio.wait([task, stands], return_when=asyncio.FIRST_COMPLETED)
    stands.cancel()
    if not task.done():
        return task
    await task
    return None


async def bury(server: Server) -> None:
    """End everything of a server without letting it finish anything."""
    await server.loop._watches.aclose()
    await server.loop._workers.aclose()
