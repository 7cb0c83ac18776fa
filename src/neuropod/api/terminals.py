"""One command in a pod over one WebSocket: streams in both directions, and an end when the right to be here ends.

Called by routes.execs. The protocol is wire.exec's. Nothing is kept but what is under way: a side that is not read from
stops the other one, through the kernel's buffers, whatever passes. No session of the database is open meanwhile; every
two seconds one is opened to ask whether the caller may still be here, in this very run (SECURITY 24).
"""

import asyncio
from contextlib import suppress
from typing import Any, cast

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.websockets import WebSocket, WebSocketDisconnect

from neuropod.api.deps import WebSocketCaller
from neuropod.kit.errors import (
    ConflictError,
    InvalidInputError,
    NeuropodError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from neuropod.pods.entering import Entrance
from neuropod.runtimes.contract import NotReadyError, NotSupportedError, RuntimeUnavailableError
from neuropod.runtimes.execution import Exec, ExecRequest, Execution, OutputStream, TerminalSize, TooManyExecutionsError
from neuropod.wire import exec as wire

_START_SECONDS = 10.0  # for the first message
_ASK_AGAIN_SECONDS = 2.0
_GOODBYE_SECONDS = 1.0  # for one who does not read any more
_CHANNELS = {OutputStream.STDOUT: bytes([wire.STDOUT]), OutputStream.STDERR: bytes([wire.STDERR])}
_POLICY_VIOLATION = 1008
_NORMAL = 1000
_KILLED = 137
_log = structlog.get_logger(__name__)


class Terminal:
    """A WebSocket that was accepted, until its end."""

    def __init__(self, websocket: WebSocket, caller: WebSocketCaller, pod: str) -> None:
        self._websocket = websocket
        self._caller = caller
        self._pod = pod
        self._moved_at = caller.parts.clock.monotonic()

    async def serve(self) -> None:
        """Run what the first message asks for, to its end."""
        try:
            end, close = await self._run(), _NORMAL
        except WebSocketDisconnect:
            return
        except _NotAllowedError as refusal:
            end, close = wire.ExecEnd(code=refusal.error.code, message=refusal.error.message), _POLICY_VIOLATION
        except NeuropodError as error:
            end, close = wire.ExecEnd(code=error.code, message=error.message), _NORMAL
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._websocket.send_bytes(bytes([wire.STATUS]) + end.model_dump_json().encode())
                await self._websocket.close(close)

    async def _run(self) -> wire.ExecEnd:
        start = await self._start()
        async with self._caller.writing() as session:
            entrance = await self._caller.parts.pods.exec_pod(
                session, self._pod, actor=self._caller.actor, terminal=start.terminal is not None
            )
        execution = await self._begin(entrance, start)
        carrying = {
            asyncio.create_task(self._carry_output(execution), name="output of a command"),
            asyncio.create_task(self._carry_input(execution), name="input of a command"),
            asyncio.create_task(self._watch(entrance), name="right to a command"),
        }
        try:
            done, _ = await asyncio.wait(carrying, return_when=asyncio.FIRST_COMPLETED)
            code = next(task.result() for task in done)
            if code == _KILLED:
                await self._require_right(entrance)  # else it was not the command's own end, and that is said
            return wire.ExecEnd(exit_code=code)
        finally:
            for task in carrying:
                task.cancel()
            await asyncio.gather(*carrying, return_exceptions=True)
            await execution.aclose()

    async def _start(self) -> wire.ExecStart:
        try:
            async with asyncio.timeout(_START_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise InvalidInputError("the first message, which says what to run, did not come") from None
        try:
            return wire.ExecStart.model_validate_json(message.get("text") or "")
        except ValidationError as error:
            raise InvalidInputError(_sentence(error)) from None

    async def _begin(self, entrance: Entrance, start: wire.ExecStart) -> Execution:
        terminal, limits = start.terminal, self._caller.parts.settings.limits
        request = ExecRequest(
            command=tuple(start.command),
            at_most=limits.execs_per_pod,
            terminal=None if terminal is None else TerminalSize(terminal.rows, terminal.columns),
            env={} if terminal is None else {"TERM": terminal.term},
        )
        try:
            return await cast("Exec", entrance.runtime).exec(entrance.workload_id, request)
        except TooManyExecutionsError:
            sentence = f"{limits.execs_per_pod} commands and terminals run in this pod already: end one first"
            raise ConflictError(sentence, code="too_many_execs") from None
        except NotReadyError as error:
            raise ConflictError(f"nothing can be run in this pod now: {error}", code="not_running") from None
        except NotSupportedError as error:
            raise UnsupportedError(f"no terminal can be opened in this pod: {error}") from None
        except RuntimeUnavailableError:
            raise UnavailableError("the machine or cluster that runs this pod does not answer") from None

    async def _carry_output(self, execution: Execution) -> int:
        while (chunk := await execution.read()) is not None:
            await self._websocket.send_bytes(_CHANNELS[chunk.stream] + chunk.data)
            self._moved()
        return await execution.wait()

    async def _carry_input(self, execution: Execution) -> int:
        """Pass on what comes, until the client goes (WebSocketDisconnect)."""
        taken = True
        while True:
            message = await self._receive()
            data: bytes = message.get("bytes") or b""
            self._moved()
            channel, content = data[:1], data[1:]
            if channel == bytes([wire.STDIN]):
                if taken and content:
                    try:
                        await execution.write(content)
                    except BrokenPipeError:
                        taken = False  # it reads no more, as `head` does; that is no error
            elif data == bytes([wire.CLOSE, wire.STDIN]):
                await execution.end_input()
            elif channel == bytes([wire.RESIZE]):
                try:
                    size = wire.ExecSize.model_validate_json(content)
                except ValidationError as error:
                    raise InvalidInputError(_sentence(error)) from None
                execution.resize(TerminalSize(size.rows, size.columns))
            else:
                raise InvalidInputError("a message begins with a byte that names its channel: 0, 4 or 255")

    async def _receive(self) -> dict[str, Any]:
        message = dict(await self._websocket.receive())
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        return message

    def _moved(self) -> None:
        self._moved_at = self._caller.parts.clock.monotonic()

    async def _watch(self, entrance: Entrance) -> int:
        """Look whether the caller may still be here, and tell that the pod is used; raises at the end of that right."""
        parts = self._caller.parts
        while True:
            if parts.clock.monotonic() - self._moved_at < parts.settings.limits.quiet_stream_seconds:
                parts.note_use(entrance.pod_id)
            await asyncio.sleep(_ASK_AGAIN_SECONDS)  # of real time, as the promise is
            await self._require_right(entrance)

    async def _require_right(self, entrance: Entrance) -> None:
        try:
            caller = await self._caller.again()
            if caller is None:
                raise UnauthenticatedError("the session or key that this came with counts no more")
            async with caller.reading() as session:
                now = await caller.parts.pods.entrance(session, entrance.pod_id, actor=caller.actor)
        except NeuropodError as error:
            raise _NotAllowedError(error) from None
        except SQLAlchemyError as error:
            # As with the gateway's streams: nobody new is let in, and what is open stays.
            _log.warning("it cannot be asked whether a terminal may stay open", error=str(error))
            return
        if now.workload_id != entrance.workload_id:
            raise _NotAllowedError(ConflictError("the run that this was in has ended", code="not_running"))


class _NotAllowedError(Exception):
    """The right to be here has ended."""

    def __init__(self, error: NeuropodError) -> None:
        super().__init__(error.message)
        self.error = error


def _sentence(error: ValidationError) -> str:
    wrong = (
        f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}".removeprefix(": ")
        for one in error.errors(include_input=False, include_url=False)
    )
    return "; ".join(wrong)
