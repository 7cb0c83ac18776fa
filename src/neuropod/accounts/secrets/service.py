"""What is done with a user's secrets: set, opened for a pod, deleted. Called by pods, which knows what names them.

A value goes in and never comes out but into a workload: it is in no answer, log, event or audit row. Callers that write
hold the owner's account lock and have checked the name.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from neuropod.accounts.access import Actor
from neuropod.accounts.secrets import store
from neuropod.accounts.secrets.records import SecretRow
from neuropod.db.audit import record_act
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import UserId
from neuropod.kit.errors import ConflictError
from neuropod.kit.secrets import Secret, SecretBox


def sealed_secret(box: SecretBox, owner_id: UserId, name: str, value: Secret) -> bytes:
    """Return a value encrypted for the one row in which it opens again (SECURITY 35)."""
    return box.seal(value, place=_place(owner_id, name))


async def set_secret(
    session: Session, name: str, sealed: bytes, *, owner_id: UserId, limit: int, actor: Actor, now: datetime
) -> SecretRow:
    """Keep a sealed value by a name, in place of what was there. Raises ConflictError (`too_many_secrets`)."""
    row = await session.get(SecretRow, (owner_id, name))
    if row is None:
        if await store.count_secrets(session, owner_id) >= limit:
            raise ConflictError(f"one person keeps at most {limit} secrets; delete one first", code="too_many_secrets")
        row = SecretRow(owner_id=owner_id, name=name, sealed=sealed, set_at=now)
        session.add(row)
    else:
        row.sealed, row.set_at = sealed, now
    await session.flush()
    _note(session, "secret_set", row, actor=actor, now=now)
    return row


async def delete_secret(session: Session, row: SecretRow, *, actor: Actor, now: datetime, **data: Any) -> None:
    """Forget a secret; pods that name it do not start any more."""
    _note(session, "secret_deleted", row, actor=actor, now=now, **data)
    await session.delete(row)


async def open_secrets(
    session: ReadSession, box: SecretBox, wanted: Mapping[UserId, Collection[str]]
) -> dict[tuple[UserId, str], Secret]:
    """Return the values of secrets by owner and name, in one query; those that are not there are left out.

    Raises WrongKeyError for a value that was not written there.
    """
    names = {name for named in wanted.values() for name in named}
    if not names:
        return {}
    rows = await store.secrets_named(session, list(wanted), names)
    return {
        (UserId(row.owner_id), row.name): box.open(row.sealed, place=_place(row.owner_id, row.name))
        for row in rows
        if row.name in wanted[UserId(row.owner_id)]
    }


def _place(owner_id: str, name: str) -> str:
    return f"users/{owner_id}/secrets/{name}"


def _note(session: Session, verb: str, row: SecretRow, *, actor: Actor, now: datetime, **data: Any) -> None:
    owner_id, subject = UserId(row.owner_id), f"secret/{row.name}"
    record_act(session, verb, subject, at=now, actor_id=actor.user_id, via=actor.via, owner_id=owner_id, **data)
