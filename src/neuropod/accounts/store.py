"""All SQL of accounts."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import BindParameter, Executable, bindparam, delete, func, select, update

from neuropod.accounts.records import (
    ApiKeyRow,
    KeyRequestRow,
    SessionRow,
    SignInFailureRow,
    SignInLinkRow,
    UserRow,
)
from neuropod.accounts.throttle import Tries
from neuropod.db.engine import ReadSession, Session
from neuropod.db.reading import columns_of, read_pairs
from neuropod.db.record import Record
from neuropod.kit.paging import Page, decode_cursor, page_of
from neuropod.words import Role

RowT = TypeVar("RowT", bound=Record)

_IDS_AT_ONCE = 5000

# Built once: they are asked with every request, or for every event that somebody hears of.
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_KEYS = select(*columns_of(ApiKeyRow), *columns_of(UserRow)).join(UserRow, UserRow.id == ApiKeyRow.user_id)
_KEYS_BY_IDS = _KEYS.where(ApiKeyRow.id.in_(_IDS))
_KEY_BY_HASH = _KEYS.where(ApiKeyRow.token_hash == bindparam("token_hash"))
_SESSIONS = select(*columns_of(SessionRow), *columns_of(UserRow)).join(UserRow, UserRow.id == SessionRow.user_id)
_SESSIONS_BY_IDS = _SESSIONS.where(SessionRow.id.in_(_IDS))
_SESSION_BY_HASH = _SESSIONS.where(SessionRow.token_hash == bindparam("token_hash"))

# People


async def user_by_email(session: ReadSession, email: str) -> UserRow | None:
    """Return the person with this address (lower case) who is not deleted."""
    return await session.scalar(select(UserRow).where(UserRow.email == email, UserRow.deleted_at.is_(None)))


async def user_by_hash(session: ReadSession, hash_: str) -> UserRow | None:
    """Return the person whose host names carry this hash."""
    return await session.scalar(select(UserRow).where(UserRow.hash == hash_))


async def oldest_administrator(session: ReadSession) -> UserRow | None:
    """Return the active administrator who was made first."""
    return await session.scalar(
        select(UserRow)
        .where(UserRow.role == Role.ADMIN, UserRow.suspended_at.is_(None), UserRow.deleted_at.is_(None))
        .order_by(UserRow.created_at, UserRow.id)
        .limit(1)
    )


# Sessions


async def session_by_hash(session: ReadSession, token_hash: str) -> tuple[SessionRow, UserRow] | None:
    """Return the session with this token, and whose it is."""
    found = await read_pairs(session, SessionRow, UserRow, _SESSION_BY_HASH, {"token_hash": token_hash})
    return found[0] if found else None


async def session_by_id(session: ReadSession, session_id: str) -> tuple[SessionRow, UserRow] | None:
    """Return a session and whose it is."""
    found = await sessions_by_ids(session, [session_id])
    return found[0] if found else None


async def sessions_by_ids(session: ReadSession, session_ids: Collection[str]) -> Sequence[tuple[SessionRow, UserRow]]:
    """Return sessions and whose they are."""
    return await _in_parts(session, SessionRow, _SESSIONS_BY_IDS, session_ids)


async def keys_by_ids(session: ReadSession, key_ids: Collection[str]) -> Sequence[tuple[ApiKeyRow, UserRow]]:
    """Return API keys and whose they are."""
    return await _in_parts(session, ApiKeyRow, _KEYS_BY_IDS, key_ids)


async def _in_parts(
    session: ReadSession, record: type[RowT], query: Executable, ids: Collection[str]
) -> list[tuple[RowT, UserRow]]:
    """Read rows of many ids: databases bound the parameters of a query."""
    rows: list[tuple[RowT, UserRow]] = []
    sorted_ids = sorted(ids)
    for start in range(0, len(sorted_ids), _IDS_AT_ONCE):
        parameters = {"ids": sorted_ids[start : start + _IDS_AT_ONCE]}
        rows.extend(await read_pairs(session, record, UserRow, query, parameters))
    return rows


async def extend_session(session: Session, session_id: str, *, used_at: datetime, expires_at: datetime) -> None:
    """Note that a session was used; one that was revoked meanwhile stays so."""
    await session.execute(
        update(SessionRow)
        .where(SessionRow.id == session_id, SessionRow.revoked_at.is_(None))
        .values(used_at=used_at, expires_at=expires_at)
    )


async def revoke_sessions(
    session: Session,
    *,
    at: datetime,
    user_id: str | None = None,
    token_hash: str | None = None,
    keep: str | None = None,
) -> None:
    """Revoke the sessions of a person (but `keep`), or the one with a token."""
    statement = update(SessionRow).where(SessionRow.revoked_at.is_(None)).values(revoked_at=at)
    if user_id is not None:
        statement = statement.where(SessionRow.user_id == user_id)
    if token_hash is not None:
        statement = statement.where(SessionRow.token_hash == token_hash)
    if keep is not None:
        statement = statement.where(SessionRow.id != keep)
    await session.execute(statement)


async def has_session_from(session: ReadSession, user_id: str, address: str, *, since: datetime) -> bool:
    """Tell whether the person signed in from this address since then."""
    found = await session.scalar(
        select(SessionRow.id)
        .where(SessionRow.user_id == user_id, SessionRow.address == address, SessionRow.created_at >= since)
        .limit(1)
    )
    return found is not None


# Tries to sign in


async def tries(
    session: ReadSession, *, since: datetime, email: str | None = None, address: str | None = None
) -> Tries:
    """Count tries that did not succeed."""
    query = select(func.count(), func.max(SignInFailureRow.at)).where(SignInFailureRow.at >= since)
    if email is not None:
        query = query.where(SignInFailureRow.email == email)
    if address is not None:
        query = query.where(SignInFailureRow.address == address)
    count, last_at = (await session.execute(query)).one()
    return Tries(count, last_at)


async def forget_tries(session: Session, *, email: str, address: str) -> None:
    """Drop the tries of an account from an address: it was its owner."""
    await session.execute(
        delete(SignInFailureRow).where(SignInFailureRow.email == email, SignInFailureRow.address == address)
    )


# One-time links


async def use_link(session: Session, token_hash: str, *, now: datetime) -> str | None:
    """Use a link up and return whose it is; None if it is unknown, used or old. Two at once: one gets it."""
    found: str | None = await session.scalar(
        update(SignInLinkRow)
        .where(SignInLinkRow.token_hash == token_hash, SignInLinkRow.used_at.is_(None), SignInLinkRow.expires_at > now)
        .values(used_at=now)
        .returning(SignInLinkRow.user_id)
        .execution_options(synchronize_session=False)
    )
    return found


async def end_links(session: Session, user_id: str, *, now: datetime) -> None:
    """Let the person's unused links end: a newer one was made, or a password was set."""
    await session.execute(
        update(SignInLinkRow)
        .where(SignInLinkRow.user_id == user_id, SignInLinkRow.used_at.is_(None), SignInLinkRow.expires_at > now)
        .values(expires_at=now)
    )


# API keys


async def key_by_hash(session: ReadSession, token_hash: str) -> tuple[ApiKeyRow, UserRow] | None:
    """Return the key and whose it is."""
    found = await read_pairs(session, ApiKeyRow, UserRow, _KEY_BY_HASH, {"token_hash": token_hash})
    return found[0] if found else None


async def key_of_user(session: ReadSession, key_id: str) -> ApiKeyRow | None:
    """Return a key that is not revoked."""
    return await session.scalar(select(ApiKeyRow).where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None)))


async def count_keys(session: ReadSession, user_id: str) -> int:
    """Count a person's keys that are not revoked."""
    query = select(func.count()).where(ApiKeyRow.user_id == user_id, ApiKeyRow.revoked_at.is_(None))
    return await session.scalar(query) or 0


async def keys_of(session: ReadSession, user_id: str, *, cursor: str | None, limit: int) -> Page[ApiKeyRow]:
    """Return a person's keys that are not revoked, newest first."""
    query = select(ApiKeyRow).where(ApiKeyRow.user_id == user_id, ApiKeyRow.revoked_at.is_(None))
    if cursor is not None:
        (before,) = decode_cursor(cursor, 1)
        query = query.where(ApiKeyRow.id < str(before))
    rows = (await session.scalars(query.order_by(ApiKeyRow.id.desc()).limit(limit + 1))).all()
    return page_of(rows, limit, lambda row: (row.id,))


async def preset_keys(session: ReadSession) -> Sequence[ApiKeyRow]:
    """Return all preset keys there ever were."""
    return (await session.scalars(select(ApiKeyRow).where(ApiKeyRow.preset))).all()


async def note_key_use(session: Session, key_id: str, *, at: datetime) -> None:
    """Note that a key was used."""
    await session.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(used_at=at))


# Key requests


async def key_request_by_code(session: ReadSession, code: str) -> KeyRequestRow | None:
    """Return the request with this code."""
    return await session.scalar(select(KeyRequestRow).where(KeyRequestRow.code == code))


async def decide_key_request(session: Session, request_id: str, *, user_id: str | None, now: datetime) -> bool:
    """Confirm (or, without a user, refuse) a request that nobody decided yet; False if it is too late."""
    values = {"confirmed_by": user_id} if user_id is not None else {"refused_at": now}
    changed = await session.scalar(
        update(KeyRequestRow)
        .where(
            KeyRequestRow.id == request_id,
            KeyRequestRow.confirmed_by.is_(None),
            KeyRequestRow.refused_at.is_(None),
            KeyRequestRow.expires_at > now,
        )
        .values(**values)
        .returning(KeyRequestRow.id)
        .execution_options(synchronize_session=False)
    )
    return changed is not None


async def claim_key_request(session: Session, request_id: str, *, now: datetime) -> bool:
    """Use a confirmed request up; False if somebody did."""
    changed = await session.scalar(
        update(KeyRequestRow)
        .where(
            KeyRequestRow.id == request_id,
            KeyRequestRow.confirmed_by.is_not(None),
            KeyRequestRow.claimed_at.is_(None),
        )
        .values(claimed_at=now)
        .returning(KeyRequestRow.id)
        .execution_options(synchronize_session=False)
    )
    return changed is not None


async def open_key_requests(session: ReadSession, *, now: datetime, address: str | None = None) -> int:
    """Count the requests that still could be confirmed, of one address or of all."""
    query = select(func.count()).where(KeyRequestRow.expires_at > now)
    if address is not None:
        query = query.where(KeyRequestRow.address == address)
    return await session.scalar(query) or 0


async def link_waits(session: ReadSession, token_hash: str, *, now: datetime) -> bool:
    """Tell whether there is a link that could be used: who guesses causes no write."""
    found = await session.scalar(
        select(SignInLinkRow.id).where(
            SignInLinkRow.token_hash == token_hash, SignInLinkRow.used_at.is_(None), SignInLinkRow.expires_at > now
        )
    )
    return found is not None


async def delete_ended(session: Session, *, before: datetime, tries_before: datetime) -> None:
    """Delete sessions, links and requests that ended before a time, and tries from before another."""
    await session.execute(delete(SessionRow).where((SessionRow.expires_at < before) | (SessionRow.revoked_at < before)))
    await session.execute(delete(SignInLinkRow).where(SignInLinkRow.expires_at < before))
    await session.execute(delete(KeyRequestRow).where(KeyRequestRow.expires_at < before))
    await session.execute(delete(SignInFailureRow).where(SignInFailureRow.at < tries_before))


async def keys_named(session: ReadSession, user_id: str, name: str) -> Sequence[ApiKeyRow]:
    """Return a user's keys of that name that are not revoked."""
    query = select(ApiKeyRow).where(
        ApiKeyRow.user_id == user_id, ApiKeyRow.name == name, ApiKeyRow.revoked_at.is_(None)
    )
    return (await session.scalars(query)).all()
