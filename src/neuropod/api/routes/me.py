"""`/api/v1/me`: the person that a request comes from."""

from dataclasses import replace

from fastapi import APIRouter

from neuropod.api.answers import me_answer
from neuropod.api.deps import Person, Reader, Writer
from neuropod.api.paging import AskedPage
from neuropod.api.people import session_answer
from neuropod.api.signing_in import change_password
from neuropod.wire.accounts import Me, MeEdit, PasswordChange
from neuropod.wire.users import BrowserSessionPage, SessionsRevoked

router = APIRouter(prefix="/me", tags=["me"])


@router.get("", operation_id="showMe")
async def show_me(caller: Reader) -> Me:
    """Return who is asking, and what their key or session may do."""
    return me_answer(caller.signed_in)


@router.patch("", operation_id="editMe")
async def edit_me(body: MeEdit, caller: Person) -> Me:
    """Change one's own name."""
    async with caller.writing() as session:
        user = await caller.parts.accounts.rename_oneself(session, body.name, actor=caller.actor)
    return me_answer(replace(caller.signed_in, user=user))


@router.put("/password", status_code=204, operation_id="setPassword")
async def set_password(body: PasswordChange, caller: Person) -> None:
    """Set one's password. All other sessions end; API keys stay."""
    current = body.current_password
    await change_password(
        caller,
        caller.signed_in,
        body.new_password.get_secret_value(),
        None if current is None else current.get_secret_value(),
    )


@router.get("/sessions", operation_id="listMySessions")
async def list_my_sessions(caller: Reader, asked: AskedPage) -> BrowserSessionPage:
    """Return where one is signed in, newest first."""
    async with caller.reading() as session:
        page = await caller.parts.accounts.people.list_sessions(
            session, None, actor=caller.actor, cursor=asked.cursor, limit=asked.limit
        )
    return BrowserSessionPage(items=[session_answer(row, caller) for row in page.items], next_cursor=page.next_cursor)


@router.delete("/sessions", operation_id="revokeMySessions")
async def revoke_my_sessions(caller: Writer) -> SessionsRevoked:
    """Sign out everywhere but here. API keys stay."""
    async with caller.writing() as session:
        count = await caller.parts.accounts.people.revoke_sessions(session, None, actor=caller.actor)
    return SessionsRevoked(revoked=count)


@router.delete("/sessions/{session_id}", status_code=204, operation_id="revokeMySession")
async def revoke_my_session(session_id: str, caller: Writer) -> None:
    """End one of one's sessions; what it has open at pods is cut within seconds."""
    async with caller.writing() as session:
        await caller.parts.accounts.people.revoke_session(session, None, session_id, actor=caller.actor)
