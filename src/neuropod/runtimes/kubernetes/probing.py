"""Which Pods are ready by their port: asked by the server itself, and written on the Pod for all servers, for good.

Made by `runtime`; looks at the changes of the watch. A kubelet's probe would not do: it counts 401 and 404 as failed,
where here a server that answers is ready, and it looks once a second, as long as a whole small start takes
(docs/decisions). A server that starts finds what is not ready yet in its watch and goes on.
"""

import asyncio
from contextlib import suppress
from typing import Protocol, cast

import structlog

from neuropod.kit.clock import Clock
from neuropod.kit.tasks import TaskSet
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import KubeError, KubeUnavailableError, NotFoundError
from neuropod.kube.informer import Key
from neuropod.kube.kinds import PODS
from neuropod.runtimes.contract import Connection, NotReadyError, RuntimeUnavailableError, WorkloadId
from neuropod.runtimes.kubernetes import names, seen
from neuropod.runtimes.kubernetes.shapes import PodShape
from neuropod.runtimes.readiness import ENOUGH_BYTES, REQUEST, is_good_answer, pause_seconds

log = structlog.get_logger(__name__)

_ANSWER_SECONDS = 10.0
_AGAIN_SECONDS = 1.0  # after the API server did not take the note


class Connect(Protocol):
    """See reaching.Ports.connect."""

    async def __call__(self, workload_id: WorkloadId, port: int, *, probing: bool) -> Connection: ...


class Probes:
    """The probes of one cluster's Pods, one task for each that runs and is not ready."""

    def __init__(
        self, client: KubeClient, connect: Connect, clock: Clock, tasks: TaskSet, *, rest_seconds: float
    ) -> None:
        self._client = client
        self._connect = connect
        self._clock = clock
        self._tasks = tasks
        self._rest_seconds = rest_seconds  # at least, between two looks: forwarding costs the API server something
        self._probes: dict[str, asyncio.Task[None]] = {}  # by UID

    def pod_changed(self, key: Key, before: PodShape | None, now: PodShape | None) -> None:
        """See ClusterWatch.on_pod."""
        if before is not None and (now is None or now.metadata.uid != before.metadata.uid):
            self._end(before.metadata.uid)
        if now is None:
            return
        uid = now.metadata.uid
        if not _is_asked(now):
            self._end(uid)
        elif uid not in self._probes:
            self._probes[uid] = self._tasks.start(self._probe(key, now), name=f"probe of {key[1]}")

    def _end(self, uid: str) -> None:
        task = self._probes.pop(uid, None)
        if task is not None:
            task.cancel()

    async def _probe(self, key: Key, pod: PodShape) -> None:
        workload_id = names.workload_of(pod.metadata.labels)
        kind, _, port = pod.metadata.annotations[names.READY_WHEN].partition(":")
        if workload_id is None or not port.isdigit():
            return
        began = self._clock.monotonic()
        while not await self._answers(workload_id, int(port), http=kind == "http"):
            pause = pause_seconds(self._clock.monotonic() - began)
            await self._clock.sleep(max(self._rest_seconds, pause))
        await self._note(key, pod.metadata.uid, seen.written(self._clock.now()))

    async def _answers(self, workload_id: WorkloadId, port: int, *, http: bool) -> bool:
        try:
            connection = await self._connect(workload_id, port, probing=http)
            answer = _Answer(REQUEST if http else b"")
            transport = await connection.attach(answer)
        except (NotReadyError, RuntimeUnavailableError, OSError):
            return False
        try:
            if not http:
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await answer.enough.wait()
            return is_good_answer(bytes(answer.data))
        finally:
            transport.abort()

    async def _note(self, key: Key, uid: str, at: str) -> None:
        patch = {"metadata": {"uid": uid, "annotations": {names.READY_AT: at}}}
        while True:
            try:
                await self._client.merge_patch(PODS, key[1], key[0], patch)
            except KubeUnavailableError as error:
                log.info("a Pod is ready, which cannot be written down yet", pod=key[1], error=str(error))
                await self._clock.sleep(_AGAIN_SECONDS)
            except NotFoundError:
                return
            except KubeError as error:  # another Pod of that name by now
                log.info("a Pod was ready", pod=key[1], error=str(error))
                return
            else:
                return


def _is_asked(pod: PodShape) -> bool:
    """Tell whether its port has to be asked: it runs, is not known to be ready, and is not told to end."""
    return (
        pod.metadata.annotations.get(names.READY_WHEN, "process") != "process"
        and seen.state_of(pod).running is not None
        and seen.ready(pod) is None
        and seen.stopping(pod) is None
        and bool(pod.status.pod_ip)
    )


class _Answer(asyncio.Protocol):
    """Sends the question and keeps the beginning of the answer."""

    def __init__(self, question: bytes) -> None:
        self._question = question
        self.data = bytearray()
        self.enough = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._question:
            cast("asyncio.Transport", transport).write(self._question)  # uvloop's are of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        if len(self.data) < ENOUGH_BYTES:
            self.data += data[:ENOUGH_BYTES]
        if len(self.data) >= ENOUGH_BYTES:
            self.enough.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was, no more comes
        self.enough.set()
