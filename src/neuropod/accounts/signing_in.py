"""Signing in and out: by password, throttled (SECURITY 31), and by one-time link (SECURITY 32).

A password sign-in is three steps, so that no session is open while argon2 works: `begin` counts the try and hands out
the hash to compare, the API verifies it, `finish` makes the session. A session that the browser had before ends: what
somebody may have planted there is worth nothing afterwards.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from neuropod.accounts import store
from neuropod.accounts.access import Actor, require_administrator, require_hand
from neuropod.accounts.records import SessionRow, SignInFailureRow, SignInLinkRow, UserRow
from neuropod.accounts.throttle import WINDOW, counted_address, wait_seconds
from neuropod.db.audit import record_act
from neuropod.db.engine import ReadSession, Session, Topic
from neuropod.ids import UserId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import ConflictError, ThrottledError, UnauthenticatedError
from neuropod.kit.identifiers import new_id, new_token
from neuropod.kit.secrets import Secret, token_hash
from neuropod.settings import AccountSettings
from neuropod.words import Scope

Way = Literal["password", "link", "oidc"]

_FAMILIAR = timedelta(days=90)
WRONG = "this address and password do not belong together"
LINK_GONE = "this link was used, or is too old; ask for a new one"


@dataclass(frozen=True, slots=True)
class Browser:
    """Where a sign-in comes from, and the session it had (`token`, or only its hash), which ends with it."""

    address: str
    user_agent: str
    token: str | None = None
    earlier_hash: str | None = None


@dataclass(frozen=True, slots=True)
class SignInTry:
    """A counted try. `password_hash` None: nobody, or no password; compare with it all the same."""

    email: str
    user_id: UserId | None
    password_hash: str | None


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session just made, and the one time its token is known."""

    token: Secret
    row: SessionRow
    user: UserRow


@dataclass(frozen=True, slots=True)
class SignInLink:
    """A one-time link just made; its token belongs in the address's fragment, which no server and no log sees."""

    token: Secret
    user: UserRow
    expires_at: datetime


class SignIns:
    """The use-cases. Each takes a session and never commits."""

    def __init__(self, settings: AccountSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def begin(self, session: Session, email: str, *, browser: Browser) -> SignInTry:
        """Count a try with a password and return what it is compared with. Raises ThrottledError."""
        now = self._clock.now()
        email = email.strip().lower()[:320]
        address = counted_address(browser.address)
        user = await store.user_by_email(session, email)
        since = now - WINDOW
        wait = wait_seconds(
            both=await store.tries(session, since=since, email=email, address=address),
            of_address=await store.tries(session, since=since, address=address),
            of_account=await store.tries(session, since=since, email=email),
            familiar_address=user is not None
            and await store.has_session_from(session, user.id, browser.address, since=now - _FAMILIAR),
            now=now,
        )
        if wait > 0:
            raise ThrottledError(f"too many tries; wait {wait} s before the next", retry_after_seconds=wait)
        session.add(SignInFailureRow(id=new_id("try"), email=email, address=address, at=now))
        if user is None or not user.active:
            return SignInTry(email, None, None)
        return SignInTry(email, UserId(user.id), user.password_hash)

    async def finish(
        self, session: Session, begun: SignInTry, *, browser: Browser, better_hash: str | None = None
    ) -> NewSession:
        """Make the session, once the password was found right. `better_hash` replaces one with old parameters."""
        user = await session.get(UserRow, begun.user_id) if begun.user_id is not None else None
        if user is None or not user.active or user.password_hash != begun.password_hash:
            raise UnauthenticatedError(WRONG, code="wrong_credentials")
        await self.forget_tries(session, begun.email, browser=browser)
        if better_hash is not None:
            user.password_hash = better_hash
        return await self.begin_session(session, user, browser=browser, way="password")

    async def forget_tries(self, session: Session, email: str, *, browser: Browser) -> None:
        """Count a person's tries from here no longer: they have shown who they are."""
        await store.forget_tries(session, email=email, address=counted_address(browser.address))

    async def make_link(self, session: Session, user: UserRow, *, actor: Actor) -> SignInLink:
        """Make a one-time link for somebody; unused earlier ones end. Administrators only, and no keys of theirs."""
        require_administrator(actor, Scope.WRITE)
        require_hand(actor)
        if not user.active:
            raise ConflictError(f"{user.email} is {user.status}: reinstate them first", code="user_inactive")
        now = self._clock.now()
        token = new_token()
        expires_at = now + timedelta(seconds=self._settings.sign_in_link_seconds)
        await store.end_links(session, user.id, now=now)
        link_id = new_id("lnk")
        session.add(
            SignInLinkRow(
                id=link_id, user_id=user.id, token_hash=token_hash(token), created_at=now, expires_at=expires_at
            )
        )
        self._note(session, "make_sign_in_link", user, f"link/{link_id}", actor=actor)
        return SignInLink(Secret(token), user, expires_at)

    async def link_waits(self, session: ReadSession, token: str) -> bool:
        """Tell whether a link could be used now, without using it."""
        return await store.link_waits(session, token_hash(token), now=self._clock.now())

    async def use_link(self, session: Session, token: str, *, browser: Browser) -> NewSession:
        """Sign in by a one-time link. Raises UnauthenticatedError when it is unknown, used or old."""
        user_id = await store.use_link(session, token_hash(token), now=self._clock.now())
        user = await session.get(UserRow, user_id) if user_id is not None else None
        if user is None or not user.active:
            raise UnauthenticatedError(LINK_GONE, code="link_gone")
        return await self.begin_session(session, user, browser=browser, way="link")

    async def sign_out(self, session: Session, *, actor: Actor) -> None:
        """End the session that asks; the gate lets none of its passes through any more (SECURITY 24)."""
        if actor.session_id is None:
            return
        row = await session.get(SessionRow, actor.session_id)
        if row is not None and row.revoked_at is None:
            row.revoked_at = self._clock.now()
            session.nudge(Topic.ROUTES)

    async def begin_session(self, session: Session, user: UserRow, *, browser: Browser, way: Way) -> NewSession:
        """Make a session for who has shown who they are; the one that the browser had ends."""
        now = self._clock.now()
        earlier = {browser.earlier_hash, None if browser.token is None else token_hash(browser.token)} - {None}
        for hash_ in earlier:
            await store.revoke_sessions(session, at=now, token_hash=hash_)
            session.nudge(Topic.ROUTES)
        token = new_token()
        row = SessionRow(
            id=new_id("ses"),
            user_id=user.id,
            token_hash=token_hash(token),
            created_at=now,
            used_at=now,
            expires_at=now + timedelta(seconds=self._settings.session_seconds),
            by_link=way == "link",
            address=browser.address,
            user_agent=browser.user_agent[:300],
        )
        session.add(row)
        await session.flush()
        record_act(
            session,
            "sign_in",
            f"session/{row.id}",
            at=now,
            actor_id=UserId(user.id),
            via="session",
            owner_id=UserId(user.id),
            address=browser.address,
            by=way,
        )
        return NewSession(Secret(token), row, user)

    def _note(self, session: Session, verb: str, user: UserRow, subject: str, *, actor: Actor) -> None:
        record_act(
            session,
            verb,
            subject,
            at=self._clock.now(),
            actor_id=actor.user_id,
            via=actor.via,
            owner_id=UserId(user.id),
        )
