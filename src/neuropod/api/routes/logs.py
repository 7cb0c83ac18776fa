"""`/api/v1/pods/{pod}/logs`: what a pod prints, as text, or followed as Server-Sent Events (the shape: wire.logs).

A follower holds no database session. Lines come through a short queue: when the reader is slow the runtime's own buffer
holds them, so a follower costs little memory whatever a pod prints.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse

from neuropod.api.deps import Caller, Reader
from neuropod.ids import PodId
from neuropod.kit.errors import FieldError, InvalidInputError, NotFoundError, UnavailableError
from neuropod.runtimes.contract import LogLine, LogQuery, Runtime, RuntimeUnavailableError, WorkloadId
from neuropod.wire import logs as wire
from neuropod.wire.shapes import Answer

router = APIRouter(prefix="/pods/{pod}/logs", tags=["logs"])

_QUEUE = 256  # lines
_ASK_AGAIN_SECONDS = 5  # how soon a revocation ends a follower (SECURITY 24)
_QUIET_TURNS = 3  # of that length, then a comment keeps proxies from cutting the stream
_END = None

_EVENT_STREAM = "text/event-stream"


@router.get(
    "",
    operation_id="readLogs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {}, _EVENT_STREAM: {}}, "description": "Lines."}},
)
async def read_logs(
    pod: str,
    caller: Reader,
    follow: Annotated[bool, Query(description="Go on as Server-Sent Events until the run ends.")] = False,
    tail: Annotated[int | None, Query(ge=0, le=1_000_000, description="Begin with the last so many lines.")] = None,
    since: Annotated[int | None, Query(ge=0, description="Only lines after this position.")] = None,
    incarnation: Annotated[int | None, Query(ge=1, description="Which run; default the newest.")] = None,
    last_event_id: Annotated[str | None, Header(description="`<incarnation>.<position>`: resumes a follower.")] = None,
) -> StreamingResponse:
    """Return what a run of the pod printed."""
    if last_event_id is not None:
        incarnation, since = _resumed(last_event_id)
    async with caller.reading() as session:
        view = await caller.parts.pods.show_pod(session, pod, actor=caller.actor)
        source = await caller.parts.pods.log_source(session, pod, actor=caller.actor, incarnation=incarnation)
    if source is None and incarnation is not None:
        raise NotFoundError("no such run of this pod")
    query = LogQuery(follow=follow, tail=tail, since=since)
    if follow:
        body = _followed(caller, view.id, source, query)
        return StreamingResponse(body, media_type=_EVENT_STREAM, headers={"X-Accel-Buffering": "no"})
    return StreamingResponse(await _begun(_text(source, query)), media_type="text/plain; charset=utf-8")


def _resumed(last_event_id: str) -> tuple[int, int]:
    first, _, second = last_event_id.partition(".")
    if not (first.isdecimal() and second.isdecimal()):
        sentence = "Last-Event-ID must be the id of an earlier event"
        raise InvalidInputError(sentence, fields=[FieldError("last-event-id", "type", sentence)])
    return int(first), int(second)


async def _text(source: tuple[Runtime, WorkloadId] | None, query: LogQuery) -> AsyncIterator[bytes]:
    if source is None:
        return
    runtime, workload_id = source
    async for line in runtime.logs(workload_id, query):
        yield line.text.encode() + b"\n"


async def _begun(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Read the first line before the answer begins, so that a runtime that does not answer is a 503 of its own."""
    try:
        first = await anext(lines, None)
    except RuntimeUnavailableError:
        raise UnavailableError("the machine or cluster that ran this pod does not answer") from None

    async def whole() -> AsyncIterator[bytes]:
        if first is not None:
            yield first
            async for line in lines:
                yield line

    return whole()


def _event(name: str, data: Answer, event_id: str | None = None) -> bytes:
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}event: {name}\ndata: {data.model_dump_json()}\n\n".encode()


async def _followed(
    caller: Caller, pod_id: PodId, source: tuple[Runtime, WorkloadId] | None, query: LogQuery
) -> AsyncIterator[bytes]:
    yield b": the log of a pod\n\n"
    while source is None:  # never ran: wait for its first run
        await caller.parts.clock.sleep(1)
        async with caller.reading() as session:
            source = await caller.parts.pods.log_source(session, pod_id, actor=caller.actor)
        if source is None and not await caller.may_still():
            return
        yield b":\n\n"
    runtime, workload_id = source
    queue: asyncio.Queue[LogLine | None] = asyncio.Queue(_QUEUE)
    pump = asyncio.create_task(_pump(runtime, workload_id, query, queue), name=f"log of {workload_id}")
    try:
        async for chunk in _drained(caller, pod_id, workload_id.incarnation, queue):
            yield chunk
        if pump.done() and not pump.cancelled() and pump.exception() is None:
            yield _event("end", wire.LogEnd(incarnation=workload_id.incarnation))
    finally:
        pump.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await pump


async def _pump(
    runtime: Runtime, workload_id: WorkloadId, query: LogQuery, queue: asyncio.Queue[LogLine | None]
) -> None:
    try:
        async for line in runtime.logs(workload_id, query):
            await queue.put(line)
    finally:
        await queue.put(_END)


async def _drained(
    caller: Caller, pod_id: PodId, number: int, queue: asyncio.Queue[LogLine | None]
) -> AsyncIterator[bytes]:
    """Yield what is in the queue, many lines at once where there are many, until the end or a revocation."""
    clock = caller.parts.clock
    asked, quiet = clock.monotonic(), 0
    while True:
        lines: list[LogLine | None] = []
        try:
            async with asyncio.timeout(_ASK_AGAIN_SECONDS):
                lines.append(await queue.get())
        except TimeoutError:
            quiet += 1
        while not queue.empty():
            lines.append(queue.get_nowait())
        if lines:
            quiet = 0
            yield b"".join(
                _event(
                    "line",
                    wire.LogLine(incarnation=number, position=line.position, text=line.text),
                    f"{number}.{line.position}",
                )
                for line in lines
                if line is not _END
            )
        elif quiet % _QUIET_TURNS == 0:
            yield b":\n\n"
        if lines and lines[-1] is _END:
            return
        if clock.monotonic() - asked >= _ASK_AGAIN_SECONDS:
            asked = clock.monotonic()
            if not await _may_still_see(caller, pod_id):
                return


async def _may_still_see(caller: Caller, pod_id: PodId) -> bool:
    if not await caller.may_still():
        return False
    async with caller.reading() as session:
        try:
            await caller.parts.pods.show_pod(session, pod_id, actor=caller.actor)
        except NotFoundError:
            return False
    return True
