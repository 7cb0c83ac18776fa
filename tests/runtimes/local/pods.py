"""What the tests of the local runtime share: workloads, waiting for a phase, a runtime that leaves nothing behind."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from neuropod.ids import InstallationId, PodId, UserId, VolumeId
from neuropod.kit.identifiers import new_id
from neuropod.kit.secrets import Secret
from neuropod.runtimes.contract import (
    LogQuery,
    Phase,
    Readiness,
    Recipe,
    Resources,
    Seen,
    VolumeMount,
    Workload,
    WorkloadId,
)
from neuropod.runtimes.local.devices import MachineGpus
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.settings import LimitSettings, LocalSettings
from neuropod.words import ReadyWhen, Reason
from support.programs import lay_ready

MIB = 1 << 20
MODE = "root" if os.geteuid() == 0 else "user"  # what this user can have
# Of this process alone, since a runtime sweeps what its installation left on the machine; a child is told its parent's.
INSTALLATION = os.environ.get("NEUROPOD_TEST_INSTALLATION") or f"inst_{secrets.token_hex(6)}"


def a_workload(
    *command: str,
    pod: str | None = None,
    incarnation: int = 1,
    installation: str = INSTALLATION,
    port: int | None = None,
    owner: str = "usr_1",
    volume: str | None = None,
    env: dict[str, str] | None = None,
    memory_bytes: int = 256 * MIB,
    disk_bytes: int = 64 * MIB,
    packages: tuple[str, ...] = (),
    pod_name: str = "lab",
) -> Workload:
    """Return a workload; ready as soon as its process runs unless it has a port."""
    return Workload(
        id=WorkloadId(InstallationId(installation), PodId(pod or new_id("pod")), incarnation),
        pod_name=pod_name,
        owner=UserId(owner),
        owner_hash="abcdefgh",
        image=None,
        recipe=Recipe(packages, command, shared_cache=True),
        command=None,
        env={name: Secret(value) for name, value in (env or {}).items()},
        resources=Resources(1, memory_bytes, disk_bytes),
        volume=None if volume is None else VolumeMount(VolumeId(volume), "workspace", 64 * MIB),
        ports=() if port is None else (port,),
        readiness=Readiness(ReadyWhen.PROCESS) if port is None else Readiness(ReadyWhen.PORT, port),
    )


def python(code: str, **facts: object) -> Workload:
    """Return a workload that runs a Python program."""
    return a_workload("python3", "-c", code, **facts)  # type: ignore[arg-type]


async def until(runtime: LocalRuntime, workload_id: WorkloadId, *phases: Phase, seconds: float = 30) -> Seen:
    """Wait until the workload is seen in one of the phases."""
    deadline = time.monotonic() + seconds
    seen = None
    while time.monotonic() < deadline:
        seen = await runtime.observe(workload_id)
        if seen is not None and seen.phase in phases:
            return seen
        await asyncio.sleep(0.01)
    directory = runtime._directories.state_dir(workload_id.pod, workload_id.incarnation)
    errors = (directory / "shim.err").read_text() if directory.is_dir() else "(no state directory)"
    raise AssertionError(f"still {seen} after {seconds} s\n{errors}")


async def run_to_end(runtime: LocalRuntime, workload: Workload, *, seconds: float = 30) -> Seen:
    """Start the workload and wait for its end."""
    await runtime.ensure(workload)
    return await until(runtime, workload.id, Phase.EXITED, seconds=seconds)


async def output_of(runtime: LocalRuntime, workload: Workload) -> list[str]:
    """Return the lines it printed so far."""
    return [line.text async for line in runtime.logs(workload.id, LogQuery())]


async def printed(runtime: LocalRuntime, workload: Workload) -> list[str]:
    """Start the workload, wait for its end and return what it printed."""
    seen = await run_to_end(runtime, workload)
    lines = await output_of(runtime, workload)
    assert seen.exit_code == 0, (seen, lines)
    return lines


async def end_everything(runtime: LocalRuntime) -> None:
    """Kill and remove every workload, whatever a test did to it."""
    for seen in await runtime.list_seen():
        await runtime.kill(seen.id, reason=Reason.REQUESTED)
        await until(runtime, seen.id, Phase.EXITED)
        await runtime.remove(seen.id)
        await runtime.forget(seen.id)


@asynccontextmanager
async def opened(
    data_dir: Path,
    *,
    mode: str = MODE,
    installation: str = INSTALLATION,
    limits: LimitSettings | None = None,
    keep: bool = False,
    gpus: MachineGpus | None = None,
    **settings: object,
) -> AsyncIterator[LocalRuntime]:
    """Open a runtime on a data directory; `keep` leaves its pods running, as a server that ends does."""
    lay_ready(data_dir)
    runtime = LocalRuntime(
        InstallationId(installation),
        LocalSettings(mode=mode, disk_reserve_gb=0, **settings),
        limits or LimitSettings(),
        data_dir,
        gpus,
    )
    await runtime.open()
    try:
        yield runtime
    finally:
        try:
            if not keep:
                await end_everything(runtime)
        finally:
            await runtime.aclose()
