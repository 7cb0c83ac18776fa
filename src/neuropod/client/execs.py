"""A command or a terminal in a pod, over the API's WebSocket (wire.exec). Called by cli.

It is asyncio, since data goes both ways at once and each direction waits for its own other side.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from neuropod import __version__
from neuropod.client.connection import Connection
from neuropod.client.errors import NotNeuropodError, UnreachableError, error_of
from neuropod.client.localhost import LOOPBACKS, is_loopback
from neuropod.kit.errors import NeuropodError
from neuropod.wire import exec as wire
from neuropod.wire.problems import Problem

_OPEN_SECONDS = 30
_CLOSE_SECONDS = 2
_PING_SECONDS = 20  # keeps the way open; an answer is not waited for, since a slow reader reads no pong either
_MESSAGES = 16  # that wait to be taken, then nothing is read any more
_POLICY_VIOLATION = 1008


class CutError(NeuropodError):
    """The way to a command that runs was cut, or the right to it ended."""

    code = "cut"


class ExecStream:
    """One command that runs."""

    def __init__(self, socket_: ClientConnection) -> None:
        self._socket = socket_

    async def give(self, data: bytes) -> None:
        """Send input; returns once there is room for more."""
        await self._send(bytes([wire.STDIN]) + data)

    async def end_input(self) -> None:
        """Send the end of input."""
        await self._send(bytes([wire.CLOSE, wire.STDIN]))

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal's new size."""
        size = wire.ExecSize(rows=rows, columns=columns)
        await self._send(bytes([wire.RESIZE]) + size.model_dump_json().encode())

    async def _send(self, message: bytes) -> None:
        with suppress(ConnectionClosed):  # `output` tells it
            await self._socket.send(message)

    async def output(self) -> AsyncIterator[tuple[int, bytes] | wire.ExecEnd]:
        """Yield what the command writes, as channel and data, and its end.

        Raises CutError, and what the server says kept the command from running.
        """
        end: wire.ExecEnd | None = None
        try:
            async for message in self._socket:
                if not isinstance(message, bytes) or not message:
                    raise NotNeuropodError("something else than Neuropod's API answers on this WebSocket")
                if message[0] == wire.STATUS:
                    end = wire.ExecEnd.model_validate_json(message[1:])
                else:
                    yield message[0], message[1:]
        except ConnectionClosed:
            pass  # with another code than a good end's
        except ValidationError as error:
            raise NotNeuropodError("something else than Neuropod's API answers on this WebSocket") from error
        if end is None:
            raise CutError("the connection to the server was cut, and the command ended with it")
        if end.exit_code is None:
            if self._socket.close_code == _POLICY_VIOLATION:
                raise CutError(f"the command was ended: {end.message}")
            raise _named(end)
        yield end


def _named(end: wire.ExecEnd) -> NeuropodError:
    """Return the error that kept a command from running, as an answer to a request would."""
    statuses = {"invalid": 422, "not_running": 409, "too_many_execs": 409, "no_server": 409, "unavailable": 503}
    statuses |= {"not_found": 404, "unauthenticated": 401, "forbidden": 403, "scope_missing": 403}
    status = statuses.get(end.code or "", 400)
    problem = Problem(title="", status=status, detail=end.message, code=end.code or "", fields=[])
    return error_of(httpx.Response(status, content=problem.model_dump_json()), "")


@asynccontextmanager
async def execution(connection: Connection, pod: str, start: wire.ExecStart) -> AsyncIterator[ExecStream]:
    """Run a command in a pod; at the end of the block it is ended, if it still runs.

    Raises the errors of `kit.errors` as the server names them; UnreachableError when none answers.
    """
    url = f"{connection.url.rstrip('/')}/api/v1/pods/{quote(pod, safe='')}/exec"
    try:
        socket_ = await _open(f"ws{url.removeprefix('http')}", connection.authorization)
    except InvalidStatus as refused:
        response = refused.response
        answer = httpx.Response(
            response.status_code, headers=list(response.headers.raw_items()), content=bytes(response.body)
        )
        raise error_of(answer, connection.url) from None
    except InvalidHandshake as error:
        raise NotNeuropodError(f"{connection.url} answers, and not as Neuropod's API does ({error})") from None
    except TimeoutError:
        raise UnreachableError(f"no server answers at {connection.url} (time-out)") from None
    except OSError as error:
        raise UnreachableError(f"no server answers at {connection.url} ({error.strerror or error})") from None
    try:
        with suppress(ConnectionClosed):
            await socket_.send(start.model_dump_json(exclude_unset=True))
        yield ExecStream(socket_)
    finally:
        await socket_.close()


async def _open(url: str, authorization: str | None) -> ClientConnection:
    parts = urlsplit(url)
    here = is_loopback(parts.hostname or "")
    given: dict[str, Any] = {}
    if here:  # whatever the resolver says, and no proxy is asked
        given = {"sock": await _dial_here(parts.port or (443 if parts.scheme == "wss" else 80)), "proxy": None}
    if parts.scheme == "wss":
        given["ssl"] = ssl.create_default_context()
    return await connect(
        url,
        additional_headers={} if authorization is None else {"Authorization": authorization},
        user_agent_header=f"neuropod/{__version__}",
        subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
        compression=None,
        max_size=wire.MAX_MESSAGE_BYTES,
        max_queue=_MESSAGES,
        open_timeout=_OPEN_SECONDS,
        close_timeout=_CLOSE_SECONDS,
        ping_interval=_PING_SECONDS,
        ping_timeout=None,
        **given,
    )


async def _dial_here(port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    failed: OSError | None = None
    for address in LOOPBACKS:
        dialled = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        dialled.setblocking(False)
        try:
            await loop.sock_connect(dialled, (address, port))
        except OSError as error:
            dialled.close()
            failed = failed or error
        else:
            return dialled
    assert failed is not None
    raise failed
