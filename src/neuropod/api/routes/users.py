"""`/api/v1/users`: users, for administrators. `{user}` is an id or an e-mail address.

Rights and ways to sign in are given by people in a session; a key gets 403 `session_needed` (SECURITY 27).
"""

from typing import Annotated

from fastapi import APIRouter, Query

from neuropod.accounts.people.service import Changes, UserFilters
from neuropod.api.answers import api_key_answer
from neuropod.api.deps import Reader, Writer
from neuropod.api.paging import AskedPage
from neuropod.api.people import link_url, session_answer, user_answer, user_answers
from neuropod.wire.accounts import ApiKeyPage
from neuropod.wire.users import (
    BrowserSessionPage,
    SessionsRevoked,
    SignInLink,
    User,
    UserCreate,
    UserEdit,
    UserPage,
    UserSuspend,
)
from neuropod.words import Role, UserStatus, VolumesAtEnd

router = APIRouter(prefix="/users", tags=["users"])


@router.get("", operation_id="listUsers")
async def list_users(
    caller: Reader,
    asked: AskedPage,
    search: Annotated[str | None, Query(description="A part of the address or the name.", max_length=100)] = None,
    role: Annotated[Role | None, Query(description="Only those of this role.")] = None,
    status: Annotated[UserStatus | None, Query(description="Only those; default: all but the deleted.")] = None,
) -> UserPage:
    """Return users by address; for administrators."""
    filters = UserFilters(search=search, role=role, status=status)
    async with caller.reading() as session:
        page = await caller.parts.accounts.people.list_users(
            session, actor=caller.actor, filters=filters, cursor=asked.cursor, limit=asked.limit
        )
        items = await user_answers(caller, session, page.items)
    return UserPage(items=items, next_cursor=page.next_cursor)


@router.post("", status_code=201, operation_id="createUser")
async def create_user(body: UserCreate, caller: Writer) -> User:
    """Make a user; for administrators. Invite them by a sign-in link."""
    async with caller.writing() as session:
        row = await caller.parts.accounts.create_user(
            session, email=body.email, role=body.role, name=body.name, actor=caller.actor
        )
        return await user_answer(caller, session, row)


@router.get("/{user}", operation_id="showUser")
async def show_user(user: str, caller: Reader) -> User:
    """Return a user; for administrators."""
    async with caller.reading() as session:
        row = await caller.parts.accounts.people.show_user(session, user, actor=caller.actor)
        return await user_answer(caller, session, row)


@router.patch("/{user}", operation_id="editUser")
async def edit_user(user: str, body: UserEdit, caller: Writer) -> User:
    """Give a user another role or name; for administrators. The last active administrator stays one."""
    changes = Changes(role=body.role, name=body.name)
    async with caller.writing() as session:
        row = await caller.parts.accounts.people.change_user(session, user, changes, actor=caller.actor)
        return await user_answer(caller, session, row)


@router.delete("/{user}", status_code=202, operation_id="deleteUser")
async def delete_user(
    user: str,
    caller: Writer,
    volumes: Annotated[VolumesAtEnd | None, Query(description="What becomes of their volumes; must be said.")] = None,
) -> User:
    """Delete a user and their pods; for administrators. They are signed out and their keys revoked at once."""
    async with caller.writing() as session:
        row = await caller.parts.owners.delete_user(session, user, volumes=volumes, actor=caller.actor)
        return await user_answer(caller, session, row)


@router.post("/{user}/suspend", operation_id="suspendUser")
async def suspend_user(user: str, caller: Writer, body: UserSuspend | None = None) -> User:
    """Suspend a user: signed out at once, keys count for nothing, pods are stopped; for administrators."""
    reason = "" if body is None else body.reason
    async with caller.writing() as session:
        row = await caller.parts.owners.suspend_user(session, user, actor=caller.actor, reason=reason)
        return await user_answer(caller, session, row)


@router.post("/{user}/reinstate", operation_id="reinstateUser")
async def reinstate_user(user: str, caller: Writer) -> User:
    """Let a suspended user in again; their pods stay stopped; for administrators."""
    async with caller.writing() as session:
        row = await caller.parts.owners.reinstate_user(session, user, actor=caller.actor)
        return await user_answer(caller, session, row)


@router.post("/{user}/sign-in-link", status_code=201, operation_id="makeSignInLink")
async def make_sign_in_link(user: str, caller: Writer) -> SignInLink:
    """Make a one-time link: to invite a user, or to let them set a new password; for administrators."""
    accounts = caller.parts.accounts
    async with caller.writing() as session:
        row = await accounts.people.show_user(session, user, actor=caller.actor)
        link = await accounts.sign_ins.make_link(session, row, actor=caller.actor)
    return SignInLink(email=row.email, url=link_url(link, caller.parts.addresses), expires_at=link.expires_at)


@router.get("/{user}/api-keys", operation_id="listUserApiKeys")
async def list_user_api_keys(user: str, caller: Reader, asked: AskedPage) -> ApiKeyPage:
    """Return a user's API keys, newest first; for administrators."""
    accounts, actor = caller.parts.accounts, caller.actor
    async with caller.reading() as session:
        row = await accounts.people.show_user(session, user, actor=actor)
        page = await accounts.keys.list_keys_of(session, row.id, actor=actor, cursor=asked.cursor, limit=asked.limit)
    return ApiKeyPage(items=[api_key_answer(key) for key in page.items], next_cursor=page.next_cursor)


@router.delete("/{user}/api-keys/{key_id}", status_code=204, operation_id="revokeUserApiKey")
async def revoke_user_api_key(user: str, key_id: str, caller: Writer) -> None:
    """Revoke an API key of a user, who is told; for administrators."""
    accounts, actor = caller.parts.accounts, caller.actor
    async with caller.writing() as session:
        row = await accounts.people.show_user(session, user, actor=actor)
        await accounts.keys.revoke_key_of(session, row.id, key_id, actor=actor)


@router.get("/{user}/sessions", operation_id="listUserSessions")
async def list_user_sessions(user: str, caller: Reader, asked: AskedPage) -> BrowserSessionPage:
    """Return where a user is signed in, newest first; for administrators."""
    async with caller.reading() as session:
        page = await caller.parts.accounts.people.list_sessions(
            session, user, actor=caller.actor, cursor=asked.cursor, limit=asked.limit
        )
    return BrowserSessionPage(items=[session_answer(row, caller) for row in page.items], next_cursor=page.next_cursor)


@router.delete("/{user}/sessions", operation_id="revokeUserSessions")
async def revoke_user_sessions(user: str, caller: Writer) -> SessionsRevoked:
    """Sign a user out everywhere; for administrators. API keys stay. Your own session that asks stays."""
    async with caller.writing() as session:
        count = await caller.parts.accounts.people.revoke_sessions(session, user, actor=caller.actor)
    return SessionsRevoked(revoked=count)


@router.delete("/{user}/sessions/{session_id}", status_code=204, operation_id="revokeUserSession")
async def revoke_user_session(user: str, session_id: str, caller: Writer) -> None:
    """End a session of a user; for administrators. What it has open at pods is cut within seconds."""
    async with caller.writing() as session:
        await caller.parts.accounts.people.revoke_session(session, user, session_id, actor=caller.actor)
