"""API keys, and the way in which a program asks for one (`neuropod login`).

Keys are made and revoked by a person in a browser session only (SECURITY 27), the preset one by the settings.
A program that asks shows a code; the person, signed in, sees the same code in their browser and confirms; the program,
which alone knows the request's secret, then takes the key. It is made at that moment, so it is stored nowhere.
"""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from neuropod.accounts import store
from neuropod.accounts.access import Actor, require_administrator, require_session_of_self
from neuropod.accounts.records import ApiKeyRow, KeyRequestRow, UserRow
from neuropod.accounts.throttle import counted_address
from neuropod.db.audit import record_act
from neuropod.db.engine import ReadSession, Session, Topic
from neuropod.db.events import record_event
from neuropod.ids import UserId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import ConflictError, FieldError, InvalidInputError, NotFoundError, ThrottledError
from neuropod.kit.identifiers import new_id, new_token
from neuropod.kit.paging import Page
from neuropod.kit.secrets import Secret, token_hash
from neuropod.settings import Settings
from neuropod.words import Role, Scope

REQUEST_SECONDS = 600
REQUEST_INTERVAL_SECONDS = 2

_KEY_START = "npk_"
_PREFIX_LENGTH = 10
_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels: no words; no look-alikes (RFC 8628 §6.1)
_OPEN_PER_ADDRESS = 10
_OPEN_IN_ALL = 500
_GONE = "this request is unknown, used or too old; start again"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made, and the one time it is known."""

    key: Secret
    row: ApiKeyRow


@dataclass(frozen=True, slots=True)
class AskedKey:
    """A key request just made, and the one time its secret is known."""

    secret: Secret
    row: KeyRequestRow


@dataclass(frozen=True, slots=True)
class Claimed:
    """How a key request stands."""

    status: Literal["waiting", "confirmed", "refused"]
    new_key: NewKey | None = None


MACHINE_KEY_NAME = "./neuropod on the server's machine"


class Keys:
    """The use-cases. Each takes a session and never commits."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def list_keys(self, session: ReadSession, *, actor: Actor, cursor: str | None, limit: int) -> Page[ApiKeyRow]:
        """Return one's own keys, newest first."""
        return await store.keys_of(session, actor.user_id or "", cursor=cursor, limit=limit)

    async def create_key(
        self,
        session: Session,
        *,
        name: str,
        scopes: Iterable[Scope],
        expires_at: datetime | None,
        actor: Actor,
    ) -> NewKey:
        """Make a key for oneself."""
        user_id = require_session_of_self(actor)
        now = self._clock.now()
        chosen = frozenset(scopes)
        errors = [*_name_errors(name), *_scope_errors(chosen, actor.role)]
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
            errors.append(FieldError("expires_at", "past", "expires_at is a time to come, with its zone"))
        if errors:
            raise InvalidInputError("; ".join(error.message for error in errors), fields=errors)
        return await self._make(session, user_id, name=name, scopes=chosen, expires_at=expires_at)

    async def _make(
        self, session: Session, user_id: UserId, *, name: str, scopes: frozenset[Scope], expires_at: datetime | None
    ) -> NewKey:
        most = self._settings.limits.api_keys_per_user
        if await store.count_keys(session, user_id) >= most:
            raise ConflictError(f"you have {most} API keys already; revoke one first", code="limit_reached")
        now = self._clock.now()
        key = _KEY_START + new_token()
        row = ApiKeyRow(
            id=new_id("key"),
            user_id=user_id,
            name=name.strip(),
            token_hash=token_hash(key),
            prefix=key[:_PREFIX_LENGTH],
            scopes=sorted(scopes),
            created_at=now,
            expires_at=expires_at,
        )
        session.add(row)
        await session.flush()
        self._note(session, "create_api_key", row, actor_id=user_id, via="session")
        return NewKey(Secret(key), row)

    async def revoke_key(self, session: Session, key_id: str, *, actor: Actor) -> None:
        """Revoke one of one's own keys; the preset one is revoked by the settings alone."""
        user_id = require_session_of_self(actor)
        row = await store.key_of_user(session, key_id)
        if row is None or row.user_id != user_id:
            raise NotFoundError("no such API key")
        if row.preset:
            raise _preset()
        row.revoked_at = self._clock.now()
        session.nudge(Topic.ROUTES)
        self._note(session, "revoke_api_key", row, actor_id=user_id, via=actor.via)

    async def list_keys_of(
        self, session: ReadSession, user_id: str, *, actor: Actor, cursor: str | None, limit: int
    ) -> Page[ApiKeyRow]:
        """Return a user's keys, newest first. Administrators only."""
        require_administrator(actor, Scope.READ)
        return await store.keys_of(session, user_id, cursor=cursor, limit=limit)

    async def revoke_key_of(self, session: Session, user_id: str, key_id: str, *, actor: Actor) -> None:
        """Revoke a user's key, who is told. Administrators only; it takes rights away, so their keys may do it."""
        require_administrator(actor, Scope.WRITE)
        row = await store.key_of_user(session, key_id)
        if row is None or row.user_id != user_id:
            raise NotFoundError("no such API key")
        if row.preset:
            raise _preset()
        now = self._clock.now()
        row.revoked_at = now
        session.nudge(Topic.ROUTES)
        self._note(session, "revoke_api_key", row, actor_id=actor.user_id, via=actor.via)
        if actor.user_id != user_id:
            await session.flush()
            message = f"An administrator has revoked your API key {row.name} ({row.prefix}…)."
            await record_event(session, "user.key_revoked", message, at=now, owner_id=UserId(user_id))

    async def settle_preset_key(self, session: Session, administrator: UserRow) -> None:
        """Make the database hold the preset key of the settings and no other; called once at every start."""
        preset = self._settings.admin_api_key
        wanted = None if preset is None else token_hash(preset.get_secret_value())
        now = self._clock.now()
        found = False
        for row in await store.preset_keys(session):
            if row.token_hash == wanted:
                found = True
                row.revoked_at, row.user_id = None, administrator.id
            elif row.revoked_at is None:
                row.revoked_at = now
                session.nudge(Topic.ROUTES)
        if preset is None or wanted is None or found:
            return
        row = ApiKeyRow(
            id=new_id("key"),
            user_id=administrator.id,
            name="NEUROPOD_ADMIN_API_KEY",
            token_hash=wanted,
            prefix=preset.get_secret_value()[:4],
            scopes=sorted(Scope),
            preset=True,
            created_at=now,
        )
        session.add(row)
        self._note(session, "settle_preset_key", row, actor_id=None, via="system")

    async def make_machine_key(self, session: Session, administrator_id: UserId) -> NewKey:
        """Make the key of the command line on the server's own machine; the one of an earlier start ends."""
        now = self._clock.now()
        for row in await store.keys_named(session, administrator_id, MACHINE_KEY_NAME):
            row.revoked_at = now
        key = _KEY_START + new_token()
        row = ApiKeyRow(
            id=new_id("key"),
            user_id=administrator_id,
            name=MACHINE_KEY_NAME,
            token_hash=token_hash(key),
            prefix=key[:_PREFIX_LENGTH],
            scopes=sorted(Scope),
            created_at=now,
        )
        session.add(row)
        session.nudge(Topic.ROUTES)
        self._note(session, "make_machine_key", row, actor_id=None, via="machine")
        return NewKey(Secret(key), row)

    # A program asks

    async def ask(self, session: Session, *, name: str, scopes: Iterable[Scope], address: str) -> AskedKey:
        """Note that a program asks for a key. Anybody may ask; few at a time."""
        chosen = frozenset(scopes)
        errors = [*_name_errors(name), *_scope_errors(chosen, Role.ADMIN)]
        if errors:
            raise InvalidInputError("; ".join(error.message for error in errors), fields=errors)
        now = self._clock.now()
        address = counted_address(address)
        mine = await store.open_key_requests(session, now=now, address=address)
        if mine >= _OPEN_PER_ADDRESS or await store.open_key_requests(session, now=now) >= _OPEN_IN_ALL:
            raise ThrottledError("too many requests for keys wait already", retry_after_seconds=REQUEST_SECONDS)
        secret = new_token()
        row = KeyRequestRow(
            id=new_id("krq"),
            code=_new_code(),
            secret_hash=token_hash(secret),
            name=name.strip(),
            scopes=sorted(chosen),
            address=address,
            created_at=now,
            expires_at=now + timedelta(seconds=REQUEST_SECONDS),
        )
        session.add(row)
        await session.flush()
        return AskedKey(Secret(secret), row)

    async def asked(self, session: ReadSession, code: str) -> KeyRequestRow:
        """Return the open request with a code, as a person types it. Raises NotFoundError."""
        row = await store.key_request_by_code(session, normal_code(code))
        if row is None or row.expires_at <= self._clock.now() or row.confirmed_by or row.refused_at:
            raise NotFoundError("no program waits with this code; start it again")
        return row

    async def decide(self, session: Session, code: str, *, confirm: bool, actor: Actor) -> KeyRequestRow:
        """Confirm or refuse a request, as the person that one is. `admin` is left out for those who are not."""
        user_id = require_session_of_self(actor)
        row = await self.asked(session, code)
        decided = await store.decide_key_request(
            session, row.id, user_id=user_id if confirm else None, now=self._clock.now()
        )
        if not decided:
            raise NotFoundError("no program waits with this code; start it again")
        return row

    async def _of_program(self, session: ReadSession, request_id: str, secret: str) -> KeyRequestRow:
        row = await session.get(KeyRequestRow, request_id)
        known = row is not None and hmac.compare_digest(row.secret_hash, token_hash(secret))
        if row is None or not known or row.expires_at <= self._clock.now() or row.claimed_at is not None:
            raise NotFoundError(_GONE)
        return row

    async def still_waits(self, session: ReadSession, request_id: str, secret: str) -> bool:
        """Tell whether nobody has decided yet: what a program hears most of the time. Raises NotFoundError."""
        row = await self._of_program(session, request_id, secret)
        return row.confirmed_by is None and row.refused_at is None

    async def claim(self, session: Session, request_id: str, secret: str) -> Claimed:
        """Tell the program how its request stands; once confirmed it gets its key, once. Raises NotFoundError."""
        row = await self._of_program(session, request_id, secret)
        if row.refused_at is not None:
            return Claimed("refused")
        if row.confirmed_by is None:
            return Claimed("waiting")
        user = await session.get(UserRow, row.confirmed_by)
        claimed = await store.claim_key_request(session, row.id, now=self._clock.now())
        if user is None or not user.active or not claimed:
            raise NotFoundError(_GONE)
        scopes = frozenset(Scope(scope) for scope in row.scopes)
        if user.role != Role.ADMIN:
            scopes -= {Scope.ADMIN}
        return Claimed(
            "confirmed", await self._make(session, UserId(user.id), name=row.name, scopes=scopes, expires_at=None)
        )

    def _note(self, session: Session, verb: str, row: ApiKeyRow, *, actor_id: UserId | None, via: str) -> None:
        record_act(
            session,
            verb,
            f"api_key/{row.id}",
            at=self._clock.now(),
            actor_id=actor_id,
            via=via,
            owner_id=UserId(row.user_id),
            name=row.name,
            scopes=list(row.scopes),
        )


def _preset() -> ConflictError:
    return ConflictError(
        "this key comes from NEUROPOD_ADMIN_API_KEY; take it out of the server's settings", code="preset_key"
    )


def _new_code() -> str:
    letters = "".join(secrets.choice(_CODE_LETTERS) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def normal_code(code: str) -> str:
    """Return a code as it is stored, however it was typed."""
    letters = "".join(letter for letter in code.upper() if letter in _CODE_LETTERS)
    return f"{letters[:4]}-{letters[4:]}"


def _name_errors(name: str) -> list[FieldError]:
    name = name.strip()
    if 1 <= len(name) <= 100 and name.isprintable():
        return []
    return [FieldError("name", "name", "a name has 1 to 100 printable characters")]


def _scope_errors(scopes: frozenset[Scope], role: Role) -> list[FieldError]:
    if not scopes:
        return [FieldError("scopes", "empty", "a key has at least one scope: " + ", ".join(Scope))]
    if Scope.ADMIN in scopes and role is not Role.ADMIN:
        return [FieldError("scopes", "role", "the scope 'admin' needs an administrator")]
    return []
