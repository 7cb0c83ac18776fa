"""The running server's 0600 socket, from the commands' side; without a server the same acts on the installation.

A command never opens the database while a server has it: the lock on the data directory decides which way it goes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import httpx
from pydantic import BaseModel

from neuropod.api.machine import Machine
from neuropod.api.parts import ApiParts
from neuropod.db.migrate import NewerSchemaError
from neuropod.gateway.table import RouteTable
from neuropod.kit.clock import SystemClock
from neuropod.kit.errors import NeuropodError
from neuropod.kit.keyfile import KeyFileError
from neuropod.kit.lockfile import LockedError, is_locked
from neuropod.server.installation import Installation, WrongKeyFileError, assembled, lock_path, socket_path
from neuropod.settings import Settings
from neuropod.wire.problems import Problem

ModelT = TypeVar("ModelT", bound=BaseModel)
T = TypeVar("T")

_SECONDS = 120.0


def server_runs(settings: Settings) -> bool:
    """Tell whether a server holds the data directory."""
    return lock_path(settings).exists() and is_locked(lock_path(settings))


def ask_server(
    settings: Settings, shape: type[ModelT], method: str, path: str, body: BaseModel | None = None
) -> ModelT:
    """Ask the running server. Raises click.ClickException with a sentence."""
    socket = str(socket_path(settings).absolute())
    try:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=socket), base_url="http://machine", timeout=_SECONDS
        ) as client:
            content: Any = None if body is None else body.model_dump(mode="json")
            answer = client.request(method, path, json=content)
    except httpx.TransportError as error:
        raise click.ClickException(f"the server's socket {socket} does not answer: {error}") from error
    if not answer.is_success:
        problem = Problem.model_validate_json(answer.content)
        raise click.ClickException(problem.detail or problem.title)
    return shape.model_validate_json(answer.content)


def alone(settings: Settings, act: Callable[[Installation, Machine], Awaitable[T]]) -> T:
    """Do it on the installation itself, since no server runs. Raises click.ClickException with a sentence."""

    async def run() -> T:
        async with assembled(settings, SystemClock()) as here:
            return await act(here, Machine(parts_of(here)))

    try:
        return asyncio.run(run())
    except NeuropodError as error:
        raise click.ClickException(error.message) from error
    except (LockedError, KeyFileError, WrongKeyFileError, NewerSchemaError, OSError) as error:
        raise click.ClickException(str(error)) from error


def parts_of(here: Installation) -> ApiParts:
    """Return what the acts need, without a gateway."""
    return ApiParts(
        settings=here.settings,
        addresses=here.settings.addresses(here.settings.port),
        database=here.database,
        accounts=here.accounts,
        pods=here.pods,
        runtimes=here.runtimes,
        board=here.board,
        metrics=here.metrics,
        clock=here.clock,
        box=here.box,
        routes=RouteTable(),
    )
