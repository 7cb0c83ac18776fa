"""How a command reaches the installation: by the socket of the server that runs on it, or by opening it itself.

The lock on the data directory decides. Both ways end in the same acts (`api.machine.Machine`), so a command has one
text for both, and the database is never opened beside a server.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import httpx
from pydantic import ValidationError

from neuropod.api.machine import Machine
from neuropod.api.parts import ApiParts
from neuropod.gateway.table import RouteTable
from neuropod.kit.clock import Clock
from neuropod.kit.errors import (
    ConflictError,
    FieldError,
    InvalidInputError,
    NeuropodError,
    NotFoundError,
    UnavailableError,
)
from neuropod.kit.lockfile import LockedError
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.operate.failures import clear_failures
from neuropod.pods.news import NewsReader
from neuropod.reconcile.down import end_workloads
from neuropod.server.installation import Installation, assembled, socket_path
from neuropod.server.serving import feed_of
from neuropod.settings import Settings
from neuropod.wire.machine import (
    Down,
    DownDone,
    Epoch,
    EpochConfirmed,
    SignInLinkAsk,
    SignInLinkMade,
    UserCreate,
    UserCreated,
)
from neuropod.wire.problems import Problem
from neuropod.wire.shapes import Answer, Request
from neuropod.wire.system import System
from neuropod.words import Role

AnswerT = TypeVar("AnswerT", bound=Answer)

_ANSWER_SECONDS = 30.0
_LOOK_SECONDS = 0.1
_STARTS_WITHIN_SECONDS = 20.0
_ERRORS: dict[int, type[NeuropodError]] = {404: NotFoundError, 409: ConflictError, 422: InvalidInputError}


class Acts(Protocol):
    """What the machine's administrator may do."""

    async def sign_in_link(self, email: str | None = None) -> SignInLinkMade:
        """Make a one-time link."""
        ...

    async def create_user(self, email: str, role: Role, name: str | None = None) -> UserCreated:
        """Make a person."""
        ...

    async def show_epoch(self) -> Epoch:
        """Tell what belongs to no row."""
        ...

    async def confirm_epoch(self) -> EpochConfirmed:
        """Confirm what a restore brought back."""
        ...

    async def system(self) -> System:
        """Tell how the server is."""
        ...

    async def down(self, *, stop_pods: bool) -> DownDone:
        """End all workloads."""
        ...


class RunningServer:
    """The acts, done by the server that runs."""

    def __init__(self, path: Path, grace_seconds: float) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)),
            base_url="http://server",
            timeout=_ANSWER_SECONDS,
            trust_env=False,
        )
        self._down_seconds = grace_seconds + 2 * _ANSWER_SECONDS

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def sign_in_link(self, email: str | None = None) -> SignInLinkMade:
        return await self._post("sign-in-link", SignInLinkAsk(email=email), SignInLinkMade)

    async def create_user(self, email: str, role: Role, name: str | None = None) -> UserCreated:
        return await self._post("users", UserCreate(email=email, role=role, name=name), UserCreated)

    async def show_epoch(self) -> Epoch:
        return await self._answer(self._client.build_request("GET", "/machine/epoch"), Epoch)

    async def confirm_epoch(self) -> EpochConfirmed:
        return await self._answer(self._client.build_request("POST", "/machine/confirm-epoch"), EpochConfirmed)

    async def system(self) -> System:
        return await self._answer(self._client.build_request("GET", "/machine/system"), System)

    async def down(self, *, stop_pods: bool) -> DownDone:
        return await self._post("down", Down(stop_pods=stop_pods), DownDone, seconds=self._down_seconds)

    async def _post(
        self, path: str, body: Request, shape: type[AnswerT], *, seconds: float = _ANSWER_SECONDS
    ) -> AnswerT:
        request = self._client.build_request("POST", f"/machine/{path}", json=body.sent(), timeout=seconds)
        return await self._answer(request, shape)

    async def _answer(self, request: httpx.Request, shape: type[AnswerT]) -> AnswerT:
        try:
            response = await self._client.send(request)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(f"the server does not answer on its socket: {why}") from error
        if response.is_success:
            return shape.model_validate_json(response.content)
        raise _error_of(response)


def _error_of(response: httpx.Response) -> NeuropodError:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return UnavailableError(f"the server answered {response.status_code} on its socket; its log says more")
    fields = [FieldError(wrong.field, wrong.code, wrong.message) for wrong in problem.fields]
    return _ERRORS.get(problem.status, NeuropodError)(problem.detail, code=problem.code, fields=fields)


class OpenedHere:
    """The acts, done by this process on an installation that no server has open."""

    def __init__(self, here: Installation) -> None:
        self._here = here
        self._machine = Machine(_parts_of(here))

    async def sign_in_link(self, email: str | None = None) -> SignInLinkMade:
        return await self._machine.sign_in_link(email)

    async def create_user(self, email: str, role: Role, name: str | None = None) -> UserCreated:
        return await self._machine.create_user(email, role, name)

    async def show_epoch(self) -> Epoch:
        return await self._machine.show_epoch()

    async def confirm_epoch(self) -> EpochConfirmed:
        return await self._machine.confirm_epoch()

    async def system(self) -> System:
        return await self._machine.system()

    async def down(self, *, stop_pods: bool) -> DownDone:
        stopped = await self._machine.stop_pods() if stop_pods else 0
        grace = self._here.settings.reconcile.stop_grace_seconds
        ended = await end_workloads(self._here.runtimes.values(), self._here.clock, grace_seconds=grace)
        return DownDone(workloads_ended=ended, pods_stopped=stopped)


def _parts_of(here: Installation) -> ApiParts:
    addresses = here.settings.addresses(here.settings.port)
    return ApiParts(
        settings=here.settings,
        addresses=addresses,
        database=here.database,
        accounts=here.accounts,
        pods=here.pods,
        runtimes=here.runtimes,
        board=here.board,
        metrics=here.metrics,
        clock=here.clock,
        box=here.box,
        routes=RouteTable(),
        feed=feed_of(here, NewsReader(here.database, here.pods, here.clock), addresses),
    )


@asynccontextmanager
async def acts_on(settings: Settings, clock: Clock) -> AsyncIterator[Acts]:
    """Give the acts, by whichever way there is. Raises CommandError, and UnavailableError for a server that hangs."""
    if not settings.data_dir.is_dir():
        raise CommandError(
            f"there is no Neuropod in {settings.data_dir.absolute()}",
            exit_code=Exit.NOT_FOUND,
            hints=("start one with: neuropod up", "or name its folder: NEUROPOD_DATA_DIR=…"),
        )
    with clear_failures(settings):
        ends = clock.monotonic() + _STARTS_WITHIN_SECONDS
        while True:  # who holds the lock may be a server that starts, or a command like this one
            try:
                async with assembled(settings, clock) as here:
                    yield OpenedHere(here)
                    return
            except LockedError:
                if clock.monotonic() > ends:
                    raise
            if await asyncio.to_thread(_accepts, socket_path(settings).absolute()):
                break
            await clock.sleep(_LOOK_SECONDS)
        server = RunningServer(socket_path(settings).absolute(), settings.reconcile.stop_grace_seconds)
        try:
            yield server
        finally:
            await server.aclose()


def _accepts(path: Path) -> bool:
    """Whether a server listens there; the file alone may be what a killed one left."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
