"""What a runtime's tests bring, and how the rules wait for it."""

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from neuropod.ids import PodId
from neuropod.runtimes.contract import (
    LogLine,
    LogQuery,
    Phase,
    Runtime,
    Seen,
    Workload,
    WorkloadId,
)

SECRET = "conformance-secret-5d41402abc4b2a76"
PORT = 8888


class Kit(ABC):
    """What a runtime's tests bring. Every workload is of the incarnation and pod given, a new pod by default.

    Workloads are ready as soon as their process runs, those that serve (or must be deaf first) when they answer. Each has SECRET in its
    environment under the name THE_SECRET. At the end of a test the kit's fixture removes whatever stands.
    """

    runtime: Runtime
    patience_seconds = 60.0
    held_mib = 4  # how much input at most is on its way to a command that takes none

    @abstractmethod
    def runs(self, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        """Return one that runs until it gets SIGTERM, which ends it."""

    @abstractmethod
    def deaf(self) -> Workload:
        """Return one that ignores SIGTERM."""

    @abstractmethod
    def exits(self, code: int, pod: PodId | None = None) -> Workload:
        """Return one that ends by itself at once."""

    @abstractmethod
    def prints(self, lines: int) -> Workload:
        """Return one that prints `line 0`, `line 1`, … as fast as it can, then ends with code 0."""

    @abstractmethod
    def talks(self, lines: int) -> Workload:
        """Return one that prints `line 0`, `line 1`, … with pauses of about 0.2 s, then ends with code 0."""

    @abstractmethod
    def serves(self, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        """Return one that is ready when its PORT speaks HTTP: it answers a GET with 200 and `str()` of its id."""

    @abstractmethod
    def slow(self) -> Workload:
        """Return one that is ready about a second after its process runs, and then runs until SIGTERM."""

    @abstractmethod
    def polite(self) -> Workload:
        """Return one that goes on for half a second or more after SIGTERM, then ends with code 0."""

    @abstractmethod
    def crashes(self) -> Workload:
        """Return one that ends at once by signal 11, which nobody else sent."""

    @abstractmethod
    def never_ready(self) -> Workload:
        """Return one whose process runs and whose ready port stays shut, until SIGTERM."""

    @abstractmethod
    def of_another_installation(self) -> AbstractAsyncContextManager["Kit"]:
        """Open a kit of another installation in the same world."""

    @abstractmethod
    def reopened(self) -> AbstractAsyncContextManager["Kit"]:
        """Close this runtime and open another on the same world, as the next server does; the old one is done with."""

    @abstractmethod
    def another_server(self) -> AbstractAsyncContextManager["Kit"]:
        """Open a second runtime of the same installation on the same world, beside this one."""


async def until(kit: Kit, workload_id: WorkloadId, *phases: Phase) -> Seen:
    """Wait until the workload is seen in one of the phases."""
    deadline = time.monotonic() + kit.patience_seconds
    seen = None
    while time.monotonic() < deadline:
        seen = await kit.runtime.observe(workload_id)
        if seen is not None and seen.id == workload_id and seen.phase in phases:
            return seen
        await asyncio.sleep(0.02)
    raise AssertionError(f"waited {kit.patience_seconds:.0f} s for {phases}, last seen: {seen}")


async def started(kit: Kit, workload: Workload) -> Seen:
    await kit.runtime.ensure(workload)
    return await until(kit, workload.id, Phase.READY)


async def ended(kit: Kit, workload: Workload) -> Seen:
    await kit.runtime.ensure(workload)
    return await until(kit, workload.id, Phase.EXITED)


async def lines_of(kit: Kit, workload_id: WorkloadId, query: LogQuery) -> list[LogLine]:
    async with asyncio.timeout(kit.patience_seconds):
        return [line async for line in kit.runtime.logs(workload_id, query)]


async def get(kit: Kit, workload_id: WorkloadId, port: int = PORT) -> bytes:
    """Ask for `/` through the runtime's own connection and return the whole answer."""
    connection = await kit.runtime.connect(workload_id, port)
    reader = asyncio.StreamReader()
    transport = await connection.attach(asyncio.StreamReaderProtocol(reader))
    transport.write(b"GET / HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n")
    async with asyncio.timeout(kit.patience_seconds):
        answer = await reader.read()
    transport.close()
    return answer


def sibling(workload: Workload, incarnation: int) -> WorkloadId:
    return WorkloadId(workload.id.installation, workload.id.pod, incarnation)
