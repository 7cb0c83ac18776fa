"""What routes ask for: the parts, who is asking, and transactions. The only module of the API that opens sessions.

A route says in its signature who may call it: `Anybody`, `Reader` (scope `read`), `Writer` (scope `write`), `Person` (a
browser session, no key), `Operator` (an administrator with scope `admin`). Who is asking is settled before the body is
looked at, in a session of its own that is closed again. The route then opens one transaction, reading or writing; a
writing one commits at the end of its block, so before the answer is sent. Every dependency is `async def`: FastAPI
would run others in a thread each. None rests on another one by `Depends`: each level costs as much as a small query.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, WebSocket
from starlette.requests import HTTPConnection

from neuropod.accounts.access import Actor, require_scope, require_session_of_self
from neuropod.accounts.service import SignedIn
from neuropod.accounts.signing_in import Browser
from neuropod.api.callers import (
    browser_of,
    client_address,
    require_own_origin,
    require_page_of_console,
    session_token,
)
from neuropod.api.parts import ApiParts
from neuropod.db.engine import ReadSession, Session
from neuropod.kit.errors import ForbiddenError, NoSpaceError, UnauthenticatedError
from neuropod.words import Scope

NOBODY = "sign in, or send an API key as 'Authorization: Bearer …'"


def parts_of(request: HTTPConnection) -> ApiParts:
    """Return what the app was built from."""
    parts: ApiParts = request.app.state.parts
    return parts


def reading(parts: ApiParts) -> AbstractAsyncContextManager[ReadSession]:
    """Open a session for who has no request: the machine's own commands."""
    return parts.database.read()


def writing(parts: ApiParts) -> AbstractAsyncContextManager[Session]:
    """Open a transaction for who has no request."""
    return parts.database.write()


@dataclass(frozen=True, slots=True)
class Asking:
    """A request from nobody in particular."""

    parts: ApiParts
    request: Request

    @property
    def browser(self) -> Browser:
        """Where a sign-in comes from."""
        return browser_of(self.request, self.parts.addresses, self.parts.settings.trusted_proxies)

    @property
    def address(self) -> str:
        """The client's address."""
        return client_address(self.request, self.parts.settings.trusted_proxies)

    def reading(self) -> AbstractAsyncContextManager[ReadSession]:
        """Open the request's session, which changes nothing."""
        return self.parts.database.read()

    def writing(self) -> AbstractAsyncContextManager[Session]:
        """Open the request's transaction: committed at the end of the block, rolled back when it raises."""
        return self.parts.database.write()


@dataclass(frozen=True, slots=True)
class Caller(Asking):
    """A request from somebody."""

    signed_in: SignedIn

    @property
    def actor(self) -> Actor:
        """Who acts."""
        return self.signed_in.actor

    def writing(self) -> AbstractAsyncContextManager[Session]:
        """Open the request's transaction, which also notes the use of key or session when that is due."""
        return self._writing()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Session]:
        async with self.parts.database.write() as session:
            if self.signed_in.use_is_due:
                await self.parts.accounts.note_use(session, self.signed_in)
            yield session

    async def may_still(self) -> bool:
        """Tell whether the key or session still counts; long answers ask again and again (SECURITY 24)."""
        return await _signed_in(self.request, self.parts) is not None


async def _signed_in(request: HTTPConnection, parts: ApiParts) -> SignedIn | None:
    """Return who is asking. A key that is sent decides alone: a wrong one is nobody, whatever the cookie says."""
    address = client_address(request, parts.settings.trusted_proxies)
    header = request.headers.get("authorization")
    token = session_token(request, parts.addresses)
    if header is None and token is None:
        return None
    async with parts.database.read() as session:
        if header is not None:
            scheme, _, key = header.partition(" ")
            if scheme.lower() != "bearer" or not key.strip():
                return None
            return await parts.accounts.by_key(session, key.strip(), address=address)
        return await parts.accounts.by_session_token(session, token or "", address=address)


@dataclass(frozen=True, slots=True)
class WebSocketCaller:
    """Somebody who asks for a WebSocket, and may change things."""

    parts: ApiParts
    websocket: WebSocket
    signed_in: SignedIn

    @property
    def actor(self) -> Actor:
        """Who acts."""
        return self.signed_in.actor

    def reading(self) -> AbstractAsyncContextManager[ReadSession]:
        """Open a session which changes nothing; short, since a WebSocket is long."""
        return self.parts.database.read()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Session]:
        """Open a transaction, which also notes the use of key or session when that is due."""
        async with self.parts.database.write() as session:
            if self.signed_in.use_is_due:
                await self.parts.accounts.note_use(session, self.signed_in)
            yield session

    async def again(self) -> "WebSocketCaller | None":
        """Return who this is now, with the rights of now; None when the key or session counts no more."""
        signed_in = await _signed_in(self.websocket, self.parts)
        return None if signed_in is None else WebSocketCaller(self.parts, self.websocket, signed_in)


async def web_socket_writer(websocket: WebSocket) -> WebSocketCaller:
    """Let those open a WebSocket who may change things: with a key, or from a page of the console's own host.

    A browser sends the session's cookie with a WebSocket that any page opens, and names that page (SECURITY 17).
    """
    parts = parts_of(websocket)
    signed_in = await _signed_in(websocket, parts)
    if signed_in is None:
        raise UnauthenticatedError(NOBODY)
    if signed_in.actor.via == "session":
        require_page_of_console(websocket, parts.addresses)
    require_scope(signed_in.actor, Scope.WRITE)
    return WebSocketCaller(parts, websocket, signed_in)


async def anybody(request: Request) -> Asking:
    """Take a request from anybody."""
    return Asking(parts_of(request), request)


async def perhaps_somebody(request: Request) -> Caller | None:
    """Return who is asking, if anybody is; for pages, which send others to the sign-in."""
    parts = parts_of(request)
    signed_in = await _signed_in(request, parts)
    if signed_in is None:
        return None
    if signed_in.actor.via == "session":
        require_own_origin(request, parts.addresses)
    caller = Caller(parts, request, signed_in)
    if signed_in.use_is_due and request.method == "GET":
        with suppress(NoSpaceError):  # reading goes on while the disk is full
            async with caller.writing():
                pass  # a request that only reads notes its use by itself, at most once a minute
    return caller


async def somebody(request: Request) -> Caller:
    """Return who is asking."""
    caller = await perhaps_somebody(request)
    if caller is None:
        raise UnauthenticatedError(NOBODY)
    request.state.caller = caller
    return caller


async def reader(request: Request) -> Caller:
    """Let those through who may read."""
    caller = await somebody(request)
    require_scope(caller.actor, Scope.READ)
    return caller


async def writer(request: Request) -> Caller:
    """Let those through who may change things."""
    caller = await somebody(request)
    require_scope(caller.actor, Scope.WRITE)
    return caller


async def person(request: Request) -> Caller:
    """Let people through, not their keys."""
    caller = await somebody(request)
    require_session_of_self(caller.actor)
    return caller


async def operator(request: Request) -> Caller:
    """Let administrators through."""
    caller = await somebody(request)
    if not caller.actor.is_admin:
        raise ForbiddenError("this is for administrators")
    return caller


Anybody = Annotated[Asking, Depends(anybody)]
Visitor = Annotated[Caller | None, Depends(perhaps_somebody)]
Reader = Annotated[Caller, Depends(reader)]
Writer = Annotated[Caller, Depends(writer)]
Person = Annotated[Caller, Depends(person)]
Operator = Annotated[Caller, Depends(operator)]
