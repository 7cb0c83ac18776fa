"""What the machine's administrator may do without signing in: an ASGI app for the server's 0600 Unix socket alone.

Whoever can open that socket owns the machine, so nothing is checked. `operate` talks to it while a server runs; when
none does it uses `Machine` directly on an assembled installation.
"""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from starlette.responses import Response

from neuropod.accounts.access import MACHINE
from neuropod.accounts.signing_in import SignInLink
from neuropod.api import errors
from neuropod.api.deps import reading, writing
from neuropod.api.parts import ApiParts
from neuropod.api.restores import confirm, epoch_answer
from neuropod.api.routes.system import system_answer
from neuropod.kit.errors import NeuropodError
from neuropod.kit.paging import MAX_LIMIT
from neuropod.pods.views import PodFilters
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
from neuropod.wire.system import System
from neuropod.words import Role, Want

# Ends the loops, all workloads, and then the server; returns how many workloads were ended.
EndAll = Callable[[], Awaitable[int]]


class Machine:
    """The acts themselves."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def sign_in_link(self, email: str | None = None) -> SignInLinkMade:
        """Make a one-time link for somebody, by default for the first administrator (made now if there is none)."""
        accounts = self._parts.accounts
        async with writing(self._parts) as session:
            if email is None:
                user = await accounts.first_administrator(session, actor=MACHINE)
            else:
                user = await accounts.user_by_email(session, email)
            return self._made(await accounts.sign_ins.make_link(session, user, actor=MACHINE))

    async def create_user(self, email: str, role: Role, name: str | None = None) -> UserCreated:
        """Make a person and their first sign-in link."""
        accounts = self._parts.accounts
        async with writing(self._parts) as session:
            user = await accounts.create_user(session, email=email, role=role, name=name, actor=MACHINE)
            link = await accounts.sign_ins.make_link(session, user, actor=MACHINE)
        return UserCreated(id=user.id, email=user.email, role=Role(user.role), hash=user.hash, link=self._made(link))

    async def stop_pods(self) -> int:
        """Wish all running pods stopped; return how many that were."""
        stopped, cursor = 0, None
        while True:
            async with reading(self._parts) as looking:
                page = await self._parts.pods.list_pods(
                    looking, actor=MACHINE, filters=PodFilters(everybody=True), cursor=cursor, limit=MAX_LIMIT
                )
            for view in page.items:
                if view.pod.want == Want.RUNNING:
                    async with writing(self._parts) as session:
                        await self._parts.pods.stop_pod(session, view.id, actor=MACHINE)
                    stopped += 1
            cursor = page.next_cursor
            if cursor is None:
                return stopped

    async def show_epoch(self) -> Epoch:
        """Return what belongs to no row, as the runtimes show it now."""
        return await epoch_answer(self._parts)

    async def confirm_epoch(self) -> EpochConfirmed:
        """Confirm what a restore brought back: what belongs to no row is swept from now on."""
        async with writing(self._parts) as session:
            epoch, changed = await confirm(session, actor=MACHINE, now=self._parts.clock.now())
        return EpochConfirmed(epoch=epoch, changed=changed)

    async def system(self) -> System:
        """Return how the server is, and what its machine isolates."""
        return await system_answer(self._parts)

    def _made(self, link: SignInLink) -> SignInLinkMade:
        url = f"{self._parts.addresses.console_origin}/sign-in/link#{link.token.reveal()}"
        return SignInLinkMade(email=link.user.email, url=url, expires_at=link.expires_at)


def build_machine_app(parts: ApiParts, end_all: EndAll) -> FastAPI:
    """Return the app; only the server's own socket may serve it."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    machine = Machine(parts)

    def problem(_: Request, error: NeuropodError) -> Response:
        return errors.problem(error)

    errors.install(app, problem, {})

    @app.post("/machine/sign-in-link")
    async def make_sign_in_link(body: SignInLinkAsk) -> SignInLinkMade:
        return await machine.sign_in_link(body.email)

    @app.post("/machine/users", status_code=201)
    async def create_user(body: UserCreate) -> UserCreated:
        return await machine.create_user(body.email, body.role, body.name)

    @app.post("/machine/down")
    async def down(body: Down) -> DownDone:
        stopped = await machine.stop_pods() if body.stop_pods else 0
        return DownDone(workloads_ended=await end_all(), pods_stopped=stopped)

    @app.get("/machine/epoch")
    async def show_epoch() -> Epoch:
        return await machine.show_epoch()

    @app.post("/machine/confirm-epoch")
    async def confirm_epoch_() -> EpochConfirmed:
        return await machine.confirm_epoch()

    @app.get("/machine/system")
    async def system() -> System:
        return await machine.system()

    return app
