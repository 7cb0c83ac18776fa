"""Users, their sessions and the audit log as the wire has them; used by the routes of users, oneself and audit."""

from collections.abc import Mapping, Sequence

from neuropod.accounts.records import SessionRow, UserRow
from neuropod.accounts.signing_in import SignInLink
from neuropod.api.deps import Caller
from neuropod.db.audit import AuditRow
from neuropod.db.engine import ReadSession
from neuropod.settings import Addresses
from neuropod.wire import users as wire
from neuropod.wire.audit import AuditEntry, Somebody
from neuropod.words import Role, VolumesAtEnd


async def user_answers(caller: Caller, session: ReadSession, rows: Sequence[UserRow]) -> list[wire.User]:
    """Return users with what is counted of them."""
    seen = await caller.parts.accounts.people.last_uses(session, rows)
    pods = await caller.parts.owners.count_pods(session, rows)
    return [
        wire.User(
            id=row.id,
            email=row.email,
            name=row.name,
            role=Role(row.role),
            status=row.status,
            hash=row.hash,
            has_password=row.password_hash is not None,
            pods=pods.get(row.id, 0),
            created_at=row.created_at,
            seen_at=seen.get(row.id),
            suspended_at=row.suspended_at,
            deleted_at=row.deleted_at,
            volumes_at_end=None if row.volumes_at_end is None else VolumesAtEnd(row.volumes_at_end),
        )
        for row in rows
    ]


async def user_answer(caller: Caller, session: ReadSession, row: UserRow) -> wire.User:
    """Return a user."""
    await session.flush()
    (answer,) = await user_answers(caller, session, [row])
    return answer


def session_answer(row: SessionRow, caller: Caller) -> wire.BrowserSession:
    """Return a signed-in browser."""
    return wire.BrowserSession(
        id=row.id,
        current=row.id == caller.actor.session_id,
        address=row.address,
        user_agent=row.user_agent,
        by_link=row.by_link,
        created_at=row.created_at,
        used_at=row.used_at,
        expires_at=row.expires_at,
    )


def link_url(link: SignInLink, addresses: Addresses) -> str:
    """Return a one-time link; its token is in the fragment, which no server and no log sees (SECURITY 32)."""
    return f"{addresses.console_origin}/sign-in/link#{link.token.reveal()}"


def act_answer(row: AuditRow, people: Mapping[str, UserRow]) -> AuditEntry:
    """Return an act; `people` has who is named in it."""
    return AuditEntry.model_validate({
        "id": row.id,
        "at": row.at,
        "actor": _somebody(row.actor_id, people),
        "via": row.via,
        "verb": row.verb,
        "subject": row.subject,
        "owner": _somebody(row.owner_id, people),
        "data": row.data,
    })  # fmt: skip


def _somebody(user_id: str | None, people: Mapping[str, UserRow]) -> Somebody | None:
    row = None if user_id is None else people.get(user_id)
    return None if row is None else Somebody(id=row.id, email=row.email)
