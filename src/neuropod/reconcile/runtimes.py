"""The runtimes loop: opens what could not be opened at the start, with growing waits, until all are open.

A cluster that was away when the server started is then served without a restart. Its name is written down, and the
commit nudges everybody who has to do with it. While nothing is missing the loop sleeps.
"""

import random

from neuropod.db.engine import Topic
from neuropod.db.runtimes import write_names
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.resync.store import open_pods_of, tell_of_pods
from neuropod.reconcile.driver import Turn
from neuropod.reconcile.presence import RUNTIME_IS_BACK
from neuropod.reconcile.world import World

_FIRST_WAIT_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 60.0
_NOTHING_SECONDS = 3600.0


class RuntimesLoop:
    """Implements driver.Loop."""

    name = "runtimes"
    topics = frozenset[Topic]()

    def __init__(self, world: World) -> None:
        self.wakeup = Wakeup()
        self._world = world
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._next_try: float | None = None  # by the monotonic clock; None: the start has only just tried

    async def turn(self) -> Turn:
        runtimes, clock = self._world.runtimes, self._world.clock
        if self._next_try is not None and clock.monotonic() >= self._next_try and runtimes.unopened:
            opened = await runtimes.open_missing()
            self._wait_seconds = min(self._wait_seconds * 2, _LONGEST_WAIT_SECONDS)
            self._next_try = None
            if opened:
                async with self._world.database.write() as session:
                    await write_names(session, {one: runtimes.names[one] for one in opened}, now=clock.now())
                    if self._world.database.is_sqlite:  # else the presence loop tells, which knows of other servers
                        pods = await open_pods_of(session, opened)
                        await tell_of_pods(session, pods, RUNTIME_IS_BACK, now=clock.now())
                    for topic in (Topic.RUNTIMES, Topic.PODS, Topic.ROUTES):
                        session.nudge(topic)
        report = {"open": len(runtimes), "missing": len(runtimes.unopened)}
        if not runtimes.unopened:
            return Turn(_NOTHING_SECONDS, report)
        if self._next_try is None:
            wait = self._wait_seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secret
            self._next_try = clock.monotonic() + wait
        message = "; ".join(f"{name} cannot be opened: {why}" for name, why in sorted(runtimes.unopened.items()))
        return Turn(max(self._next_try - clock.monotonic(), 0.0), report, message=message)

    async def aclose(self) -> None:
        """Nothing is under way between turns."""
