"""What is done with a user's registries: set, opened for a workload, deleted. Called by pods.registries.

A password goes in and never comes out but into a workload: it is in no answer, log, event or audit row. Callers that
write hold the owner's account lock and have checked host, name and password.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from neuropod.accounts.access import Actor
from neuropod.accounts.registries import store
from neuropod.accounts.registries.records import RegistryRow
from neuropod.db.audit import record_act
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import UserId
from neuropod.kit.errors import ConflictError
from neuropod.kit.secrets import Secret, SecretBox


@dataclass(frozen=True, slots=True)
class Login:
    """Who a user is at a registry."""

    host: str
    username: str
    password: Secret


def sealed_password(box: SecretBox, owner_id: UserId, host: str, password: Secret) -> bytes:
    """Return a password encrypted for the one row in which it opens again (SECURITY 35)."""
    return box.seal(password, place=_place(owner_id, host))


async def set_registry(session: Session, draft: RegistryRow, *, limit: int, actor: Actor, now: datetime) -> RegistryRow:
    """Keep what the draft says, in place of what was there for its host.

    Raises ConflictError (`too_many_registries`).
    """
    row = await session.get(RegistryRow, (draft.owner_id, draft.host))
    if row is None:
        if await store.count_registries(session, UserId(draft.owner_id)) >= limit:
            sentence = f"one person keeps credentials for at most {limit} registries; delete one first"
            raise ConflictError(sentence, code="too_many_registries")
        row = draft
        session.add(row)
    else:
        row.username, row.sealed, row.set_at = draft.username, draft.sealed, draft.set_at
    await store.note_private_host(session, row.host)
    await session.flush()
    _note(session, "registry_set", row, actor=actor, now=now)
    return row


async def delete_registry(session: Session, row: RegistryRow, *, actor: Actor, now: datetime) -> None:
    """Forget a credential; images that need it cannot be pulled any more."""
    _note(session, "registry_deleted", row, actor=actor, now=now)
    await session.delete(row)


async def open_logins(
    session: ReadSession, box: SecretBox, owner_ids: Collection[UserId], hosts: Collection[str]
) -> dict[tuple[UserId, str], Login]:
    """Return what these users keep for these hosts, by owner and host, in one query.

    Raises WrongKeyError for a password that was not written there.
    """
    if not hosts:
        return {}
    return {
        (UserId(row.owner_id), row.host): Login(
            row.host, row.username, box.open(row.sealed, place=_place(row.owner_id, row.host))
        )
        for row in await store.registries_at(session, owner_ids, hosts)
    }


def _place(owner_id: str, host: str) -> str:
    return f"users/{owner_id}/registries/{host}"


def _note(session: Session, verb: str, row: RegistryRow, *, actor: Actor, now: datetime) -> None:
    owner_id, subject = UserId(row.owner_id), f"registry/{row.host}"
    record_act(
        session, verb, subject, at=now, actor_id=actor.user_id, via=actor.via, owner_id=owner_id, username=row.username
    )
