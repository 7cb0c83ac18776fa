"""Waiting for workloads on a real cluster, by what the runtime tells of them."""

import asyncio
import time

from neuropod.runtimes.contract import LogQuery, Phase, Runtime, RuntimeUnavailableError, Seen, Workload
from neuropod.words import Reason


async def until(runtime: Runtime, workload: Workload, *phases: Phase, seconds: float = 90) -> Seen:
    """Return the first look that shows it in one of the phases."""
    end = time.monotonic() + seconds
    seen = None
    while time.monotonic() < end:
        seen = await runtime.observe(workload.id)
        if seen is not None and seen.phase in phases:
            return seen
        await asyncio.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {phases}, last seen: {seen}")


async def until_reason(runtime: Runtime, workload: Workload, reason: Reason, seconds: float = 90) -> Seen:
    """Return the first look that gives the reason."""
    end = time.monotonic() + seconds
    seen = None
    while time.monotonic() < end:
        seen = await runtime.observe(workload.id)
        if seen is not None and seen.reason is reason:
            return seen
        await asyncio.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {reason}, last seen: {seen}")


async def until_gone(runtime: Runtime, workload: Workload, seconds: float = 90) -> None:
    """Return once nothing stands in its place."""
    end = time.monotonic() + seconds
    while (seen := await runtime.observe(workload.id)) is not None:
        assert time.monotonic() < end, seen
        await asyncio.sleep(0.1)


async def until_unavailable(runtime: Runtime, workload: Workload, seconds: float = 90) -> str:
    """Return why nothing can be known of it, once that is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await runtime.observe(workload.id)
        except RuntimeUnavailableError as error:
            return str(error)
        await asyncio.sleep(0.2)
    raise AssertionError(f"still known after {seconds:.0f} s")


async def until_canary_is_over(runtime: Runtime, seconds: float = 180) -> None:
    """Return once it was found out whether policies are enforced: no Pod asks any more."""
    end = time.monotonic() + seconds
    while any("not known" in told or "being found out" in told for told in await _told_of_network(runtime)):
        assert time.monotonic() < end, f"the canary still asks after {seconds:.0f} s"
        await asyncio.sleep(0.2)


async def _told_of_network(runtime: Runtime) -> list[str]:
    return [one.message for one in (await runtime.report()).guarantees if one.name == "network"]


async def text_of(runtime: Runtime, workload: Workload) -> list[str]:
    """Return the lines of its log."""
    return [line.text async for line in runtime.logs(workload.id, LogQuery())]
