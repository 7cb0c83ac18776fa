"""The SQL of users as administrators see them: pages, the lock on administrators, sessions, what a deletion ends."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update

from neuropod.accounts.records import ApiKeyRow, IdentityRow, SessionRow, SignInLinkRow, UserRow
from neuropod.db.engine import ReadSession, Session
from neuropod.kit.paging import Page, decode_cursor, page_of
from neuropod.words import Role, UserStatus

_OF_STATUS: dict[UserStatus, ColumnElement[bool]] = {
    UserStatus.ACTIVE: and_(UserRow.suspended_at.is_(None), UserRow.deleted_at.is_(None)),
    UserStatus.SUSPENDED: and_(UserRow.suspended_at.is_not(None), UserRow.deleted_at.is_(None)),
    UserStatus.DELETING: and_(UserRow.deleted_at.is_not(None), UserRow.closed_at.is_(None)),
    UserStatus.DELETED: UserRow.closed_at.is_not(None),
}


async def users_page(
    session: ReadSession,
    *,
    search: str | None,
    role: Role | None,
    status: UserStatus | None,
    cursor: str | None,
    limit: int,
) -> Page[UserRow]:
    """Return a page of users by address; without a status those of whom nothing is left are not among them."""
    query = select(UserRow).order_by(UserRow.email, UserRow.id).limit(limit + 1)
    query = query.where(UserRow.closed_at.is_(None) if status is None else _OF_STATUS[status])
    if role is not None:
        query = query.where(UserRow.role == role)
    if search:
        word = search.lower()
        query = query.where(
            or_(UserRow.email.contains(word, autoescape=True), func.lower(UserRow.name).contains(word, autoescape=True))
        )
    if cursor is not None:
        email, user_id = (str(part) for part in decode_cursor(cursor, 2))
        query = query.where(or_(UserRow.email > email, and_(UserRow.email == email, UserRow.id > user_id)))
    rows = (await session.scalars(query)).all()
    return page_of(rows, limit, lambda row: (row.email, row.id))


async def user_named(session: ReadSession, user: str) -> UserRow | None:
    """Return a user by id, or by the address of one who is not deleted."""
    if "@" in user:
        query = select(UserRow).where(UserRow.email == user.strip().lower(), UserRow.deleted_at.is_(None))
        return await session.scalar(query)
    return await session.get(UserRow, user)


async def users_by_id(session: ReadSession, ids: set[str]) -> dict[str, UserRow]:
    """Return users by their ids, deleted ones too."""
    if not ids:
        return {}
    return {row.id: row for row in await session.scalars(select(UserRow).where(UserRow.id.in_(ids)))}


async def lock_administrators(session: Session) -> Sequence[str]:
    """Return the ids of the active administrators as they are now, locked until this transaction ends.

    So two who would each take the other's rights come one after another, and one administrator is left.
    """
    query = (
        select(UserRow.id)
        .where(UserRow.role == Role.ADMIN, _OF_STATUS[UserStatus.ACTIVE])
        .order_by(UserRow.id)
        .with_for_update(key_share=True)
    )
    return (await session.scalars(query)).all()


async def lock_user(session: Session, user_id: str) -> UserRow:
    """Return the user's row as it is now, locked until this transaction ends."""
    query = select(UserRow).where(UserRow.id == user_id).with_for_update(key_share=True)
    return (await session.scalars(query.execution_options(populate_existing=True))).one()


# Sessions


async def last_uses(session: ReadSession, ids: set[str]) -> dict[str, datetime]:
    """Return when each user was last seen, by session or by key; those never seen are left out."""
    if not ids:
        return {}
    seen: dict[str, datetime] = {}
    for column, used_at in ((SessionRow.user_id, SessionRow.used_at), (ApiKeyRow.user_id, ApiKeyRow.used_at)):
        query = select(column, func.max(used_at)).where(column.in_(ids)).group_by(column)
        for user_id, at in await session.execute(query):
            if at is not None:
                seen[user_id] = max(at, seen.get(user_id, at))
    return seen


async def sessions_page(
    session: ReadSession, user_id: str, *, now: datetime, cursor: str | None, limit: int
) -> Page[SessionRow]:
    """Return a page of a user's sessions that last, newest first."""
    query = select(SessionRow).where(
        SessionRow.user_id == user_id, SessionRow.revoked_at.is_(None), SessionRow.expires_at > now
    )
    if cursor is not None:
        query = query.where(SessionRow.id < str(decode_cursor(cursor, 1)[0]))
    rows = (await session.scalars(query.order_by(SessionRow.id.desc()).limit(limit + 1))).all()
    return page_of(rows, limit, lambda row: (row.id,))


async def revoke_session(session: Session, user_id: str, session_id: str, *, now: datetime) -> bool:
    """Revoke one of a user's sessions; False if there is none that lasts."""
    changed = await session.scalar(
        update(SessionRow)
        .where(
            SessionRow.id == session_id,
            SessionRow.user_id == user_id,
            SessionRow.revoked_at.is_(None),
            SessionRow.expires_at > now,
        )
        .values(revoked_at=now)
        .returning(SessionRow.id)
        .execution_options(synchronize_session=False)
    )
    return changed is not None


async def revoke_sessions(session: Session, user_id: str, *, now: datetime, keep: str | None = None) -> int:
    """Revoke a user's sessions but `keep`; return how many lasted."""
    statement = update(SessionRow).where(
        SessionRow.user_id == user_id, SessionRow.revoked_at.is_(None), SessionRow.expires_at > now
    )
    if keep is not None:
        statement = statement.where(SessionRow.id != keep)
    revoked = await session.scalars(
        statement.values(revoked_at=now).returning(SessionRow.id).execution_options(synchronize_session=False)
    )
    return len(revoked.all())


# What ends with a person


async def revoke_keys(session: Session, user_id: str, *, now: datetime) -> None:
    """Revoke all keys of a user."""
    await session.execute(
        update(ApiKeyRow).where(ApiKeyRow.user_id == user_id, ApiKeyRow.revoked_at.is_(None)).values(revoked_at=now)
    )


async def end_links(session: Session, user_id: str, *, now: datetime) -> None:
    """Let a user's unused sign-in links end."""
    await session.execute(
        update(SignInLinkRow)
        .where(SignInLinkRow.user_id == user_id, SignInLinkRow.used_at.is_(None), SignInLinkRow.expires_at > now)
        .values(expires_at=now)
    )


async def delete_identities(session: Session, user_id: str) -> None:
    """Let no identity sign a user in any more."""
    await session.execute(delete(IdentityRow).where(IdentityRow.user_id == user_id))
