"""The runtimes of a server: those that it has opened, by id, and those that it cannot open yet, by name.

Made by server from what `registry.planned_runtimes` says, handed down as the one mapping that everybody reads: one that
opens later (a cluster that was away at the start) is then there for all of them. Whoever goes through it while it grows
goes on with what there was. `reconcile.runtimes` and a gateway alone try again what is missing.

A runtime has two names: its id names its world and stands on rows; its name is what the settings and GPU types call it.
Which name an id has is remembered in the database (`db.runtimes`), so it is known while the runtime is away.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from neuropod.ids import RuntimeId
from neuropod.runtimes.contract import Runtime, RuntimeUnavailableError

log = structlog.get_logger(__name__)

_OPEN_SECONDS = 20.0  # a start does not wait longer for one that gives no answer


@dataclass(frozen=True, slots=True)
class PlannedRuntime:
    """A runtime that the settings ask for; each `build` makes a new one, since one that was closed stays closed."""

    name: str
    build: Callable[[], Runtime]


class Runtimes(Mapping[RuntimeId, Runtime]):
    """A mapping of ids to runtimes that are opened and verified, in the order of the settings."""

    def __init__(self, planned: Sequence[PlannedRuntime] = ()) -> None:
        self._planned = tuple(planned)
        self._opened: dict[RuntimeId, Runtime] = {}  # replaced, never changed: somebody may be going through it
        self._names: dict[RuntimeId, str] = {}
        self._unopened = {one.name: "has not been tried yet" for one in planned}

    @classmethod
    def of(cls, opened: Mapping[RuntimeId, Runtime], names: Mapping[RuntimeId, str] | None = None) -> "Runtimes":
        """Return runtimes that somebody else has opened; without `names` each has its kind's (`fake:one` is `fake`)."""
        made = cls()
        made._opened = dict(opened)
        made._names = dict(names or {runtime_id: runtime_id.partition(":")[0] for runtime_id in opened})
        return made

    def __getitem__(self, runtime_id: RuntimeId) -> Runtime:
        return self._opened[runtime_id]

    def __iter__(self) -> Iterator[RuntimeId]:
        return iter(self._opened)

    def __len__(self) -> int:
        return len(self._opened)

    @property
    def unopened(self) -> Mapping[str, str]:
        """Those that are not open, by name, and why not, as a clause."""
        return dict(self._unopened)

    @property
    def names(self) -> Mapping[RuntimeId, str]:
        """The name of each opened runtime."""
        return {runtime_id: self._names[runtime_id] for runtime_id in self._opened}

    @property
    def planned_names(self) -> frozenset[str]:
        """The names of all runtimes of this server, open or not."""
        return frozenset((*self._unopened, *self.names.values()))

    def name_of(self, runtime_id: RuntimeId) -> str | None:
        """Return a runtime's name, also of one that is away; None for one that never was here."""
        return self._names.get(runtime_id)

    def learn_names(self, names: Mapping[RuntimeId, str]) -> None:
        """Take in what runtimes were called that were opened earlier; what is open keeps its name."""
        self._names = {**names, **self.names}

    async def open_missing(self) -> Sequence[RuntimeId]:
        """Try to open what is not open, all at once; return the ids of those that are now. Never raises."""
        missing = [one for one in self._planned if one.name in self._unopened]
        before = set(self._opened)
        async with AsyncExitStack() as untaken:  # where this is cut off, what is open already is let go too
            async with asyncio.TaskGroup() as group:
                opening = [group.create_task(self._open(one, untaken)) for one in missing]
            untaken.pop_all()
        for planned, task in zip(missing, opening, strict=True):  # of two that are one, the first of the settings
            if (runtime := task.result()) is not None:
                await self._take_in(planned, runtime)
        return [runtime_id for runtime_id in self._opened if runtime_id not in before]

    async def _open(self, planned: PlannedRuntime, untaken: AsyncExitStack) -> Runtime | None:
        runtime = planned.build()
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await runtime.open()
        except (RuntimeUnavailableError, TimeoutError) as error:
            await self._let_go(planned, runtime, str(error) or f"no answer within {_OPEN_SECONDS:.0f} s")
            return None
        except Exception as error:  # a defect in opening one must not take the others down, now or later
            await runtime.aclose()
            log.exception("a runtime cannot be opened", runtime=planned.name)
            self._unopened[planned.name] = f"{type(error).__name__}: {error}"
            return None
        except asyncio.CancelledError:  # whoever waits for it has gone, and nobody else knows of it
            await runtime.aclose()
            raise
        untaken.push_async_callback(runtime.aclose)
        return runtime

    async def _take_in(self, planned: PlannedRuntime, runtime: Runtime) -> None:
        if runtime.id in self._opened:
            await self._let_go(planned, runtime, f"it is the same one as {self._names[runtime.id]!r}")
            return
        self._names = {**self._names, runtime.id: planned.name}
        del self._unopened[planned.name]
        places = {one.name: place for place, one in enumerate(self._planned)}
        opened = {**self._opened, runtime.id: runtime}
        self._opened = dict(sorted(opened.items(), key=lambda item: places[self._names[item[0]]]))
        log.info("a runtime is open", runtime=planned.name, id=runtime.id)

    async def _let_go(self, planned: PlannedRuntime, runtime: Runtime, why: str) -> None:
        await runtime.aclose()
        if self._unopened.get(planned.name) != why:
            log.warning("a runtime cannot be opened; its pods are unreachable", runtime=planned.name, error=why)
        self._unopened[planned.name] = why

    async def aclose(self) -> None:
        """Let go of all; workloads run on."""
        for runtime in self._opened.values():
            await runtime.aclose()
        self._opened = {}
