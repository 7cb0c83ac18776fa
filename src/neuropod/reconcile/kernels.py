"""When a pod's Jupyter worked last: its kernels and terminals, asked over the runtime's own connection.

Called by the limits loop with no session open. The pod may be hostile: it has little time, its answer is bounded, and
nothing that it says is believed to be later than now. What it can gain by lying is to run on, which a busy loop gains
as well.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

from neuropod.kit.secrets import Secret
from neuropod.runtimes.contract import NotReadyError, Runtime, RuntimeUnavailableError, WorkloadId

ASK_SECONDS = 5.0
_MOST_BYTES = 256 * 1024
_PORT = 8888
_BUSY = frozenset({"busy", "starting"})


async def worked_at(runtime: Runtime, workload_id: WorkloadId, token: Secret | None, now: datetime) -> datetime | None:
    """Return when a kernel or terminal worked last, `now` while a kernel does; None when Jupyter does not tell.

    Raises nothing: a Jupyter that is not there, hangs or answers nonsense tells nothing.
    """
    latest: datetime | None = None
    # Our own question is no activity.
    for path in ("/api/kernels", "/api/terminals"):
        with suppress(OSError, TimeoutError, ValueError, RecursionError, NotReadyError, RuntimeUnavailableError):
            async with asyncio.timeout(ASK_SECONDS):
                body = await _get(runtime, workload_id, f"{path}?no_track_activity=1", token)
            for at in activities(json.loads(body), now):
                latest = at if latest is None or at > latest else latest
    return latest


def activities(answer: Any, now: datetime) -> Iterator[datetime]:
    """Yield the times of what Jupyter's list of kernels or terminals says, none of them after `now`. Pure."""
    for one in answer if isinstance(answer, list) else ():
        if not isinstance(one, dict):
            continue
        if one.get("execution_state") in _BUSY:
            yield now
        at = one.get("last_activity")
        if isinstance(at, str):
            with suppress(ValueError):
                told = datetime.fromisoformat(at)
                if told.tzinfo is not None:
                    yield min(told, now)


async def _get(runtime: Runtime, workload_id: WorkloadId, path: str, token: Secret | None) -> bytes:
    """Return the body of an answer with status 200. HTTP/1.0: its end is the connection's, and nothing is chunked."""
    reader = asyncio.StreamReader(limit=_MOST_BYTES)
    connection = await runtime.connect(workload_id, _PORT)
    transport = await connection.attach(asyncio.StreamReaderProtocol(reader))
    try:
        authorization = "" if token is None else f"Authorization: token {token.reveal()}\r\n"
        head = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n{authorization}\r\n"
        transport.write(head.encode("latin-1"))
        answer = bytearray()
        while data := await reader.read(64 * 1024):
            answer += data
            if len(answer) > _MOST_BYTES:
                raise ValueError("the answer is too long")
    finally:
        transport.abort()
    headers, separator, body = bytes(answer).partition(b"\r\n\r\n")
    if not separator or headers.split(b" ", 2)[1:2] != [b"200"]:
        raise ValueError("not an answer of Jupyter's")
    return body
