"""Background tasks with an owner: none is forgotten, none dies unseen."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


class TaskSet:
    """Keeps the tasks that one component started, and ends them with it.

    A task that fails calls `on_failure` (server passes the one that takes the server down loudly).
    """

    def __init__(self, on_failure: "FailureHook") -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure

    def start(self, coroutine: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Start `coroutine` as a task of this set."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(task.get_name(), error)

    async def aclose(self) -> None:
        """Cancel what still runs and wait for it; may be repeated."""
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with suppress(asyncio.CancelledError, Exception):
                await task


class FailureHook:
    """What a task set calls with a task's name and error; the plain one remembers the first and wakes who waits."""

    def __init__(self) -> None:
        self.first: tuple[str, BaseException] | None = None
        self._event = asyncio.Event()

    def __call__(self, name: str, error: BaseException) -> None:
        if self.first is None:
            self.first = (name, error)
        self._event.set()

    async def wait(self) -> tuple[str, BaseException]:
        """Return the first failure once there is one."""
        await self._event.wait()
        if self.first is None:
            raise RuntimeError("woken without a failure")
        return self.first
