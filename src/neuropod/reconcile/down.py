"""Ends all workloads of this machine's runtimes without touching the wishes, for `neuropod down`.

Called when no loop runs any more (the server has closed its driver, or none runs). The workloads end with the reason
`server_down`: the next start sees them ended, counts no crash, and starts them again, also after a reboot.
"""

from collections.abc import Iterable

from neuropod.kit.clock import Clock
from neuropod.runtimes.contract import Phase, Runtime, Seen
from neuropod.words import Reason

_LOOK_SECONDS = 0.1
_KILLED_WITHIN_SECONDS = 10.0


async def end_workloads(runtimes: Iterable[Runtime], clock: Clock, *, grace_seconds: int) -> int:
    """Stop every workload, kill after the grace what still runs, and return how many were ended.

    Raises RuntimeUnavailableError, and TimeoutError when something cannot be killed.
    """
    return sum([await _end(runtime, clock, grace_seconds) for runtime in runtimes])


async def _end(runtime: Runtime, clock: Clock, grace_seconds: int) -> int:
    alive = _alive(await runtime.list_seen())
    for one in alive:
        await runtime.stop(one.id, grace_seconds=grace_seconds, reason=Reason.SERVER_DOWN)
    left = await _wait(runtime, clock, grace_seconds)
    for one in left:
        await runtime.kill(one.id, reason=Reason.SERVER_DOWN)
    if left and (still := await _wait(runtime, clock, _KILLED_WITHIN_SECONDS)):
        raise TimeoutError(f"{len(still)} workloads cannot be ended: {', '.join(str(one.id) for one in still)}")
    return len(alive)


async def _wait(runtime: Runtime, clock: Clock, seconds: float) -> list[Seen]:
    """Wait until nothing runs or the time is over; return what still runs."""
    ends = clock.monotonic() + seconds
    while (alive := _alive(await runtime.list_seen())) and clock.monotonic() < ends:
        await clock.sleep(_LOOK_SECONDS)
    return alive


def _alive(seen: Iterable[Seen]) -> list[Seen]:
    return [one for one in seen if one.phase is not Phase.EXITED]
