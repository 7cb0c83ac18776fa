"""Logs of incarnations: from their node while the Pod is there, from files of ours afterwards.

Made by `cluster`. A log is recorded before the Pod is removed, and from the moment on in which a deletion shows, since
a node drops the log of what is deleted with the end of its process. Files lie in the data directory of the server that
recorded them; several servers that share a database need a shared folder for them, else each knows those that it
recorded itself (docs/decisions). Positions are counted from the first byte that the node still has.
"""

import asyncio
import re
import shutil
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import structlog

from neuropod.ids import PodId
from neuropod.kit.clock import Clock
from neuropod.kit.tasks import TaskSet
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ForbiddenError, KubeError, KubeUnavailableError
from neuropod.kube.informer import Key
from neuropod.kube.kinds import PODS
from neuropod.kube.lines import LineStream
from neuropod.runtimes.contract import LogLine, LogQuery, RuntimeUnavailableError, WorkloadId
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.seen import finished, is_ended, started, state_of
from neuropod.runtimes.kubernetes.shapes import PodShape
from neuropod.runtimes.kubernetes.standing import Standing
from neuropod.runtimes.kubernetes.watching import ClusterWatch
from neuropod.runtimes.logfiles import LogReader, LogWriter, prune, trim
from neuropod.settings import LimitSettings

log = structlog.get_logger(__name__)

_COMPLETE = "complete"
_LOST = b"[neuropod: the log is lost: the pod was deleted from the cluster while no server followed it]\n"
# All that a kubelet answers, as if it were the log, whose container is just gone (kuberuntime's GetContainerLogs).
_NONE = re.compile(rb"unable to retrieve container logs for [a-z0-9.-]+://[0-9a-f]+")
_LOOK_AGAIN_SECONDS = 2.0  # besides the watch's changes
_LOOKS = 3  # so often a log is read that cannot be read to its end, before that is told
_PIECE_BYTES = 64 * 1024  # so much is written at once, and most logs as a whole
_END_SECONDS = 5.0  # a recording that goes on may take so long after the end of the process
_GIVE_UP = timedelta(seconds=120)  # after the end: a node that does not give the log by then never will


class ClusterLogs:
    """The logs of one cluster's pods."""

    def __init__(
        self,
        client: KubeClient,
        standing: Standing,
        watch: ClusterWatch,
        directory: Path,
        limits: LimitSettings,
        clock: Clock,
        tasks: TaskSet,
    ) -> None:
        self._client = client
        self._standing = standing
        self._watch = watch
        self._directory = directory
        self._limits = limits
        self._clock = clock
        self._tasks = tasks
        self._recordings: dict[str, asyncio.Task[None]] = {}  # by UID
        self._changed: set[asyncio.Event] = set()

    def _folder(self, workload_id: WorkloadId) -> Path:
        return self._directory / workload_id.pod / str(workload_id.incarnation)

    # ---- reading

    async def lines(self, workload_id: WorkloadId, query: LogQuery) -> AsyncIterator[LogLine]:
        """See the contract. A tail reads all there is: positions are counted, nobody tells them.

        Raises RuntimeUnavailableError where not all that there is can be read, also after some of it.
        """
        since = -1 if query.since is None else query.since
        if query.tail is not None:
            last: deque[LogLine] = deque(maxlen=query.tail)
            async with aclosing(self._every(workload_id, follow=False)) as lines:
                async for line in lines:
                    if line.position > since:
                        last.append(line)
                    since = max(since, line.position) if query.tail == 0 else since
            for line in last:
                since = line.position
                yield line
            if not query.follow:
                return
        async with aclosing(self._every(workload_id, follow=query.follow)) as lines:
            async for line in lines:
                if line.position > since:
                    yield line

    async def _every(self, workload_id: WorkloadId, *, follow: bool) -> AsyncGenerator[LogLine]:
        """Yield all lines from the first on. Where that cannot be done now, look again; then raise."""
        position, vain, problem = 0, 0, ""
        while not await asyncio.to_thread(self._is_kept, workload_id):
            with self._change() as changed:
                pod = await self._standing.find_exact(workload_id)
                if pod is None:
                    break  # by now it may be kept
                problem, last = "", is_ended(pod) or not follow
                try:
                    async with aclosing(self._from_node(pod, position, follow=not last)) as lines:
                        async for line in lines:
                            position = line.position + 1
                            yield line
                except _ShortError as error:
                    problem = str(error)
                    vain += last
                    if pod.metadata.uid in self._recordings:  # its node drops the log, we have all of it soon
                        await self._recorded(pod.metadata.uid)
                        continue
                if last and (not problem or vain >= _LOOKS):
                    break
                await _wait(changed)
        if problem and not await asyncio.to_thread(self._is_kept, workload_id):
            raise RuntimeUnavailableError(f"its log cannot be read to its end: {problem}")
        for line in await asyncio.to_thread(self._kept_lines, workload_id):
            if line.position >= position:
                yield line

    async def _from_node(self, pod: PodShape, start: int, *, follow: bool) -> AsyncGenerator[LogLine]:
        """Yield what its node gives of the Pod's log, from a position on. Raises _ShortError where that is not all."""
        if started(pod) is None:
            return
        stream = await self._open(pod, follow=follow)
        if stream is None:
            raise _ShortError("its node gives no log of it")
        position = 0
        try:
            while (lines := await stream.read()) is not None:
                for line in lines:
                    if position >= start:
                        yield LogLine(position, line.decode("utf-8", "replace"))
                    position += len(line) + 1
        except KubeUnavailableError as error:
            log.info("a log's stream was cut", error=str(error))
            raise _ShortError(str(error)) from error
        finally:
            stream.close()

    @contextmanager
    def _change(self) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._changed.add(event)
        try:
            yield event
        finally:
            self._changed.discard(event)

    async def _open(self, pod: PodShape, *, follow: bool) -> LineStream | None:
        """Open the Pod's log; None where its node has none of it. Raises RuntimeUnavailableError.

        That we may not read it now (somebody took our rights there, which are put back) is no word of the node's.
        """
        path = PODS.path(pod.metadata.namespace, pod.metadata.name, "log")
        params = {"container": names.CONTAINER, "follow": str(follow).lower()}
        try:
            stream = await self._client.open_lines(path, params)
        except (KubeUnavailableError, ForbiddenError) as error:
            raise RuntimeUnavailableError(str(error)) from error
        except KubeError as error:
            log.info("a node gives no log", pod=pod.metadata.name, error=error.message)
            return None
        # The path names the place: by now another may stand there, of which the watch has told since it runs.
        now = self._watch.at((pod.metadata.namespace, pod.metadata.name)) if self._watch.fresh else None
        now = now or await self._standing.find(_id_of(pod))
        if now is None or now.metadata.uid != pod.metadata.uid:
            stream.close()
            return None
        return stream

    def _is_kept(self, workload_id: WorkloadId) -> bool:
        return (self._folder(workload_id) / _COMPLETE).exists()

    def _kept_lines(self, workload_id: WorkloadId) -> list[LogLine]:
        if not self._is_kept(workload_id):
            return []
        reader = LogReader(self._folder(workload_id))
        try:
            return [LogLine(line.position, line.text) for line in reader.lines(ended=True)]
        finally:
            reader.close()

    # ---- recording

    def pod_changed(self, key: Key, before: PodShape | None, now: PodShape | None) -> None:  # noqa: ARG002
        """See ClusterWatch.on_pod: followers look again, and what is being deleted is followed to its end."""
        for event in self._changed:
            event.set()
        if now is None or now.metadata.deletion_timestamp is None or is_ended(now):
            return
        if state_of(now).running is not None and now.metadata.uid not in self._recordings:
            self._begin(now)

    async def follow_to_the_end(self, pod: PodShape) -> None:
        """Record the Pod's log from now on, whatever becomes of it; returns once it is being read."""
        if pod.metadata.uid in self._recordings or await asyncio.to_thread(self._is_kept, _id_of(pod)):
            return
        reading = asyncio.Event()
        task = self._begin(pod, reading)
        waiting = asyncio.ensure_future(reading.wait())
        try:
            await asyncio.wait({task, waiting}, timeout=_END_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    async def record(self, pod: PodShape) -> None:
        """Keep the log of a Pod that has ended; may be repeated. Raises RuntimeUnavailableError: try again later."""
        workload_id = _id_of(pod)
        if pod.metadata.uid in self._recordings:
            await self._recorded(pod.metadata.uid)
        if await asyncio.to_thread(self._is_kept, workload_id):
            return
        try:
            stream = None if started(pod) is None else await self._open(pod, follow=False)
            lost = started(pod) is not None and stream is None
            await self._write(workload_id, stream, instead=_LOST if lost else b"")
        except (RuntimeUnavailableError, KubeUnavailableError) as error:
            ended_at = finished(pod)
            if ended_at is None or self._clock.now() - ended_at < _GIVE_UP:
                raise RuntimeUnavailableError(f"its log cannot be read yet: {error}") from error
            log.warning("a log is lost: its node does not give it", pod=pod.metadata.name, error=str(error))
            await self._write(workload_id, None, instead=_LOST)

    def _begin(self, pod: PodShape, reading: asyncio.Event | None = None) -> asyncio.Task[None]:
        uid = pod.metadata.uid
        task = self._tasks.start(self._follow(pod, reading), name=f"log of {pod.metadata.name}")
        self._recordings[uid] = task
        task.add_done_callback(lambda _: self._recordings.pop(uid, None))
        return task

    async def _follow(self, pod: PodShape, reading: asyncio.Event | None) -> None:
        try:
            stream = await self._open(pod, follow=True)
            if reading is not None:
                reading.set()
            if stream is not None:
                await self._write(_id_of(pod), stream)
        except (RuntimeUnavailableError, KubeUnavailableError, OSError) as error:
            log.warning("a log could not be followed to its end", pod=pod.metadata.name, error=str(error))

    async def _recorded(self, uid: str) -> None:
        task = self._recordings.get(uid)
        if task is not None:
            await asyncio.wait({task}, timeout=_END_SECONDS)

    async def _write(self, workload_id: WorkloadId, stream: LineStream | None, *, instead: bytes = b"") -> None:
        """Write a whole log anew, or a line that says why there is none; it counts once it is complete."""
        recording = _Recording(self._folder(workload_id))
        piece = bytearray(instead)
        try:
            async with aclosing(given(stream)) as batches:
                async for lines in batches:
                    piece += b"".join(line + b"\n" for line in lines)
                    if len(piece) >= _PIECE_BYTES:
                        await asyncio.to_thread(recording.add, bytes(piece))
                        piece.clear()
            await asyncio.to_thread(self._complete, recording, bytes(piece))
        finally:
            recording.close()
            if stream is not None:
                stream.close()

    def _complete(self, recording: "_Recording", rest: bytes) -> None:
        recording.add(rest)
        recording.close()
        folder = recording.folder
        trim(folder, self._limits.log_bytes)
        (folder / _COMPLETE).touch(mode=0o600)
        for old in prune(folder.parent, self._limits.log_incarnations):
            shutil.rmtree(old, ignore_errors=True)

    async def forget(self, pod: PodId) -> None:
        """Drop the pod's logs."""
        await asyncio.to_thread(shutil.rmtree, self._directory / pod, ignore_errors=True)


class _ShortError(Exception):
    """A log could not be read to its end; the sentence says why."""


async def _wait(changed: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
            await changed.wait()


class Batches(Protocol):
    """The part of LineStream that is read here."""

    async def read(self) -> list[bytes] | None:
        """Return the next lines; None at the end."""
        ...


async def given(stream: Batches | None) -> AsyncGenerator[list[bytes]]:
    """Yield the lines that a node gives of a log; where all it says is that it has none, that the log is lost."""
    lines = None if stream is None else await stream.read()
    if stream is not None and lines is not None and len(lines) == 1 and _NONE.fullmatch(lines[0]):
        more = await stream.read()
        lines = [_LOST.rstrip(b"\n")] if more is None else [*lines, *more]
    while stream is not None and lines is not None:
        yield lines
        lines = await stream.read()


class _Recording:
    """A log that is written anew, from what is added first on. Closing may be repeated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: LogWriter | None = None

    def add(self, data: bytes) -> None:
        if self._writer is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._writer = LogWriter(self.folder)
        self._writer.write(data)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _id_of(pod: PodShape) -> WorkloadId:
    workload_id = names.workload_of(pod.metadata.labels)
    if workload_id is None:
        raise ValueError(f"{pod.metadata.name} is none of ours")
    return workload_id
