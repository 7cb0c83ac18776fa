"""People and who is asking: the use-cases of users and sessions, and how a request's cookie or key becomes an Actor.

`Accounts` is made once by server; the API's dependencies call it with a session of theirs, `Visitors` asks it for
the gate, and `operate` for the first administrator. Sessions and keys are random tokens of 32 bytes; the database
holds only their hashes.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from neuropod.accounts import store
from neuropod.accounts.access import ALL_BUT_PORTS, Actor, require_administrator, require_hand, require_session_of_self
from neuropod.accounts.acts import record_act_on
from neuropod.accounts.keys import Keys
from neuropod.accounts.passwords import Passwords, password_errors
from neuropod.accounts.people.service import People, wrong_person_name
from neuropod.accounts.records import ApiKeyRow, SessionRow, UserRow
from neuropod.accounts.signing_in import SignIns
from neuropod.accounts.throttle import WINDOW
from neuropod.db.engine import ReadSession, Session, Topic
from neuropod.ids import ApiKeyId, SessionId, UserId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import FieldError, InvalidInputError, NotFoundError, taken
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kit.secrets import token_hash
from neuropod.settings import Settings
from neuropod.words import Role, Scope

EMAIL = re.compile(r"[^@\s\"'<>(),:;\\\[\]\x00-\x1f\x7f]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?")

_KEY_USE_SECONDS = 60  # uses of a key are noted to the minute, so that reading does not write
_KEEP_ENDED = timedelta(days=30)
_RESET = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who a request comes from, and by what: exactly one of `by_session` and `by_key`."""

    actor: Actor
    user: UserRow
    by_session: SessionRow | None = None
    by_key: ApiKeyRow | None = None
    use_is_due: bool = False  # its use should be noted (`note_use`) with the next write


class Accounts:
    """The use-cases. Each takes a session and never commits."""

    def __init__(self, settings: Settings, clock: Clock, passwords: Passwords | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self.passwords = passwords or Passwords()
        self.sign_ins = SignIns(settings.accounts, clock)
        self.keys = Keys(settings, clock)
        self.people = People(clock)

    # Who is asking

    async def by_session_token(self, session: ReadSession, token: str, *, address: str = "") -> SignedIn | None:
        """Return who a browser's cookie stands for; None if it is unknown, ended, or its person may not sign in."""
        found = await store.session_by_hash(session, token_hash(token))
        return None if found is None else self._signed_in(*found, address=address)

    async def by_session_id(self, session: ReadSession, session_id: SessionId) -> SignedIn | None:
        """Return whose session this is while it lasts: passes of the gate live only as long as it."""
        found = await store.session_by_id(session, session_id)
        return None if found is None else self._signed_in(*found, address="")

    def _signed_in(self, row: SessionRow, user: UserRow, *, address: str) -> SignedIn | None:
        now = self._clock.now()
        if row.revoked_at is not None or row.expires_at <= now or not user.active:
            return None
        actor = Actor(
            user_id=UserId(user.id),
            role=Role(user.role),
            scopes=ALL_BUT_PORTS,
            via="session",
            session_id=SessionId(row.id),
            address=address,
        )
        rest = timedelta(seconds=min(3600, self._settings.accounts.session_seconds / 10))
        return SignedIn(actor, user, by_session=row, use_is_due=now - row.used_at >= rest)

    async def by_key(self, session: ReadSession, key: str, *, address: str = "") -> SignedIn | None:
        """Return who an API key stands for, its rights its scopes and its owner's present role (SECURITY 27)."""
        found = await store.key_by_hash(session, token_hash(key))
        return None if found is None else self._of_key(*found, address=address)

    async def still_signed_in(
        self, session: ReadSession, *, session_ids: Collection[SessionId], key_ids: Collection[ApiKeyId]
    ) -> dict[SessionId | ApiKeyId, Actor]:
        """Return who those of the sessions and keys stand for that still count; two queries for any number."""
        standing: dict[SessionId | ApiKeyId, Actor] = {}
        for row, user in await store.sessions_by_ids(session, session_ids):
            if (found := self._signed_in(row, user, address="")) is not None:
                standing[SessionId(row.id)] = found.actor
        for key, user in await store.keys_by_ids(session, key_ids):
            if (found := self._of_key(key, user, address="")) is not None:
                standing[ApiKeyId(key.id)] = found.actor
        return standing

    def _of_key(self, row: ApiKeyRow, user: UserRow, *, address: str) -> SignedIn | None:
        now = self._clock.now()
        ended = row.expires_at is not None and row.expires_at <= now
        if row.revoked_at is not None or ended or not user.active:
            return None
        actor = Actor(
            user_id=UserId(user.id),
            role=Role(user.role),
            scopes=frozenset(Scope(scope) for scope in row.scopes),
            via="key",
            key_id=ApiKeyId(row.id),
            address=address,
        )
        due = row.used_at is None or now - row.used_at >= timedelta(seconds=_KEY_USE_SECONDS)
        return SignedIn(actor, user, by_key=row, use_is_due=due)

    async def note_use(self, session: Session, signed_in: SignedIn) -> None:
        """Note that a key or session was used; a session lasts from its last use."""
        now = self._clock.now()
        if signed_in.by_key is not None:
            await store.note_key_use(session, signed_in.by_key.id, at=now)
        if signed_in.by_session is not None:
            expires_at = now + timedelta(seconds=self._settings.accounts.session_seconds)
            await store.extend_session(session, signed_in.by_session.id, used_at=now, expires_at=expires_at)

    # People

    async def create_user(
        self, session: Session, *, email: str, role: Role, actor: Actor, name: str | None = None
    ) -> UserRow:
        """Make a person who signs in by a one-time link until they set a password. Administrators only.

        Another administrator is made by a person, not by a key (SECURITY 27).
        """
        require_administrator(actor, Scope.WRITE)
        if role is Role.ADMIN:
            require_hand(actor)
        email = normal_email(email)
        wrong = [] if name is None else wrong_person_name(name)
        if not EMAIL.fullmatch(email):
            wrong.insert(0, FieldError("email", "email", "must be an e-mail address"))
        if wrong:
            raise InvalidInputError("; ".join(f"{one.field}: {one.message}" for one in wrong), fields=wrong)
        if await store.user_by_email(session, email) is not None:
            raise taken("email", email)
        user_id = UserId(new_id("usr"))
        user = UserRow(
            id=user_id,
            email=email,
            name=(name or email.partition("@")[0]).strip(),
            role=role,
            hash=await self._free_hash(session, user_id),
            password_hash=None,
            created_at=self._clock.now(),
        )
        session.add(user)
        await session.flush()
        self._note(session, "create_user", user, actor=actor, email=email, role=role)
        return user

    async def _free_hash(self, session: ReadSession, user_id: UserId) -> str:
        salt = 0
        while await store.user_by_hash(session, hash_ := user_hash(user_id, salt)) is not None:
            salt += 1
        return hash_

    async def first_administrator(self, session: Session, *, actor: Actor) -> UserRow:
        """Return the first administrator, made now (with `admin_email`) if there is no active administrator.

        Somebody who has this address already becomes administrator again: the machine's owner says so.
        """
        user = await store.oldest_administrator(session)
        if user is not None:
            return user
        email = normal_email(self._settings.admin_email)
        user = await store.user_by_email(session, email)
        if user is None:
            return await self.create_user(session, email=email, role=Role.ADMIN, actor=actor)
        user.role, user.suspended_at = Role.ADMIN, None
        self._note(session, "first_administrator", user, actor=actor)
        return user

    async def user_by_email(self, session: ReadSession, email: str) -> UserRow:
        """Return the active person with that address."""
        user = await store.user_by_email(session, normal_email(email))
        if user is None or not user.active:
            raise NotFoundError("nobody has this address")
        return user

    async def user_with_address(self, session: ReadSession, email: str) -> UserRow | None:
        """Return who has that address and is not deleted, active or not."""
        return await store.user_by_email(session, normal_email(email))

    async def rename_oneself(self, session: Session, name: str, *, actor: Actor) -> UserRow:
        """Change one's own name."""
        user = await self._oneself(session, actor)
        if wrong := wrong_person_name(name):
            raise InvalidInputError(wrong[0].message, fields=wrong)
        user.name = name.strip()
        self._note(session, "rename_oneself", user, actor=actor)
        return user

    def may_set_unproven(self, signed_in: SignedIn) -> bool:
        """Tell whether the person may set a password without the present one: there is none, or a link just came.

        A session that a one-time link began may do it for an hour: it was begun to reset the password.
        """
        row = signed_in.by_session
        fresh = row is not None and row.by_link and self._clock.now() - row.created_at < _RESET
        return signed_in.user.password_hash is None or fresh

    def check_new_password(self, signed_in: SignedIn, password: str, *, field: str = "new_password") -> None:
        """Raise InvalidInputError unless this may become the person's password."""
        least = self._settings.accounts.password_min_length
        errors = password_errors(password, email=signed_in.user.email, least=least, field=field)
        if errors:
            raise InvalidInputError(errors[0].message, fields=errors)

    async def set_password(self, session: Session, new_hash: str, *, actor: Actor) -> UserRow:
        """Set one's password, given its hash. All other sessions and unused links end; keys stay."""
        require_session_of_self(actor)
        user = await self._oneself(session, actor)
        now = self._clock.now()
        user.password_hash = new_hash
        await store.revoke_sessions(session, at=now, user_id=user.id, keep=actor.session_id)
        await store.end_links(session, user.id, now=now)
        session.nudge(Topic.ROUTES)
        self._note(session, "set_password", user, actor=actor)
        return user

    async def _oneself(self, session: Session, actor: Actor) -> UserRow:
        user = await session.get(UserRow, actor.user_id) if actor.user_id is not None else None
        if user is None:
            raise NotFoundError("no such person")
        return user

    def _note(self, session: Session, verb: str, user: UserRow, *, actor: Actor, **data: str) -> None:
        record_act_on(session, verb, user, actor=actor, at=self._clock.now(), **data)

    # Housekeeping

    async def sweep(self, session: Session) -> None:
        """Delete what ended a month ago, and tries to sign in that count no more; called by a loop."""
        now = self._clock.now()
        await store.delete_ended(session, before=now - _KEEP_ENDED, tries_before=now - WINDOW)

    def now(self) -> datetime:
        """Return the time that these use-cases go by."""
        return self._clock.now()


def normal_email(email: str) -> str:
    """Return the address as it is stored and compared."""
    return email.strip().lower()
