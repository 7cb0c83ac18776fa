"""The use-cases of registries as a person says them: list, set, delete. Called by api.

Everybody has their own alone; no administrator lists or sets another's. Each takes the session of one transaction and
never commits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from neuropod.accounts.access import Actor, require_scope
from neuropod.accounts.records import UserRow
from neuropod.accounts.registries import service, store
from neuropod.accounts.registries.records import RegistryRow
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import UserId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from neuropod.kit.secrets import Secret, SecretBox
from neuropod.ledger.store import lock_account
from neuropod.pods.images import normal_host
from neuropod.pods.rules import wrong_value
from neuropod.settings import Settings
from neuropod.words import Scope

MAX_USERNAME = 255
MAX_PASSWORD_BYTES = 16 * 1024  # a key file of a cloud, in one line or many


@dataclass(frozen=True, slots=True)
class RegistryView:
    """A registry as it is shown: never its password."""

    host: str
    username: str
    set_at: datetime


class UserRegistries:
    """All use-cases of registries; made by api.parts."""

    def __init__(self, settings: Settings, box: SecretBox, clock: Clock) -> None:
        self._limit = settings.limits.registries_per_user
        self._box = box
        self._clock = clock

    async def list_registries(self, session: ReadSession, *, actor: Actor) -> Sequence[RegistryView]:
        """Return the actor's own registries by host."""
        require_scope(actor, Scope.READ)
        return [_view(row) for row in await store.registries_of(session, _owner(actor))]

    async def set_registry(
        self, session: Session, host: str, username: str, password: Secret, *, actor: Actor
    ) -> RegistryView:
        """Keep who the actor is at a registry. Raises InvalidInputError, ConflictError."""
        require_scope(actor, Scope.WRITE)
        owner_id, name = _owner(actor), normal_host(host)
        wrong = [*_wrong_username(username), *_wrong_password(password)]
        if name is None:
            rule = "a registry is named by its host, with its port if it has one: ghcr.io, registry.example.org:5000"
            wrong.insert(0, FieldError("host", "pattern", rule))
        if wrong or name is None:
            raise InvalidInputError("; ".join(error.message for error in wrong), fields=wrong)
        await lock_account(session, owner_id)
        owner = await session.get(UserRow, owner_id)
        if owner is None or owner.deleted_at is not None:
            raise NotFoundError("no such user")
        now = self._clock.now()
        sealed = service.sealed_password(self._box, owner_id, name, password)
        draft = RegistryRow(owner_id=owner_id, host=name, username=username, sealed=sealed, set_at=now)
        return _view(await service.set_registry(session, draft, limit=self._limit, actor=actor, now=now))

    async def delete_registry(self, session: Session, host: str, *, actor: Actor) -> None:
        """Forget who the actor is at a registry. Pods that run go on; a new pull of a private image is refused."""
        require_scope(actor, Scope.WRITE)
        owner_id, name = _owner(actor), normal_host(host)
        await lock_account(session, owner_id)
        row = None if name is None else await session.get(RegistryRow, (owner_id, name))
        if row is None:
            raise NotFoundError(f"no such registry: {host}")
        await service.delete_registry(session, row, actor=actor, now=self._clock.now())


def _view(row: RegistryRow) -> RegistryView:
    return RegistryView(row.host, row.username, row.set_at)


def _owner(actor: Actor) -> UserId:
    if actor.user_id is None:
        raise ForbiddenError("only people keep credentials of registries", code="owner_needed")
    return actor.user_id


def _wrong_username(username: str) -> Sequence[FieldError]:
    if 0 < len(username) <= MAX_USERNAME and username.isprintable() and ":" not in username:
        return ()
    rule = f"a user name has 1 to {MAX_USERNAME} printable characters, no colon"
    return (FieldError("username", "pattern", rule),)


def _wrong_password(password: Secret) -> Sequence[FieldError]:
    text = password.reveal()
    if not text:
        return (FieldError("password", "empty", "a password has at least one character"),)
    if len(text.encode(errors="replace")) > MAX_PASSWORD_BYTES:
        return (FieldError("password", "too_large", f"a password has at most {MAX_PASSWORD_BYTES // 1024} KiB"),)
    return wrong_value(password, "password")
