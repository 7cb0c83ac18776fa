"""A Pod's port is asked until it answers well, on both event loops that servers run on."""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import uvloop

from neuropod.kit.clock import SystemClock
from neuropod.kit.tasks import FailureHook, TaskSet
from neuropod.runtimes.contract import Connection, WorkloadId
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.probing import Probes
from neuropod.runtimes.kubernetes.reaching import dial
from neuropod.runtimes.kubernetes.shapes import PodShape


class Noted:
    """The API, as far as a probe writes to it."""

    def __init__(self) -> None:
        self.patch: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def merge_patch(self, *arguments: Any) -> None:
        self.patch.set_result(arguments[-1])


def running(ready_when: str) -> PodShape:
    marks = {names.INSTALLATION: "ins_1", names.POD: "pod_1", names.INCARNATION: "1"}
    told = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": marks,
                     "annotations": {names.READY_WHEN: ready_when}},
        "status": {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": [
            {"name": names.CONTAINER, "state": {"running": {"startedAt": "2026-11-28T12:00:00Z"}}}]},
    }  # fmt: skip
    return msgspec.convert(told, PodShape, strict=False)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_it_is_noted_when_the_port_answers(run: Any, kind: str):
    asked: list[bytes] = []
    open_ones: set[Any] = set()
    came = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(asyncio.current_task())
        came.set()
        if line := await reader.readline():
            asked.append(line)
            status = b"503 Not yet" if len(asked) == 1 else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n")
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def connect(_: WorkloadId, number: int, *, probing: bool) -> Connection:
            return await dial("127.0.0.1", number)

        noted, tasks = Noted(), TaskSet(FailureHook())
        probes = Probes(noted, connect, SystemClock(), tasks, rest_seconds=0.0)  # type: ignore[arg-type]
        probes.pod_changed(("n", "p"), None, running(f"{kind}:{port}"))
        async with asyncio.timeout(20):
            patch = await noted.patch
            await came.wait()  # a connection is there for who makes it before it is there for the server
        await tasks.aclose()
        server.close()
        await asyncio.wait(open_ones)
        assert patch["metadata"]["uid"] == "u"
        assert names.READY_AT in patch["metadata"]["annotations"]

    run(scenario())

    assert asked == ([b"GET / HTTP/1.1\r\n"] * 2 if kind == "http" else [])
