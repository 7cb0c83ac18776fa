"""`/api/v1/session`: sign in with a password, who is signed in, sign out.

For the console and for `neuropod login` at a terminal; other programs send a key. The token is in the cookie alone.
"""

from fastapi import APIRouter, Response

from neuropod.accounts.service import SignedIn
from neuropod.accounts.signing_in import NewSession
from neuropod.api.answers import me_answer
from neuropod.api.callers import drop_session_cookie, require_own_origin, set_session_cookie
from neuropod.api.deps import Anybody, Asking, Person
from neuropod.api.hosts import HostKind, kind_of
from neuropod.api.signing_in import sign_in_with_password
from neuropod.kit.errors import ForbiddenError
from neuropod.wire.accounts import Session, SignIn

router = APIRouter(prefix="/session", tags=["session"])


def session_answer(signed_in: SignedIn) -> Session:
    """Return a signed-in browser."""
    row = signed_in.by_session
    assert row is not None
    return Session(id=row.id, user=me_answer(signed_in), created_at=row.created_at, expires_at=row.expires_at)


def give_session(asking: Asking, response: Response, made: NewSession) -> None:
    """Put a new session's token into the browser's cookie."""
    seconds = asking.parts.settings.accounts.session_seconds
    set_session_cookie(response, made.token.reveal(), asking.parts.addresses, seconds=seconds)


@router.post("", status_code=201, operation_id="signIn")
async def sign_in(body: SignIn, asking: Anybody, response: Response) -> Session:
    """Sign in with a password; the answer sets the session's cookie.

    Only at the console's and the API's own hosts, and only from the console or a program (which sends no Origin).
    """
    request, parts = asking.request, asking.parts
    if kind_of(request.scope) is HostKind.DIRECT:
        raise ForbiddenError(f"sign in at {parts.addresses.console_origin}", code="wrong_host")
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        require_own_origin(request, parts.addresses)
    made = await sign_in_with_password(asking, body.email, body.password.get_secret_value())
    give_session(asking, response, made)
    async with asking.reading() as session:
        signed_in = await parts.accounts.by_session_token(session, made.token.reveal(), address=asking.address)
    assert signed_in is not None
    return session_answer(signed_in)


@router.get("", operation_id="showSession")
async def show_session(caller: Person) -> Session:
    """Return the session that asks."""
    return session_answer(caller.signed_in)


@router.delete("", status_code=204, operation_id="signOut")
async def sign_out(caller: Person, response: Response) -> None:
    """End the session that asks; open streams that it opened are cut within seconds."""
    async with caller.writing() as session:
        await caller.parts.accounts.sign_ins.sign_out(session, actor=caller.actor)
    drop_session_cookie(response, caller.parts.addresses)
