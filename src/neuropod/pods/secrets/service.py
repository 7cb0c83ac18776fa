"""The use-cases of secrets as a person says them: list, set, delete. Called by api.

Everybody has their own alone; no administrator lists or sets another's. Each takes the session of one transaction and
never commits. Deletion looks for pods under the owner's account lock, under which launches and edits name them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from neuropod.accounts.access import Actor, require_scope
from neuropod.accounts.records import UserRow
from neuropod.accounts.secrets import service, store
from neuropod.accounts.secrets.records import SecretRow
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import UserId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import ConflictError, FieldError, ForbiddenError, InvalidInputError, NotFoundError
from neuropod.kit.secrets import Secret, SecretBox
from neuropod.ledger.store import lock_account
from neuropod.pods.rules import MAX_ENV_NAME, wrong_value, wrong_variable
from neuropod.pods.secrets.store import pods_by_secret
from neuropod.settings import Settings
from neuropod.words import Scope

MAX_VALUE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SecretView:
    """A secret as it is shown: never its value."""

    name: str
    set_at: datetime
    pods: Sequence[tuple[str, str]]  # id and name


class UserSecrets:
    """All use-cases of secrets; made by api.parts."""

    def __init__(self, settings: Settings, box: SecretBox, clock: Clock) -> None:
        self._limit = settings.limits.secrets_per_user
        self._box = box
        self._clock = clock

    async def list_secrets(self, session: ReadSession, *, actor: Actor) -> Sequence[SecretView]:
        """Return the actor's own secrets by name."""
        require_scope(actor, Scope.READ)
        owner_id = _owner(actor)
        pods = await pods_by_secret(session, owner_id)
        rows = await store.secrets_of(session, owner_id)
        return [SecretView(row.name, row.set_at, pods.get(row.name, ())) for row in rows]

    async def set_secret(self, session: Session, name: str, value: Secret, *, actor: Actor) -> SecretView:
        """Keep a value by a name. Pods are given it at their next start. Raises InvalidInputError, ConflictError."""
        require_scope(actor, Scope.WRITE)
        owner_id = _owner(actor)
        wrong = [*wrong_variable(name, "name"), *_wrong_value(value)]
        if wrong:
            raise InvalidInputError("; ".join(error.message for error in wrong), fields=wrong)
        await lock_account(session, owner_id)
        owner = await session.get(UserRow, owner_id)
        if owner is None or owner.deleted_at is not None:
            raise NotFoundError("no such user")
        row = await service.set_secret(
            session,
            name,
            service.sealed_secret(self._box, owner_id, name, value),
            owner_id=owner_id,
            limit=self._limit,
            actor=actor,
            now=self._clock.now(),
        )
        return SecretView(name, row.set_at, (await pods_by_secret(session, owner_id)).get(name, ()))

    async def delete_secret(self, session: Session, name: str, *, actor: Actor, force: bool = False) -> None:
        """Forget a secret. While pods name it, only by `force`: ConflictError (`secret_in_use`) names them."""
        require_scope(actor, Scope.WRITE)
        owner_id = _owner(actor)
        await lock_account(session, owner_id)
        row = None if len(name) > MAX_ENV_NAME else await session.get(SecretRow, (owner_id, name))
        if row is None:
            raise NotFoundError(f"no such secret: {name}")
        pods = (await pods_by_secret(session, owner_id)).get(name, ())
        if pods and not force:
            named = ", ".join(pod for _, pod in pods)
            sentence = f"secret {name} is used by {named}, which would not start without it; force deletes it anyway"
            raise ConflictError(sentence, code="secret_in_use")
        await service.delete_secret(
            session, row, actor=actor, now=self._clock.now(), pods=[pod_id for pod_id, _ in pods]
        )


def _owner(actor: Actor) -> UserId:
    if actor.user_id is None:
        raise ForbiddenError("only people keep secrets", code="owner_needed")
    return actor.user_id


def _wrong_value(value: Secret) -> Sequence[FieldError]:
    text = value.reveal()
    if not text:
        return (FieldError("value", "empty", "a secret holds at least one character"),)
    if len(text.encode(errors="replace")) > MAX_VALUE_BYTES:
        return (FieldError("value", "too_large", f"a secret holds at most {MAX_VALUE_BYTES // 1024} KiB"),)
    return wrong_value(value, "value")
