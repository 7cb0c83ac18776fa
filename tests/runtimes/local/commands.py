"""Running a command in a pod of the local runtime to its end, for tests."""

import asyncio

from neuropod.runtimes.contract import Phase, Workload
from neuropod.runtimes.execution import ExecRequest, TerminalSize
from neuropod.runtimes.local.runtime import LocalRuntime
from runtimes.local.pods import until

SIZE = TerminalSize(rows=24, columns=200)


async def output_of(
    runtime: LocalRuntime, workload: Workload, *command: str, terminal: bool = False, at_most: int = 5
) -> str:
    """Return what it writes, with its errors; starts the workload if it does not stand yet."""
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)
    request = ExecRequest(command, at_most, SIZE if terminal else None, {"TERM": "dumb"})
    execution = await runtime.exec(workload.id, request)
    written = b""
    try:
        async with asyncio.timeout(60):
            while (chunk := await execution.read()) is not None:
                written += chunk.data
            await execution.wait()
    finally:
        await execution.aclose()
    return written.decode()
