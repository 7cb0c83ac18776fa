"""Whose account an identity opens: by issuer and subject, never by its e-mail address (SECURITY 32).

An address alone opens nothing: whoever can choose one at the provider would be anybody here. An administrator links a
subject to a user, or allows the first that comes with the user's verified address. Called by the API.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from neuropod.accounts.access import SYSTEM, Actor, require_administrator, require_hand
from neuropod.accounts.acts import record_act_on
from neuropod.accounts.oidc import store
from neuropod.accounts.oidc.claims import Identity
from neuropod.accounts.people.store import lock_administrators, lock_user
from neuropod.accounts.records import IdentityRow, UserRow
from neuropod.accounts.service import Accounts
from neuropod.accounts.signing_in import Browser, NewSession
from neuropod.db.engine import ReadSession, Session
from neuropod.kit.clock import Clock
from neuropod.kit.errors import ConflictError, FieldError, ForbiddenError, InvalidInputError, NotFoundError, taken
from neuropod.kit.identifiers import new_id
from neuropod.words import Role, Scope

_LINK_BY_ADDRESS = timedelta(days=7)
_MOST_SUBJECT = 255  # OpenID Connect Core §2


@dataclass(frozen=True, slots=True)
class Refused:
    """A sign-in that is not let in. It is written down where it concerns somebody, so it is returned, not raised."""

    error: ForbiddenError


class Identities:
    """The use-cases. Each takes a session and never commits."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    async def sign_in(self, session: Session, identity: Identity, *, browser: Browser) -> NewSession | Refused:
        """Make a session for who the provider says came, in a browser whose earlier session ends."""
        if identity.refused is not None:
            return Refused(ForbiddenError(identity.refused, code="claim_refused"))
        found = await store.identity(session, identity.issuer, identity.subject)
        if found is not None:
            row, user = found
        else:
            user_or_refused = await self._newcomer(session, identity)
            if isinstance(user_or_refused, Refused):
                return user_or_refused
            row, user = user_or_refused
        if not user.active:
            sentence = f"your account {user.email} is {user.status}; ask an administrator"
            return Refused(ForbiddenError(sentence, code="suspended"))
        now = self._clock.now()
        row.email, row.used_at = identity.email, now
        if identity.role is not None and user.role != identity.role:
            user = await self._follow_role(session, user, identity.role)
        return await self._accounts.sign_ins.begin_session(session, user, browser=browser, way="oidc")

    async def _newcomer(self, session: Session, identity: Identity) -> tuple[IdentityRow, UserRow] | Refused:
        """Return the account of an identity that comes for the first time, made now where the rules make one."""
        known = None
        if identity.email is not None:
            known = await self._accounts.user_with_address(session, identity.email)
        if known is not None:
            if identity.role is Role.CLIENT:  # `_follow_role` may lock them, and nobody locks one of them before all
                await lock_administrators(session)
            user = await lock_user(session, known.id)
            if user.link_until is None or user.link_until <= self._clock.now():
                self._note(session, "refuse_identity", user, actor=SYSTEM, identity=identity)
                sentence = (
                    f"there is an account for {user.email} already, and this sign-in is not linked to it; "
                    f"ask an administrator to link the subject {identity.subject}"
                )
                return Refused(ForbiddenError(sentence, code="identity_not_linked"))
            user.link_until = None
            self._note(session, "link_identity", user, actor=SYSTEM, identity=identity)
        elif identity.may_join and identity.email is not None:
            user = await self._accounts.create_user(
                session, email=identity.email, name=identity.name, role=Role.CLIENT, actor=SYSTEM
            )
            self._note(session, "link_identity", user, actor=SYSTEM, identity=identity)
        else:
            sentence = "you have no account here, and none is made by signing in; ask an administrator"
            return Refused(ForbiddenError(sentence, code="no_account"))
        row = IdentityRow(
            id=new_id("idn"),
            user_id=user.id,
            issuer=identity.issuer,
            subject=identity.subject,
            email=identity.email,
            linked_by=None,
            created_at=self._clock.now(),
        )
        session.add(row)
        await session.flush()
        return row, user

    async def _follow_role(self, session: Session, user: UserRow, role: Role) -> UserRow:
        """Give the role that the provider says; the last active administrator stays one, whatever it says."""
        people = self._accounts.people
        if role is Role.CLIENT and not await people.keep_an_administrator(session, user):
            return user
        user = await lock_user(session, user.id)
        await people.give_role(session, user, role, actor=SYSTEM)
        return user

    # For administrators

    async def list_identities(self, session: ReadSession, user: str, *, actor: Actor) -> Sequence[IdentityRow]:
        """Return the identities that sign a user in. Administrators only."""
        row = await self._accounts.people.show_user(session, user, actor=actor)
        return await store.identities_of(session, row.id)

    async def link_subject(
        self, session: Session, user: str, *, issuer: str, subject: str, actor: Actor
    ) -> IdentityRow:
        """Let the provider's subject sign a user in. Administrators only, and no keys of theirs."""
        row = await self._to_link(session, user, actor=actor)
        if not 1 <= len(subject) <= _MOST_SUBJECT or not subject.isprintable():
            sentence = f"a subject has 1 to {_MOST_SUBJECT} printable characters"
            raise InvalidInputError(sentence, fields=[FieldError("subject", "subject", sentence)])
        if await store.identity(session, issuer, subject) is not None:
            raise taken("subject", subject)
        made = IdentityRow(
            id=new_id("idn"),
            user_id=row.id,
            issuer=issuer,
            subject=subject,
            email=None,
            linked_by=actor.user_id,
            created_at=self._clock.now(),
        )
        session.add(made)
        self._record(session, "link_identity", row, actor=actor, issuer=issuer, known_as=subject)
        await session.flush()
        return made

    async def link_by_address(self, session: Session, user: str, *, issuer: str, actor: Actor) -> datetime:
        """Let the first identity that comes with the user's verified address sign them in; return until when."""
        row = await self._to_link(session, user, actor=actor)
        row.link_until = self._clock.now() + _LINK_BY_ADDRESS
        self._record(session, "allow_linking_by_address", row, actor=actor, issuer=issuer)
        return row.link_until

    async def unlink_identity(self, session: Session, user: str, identity_id: str, *, actor: Actor) -> None:
        """Let an identity sign a user in no longer. Sessions go on until they are revoked."""
        row = await self._to_link(session, user, actor=actor)
        found = next((one for one in await store.identities_of(session, row.id) if one.id == identity_id), None)
        if found is None:
            raise NotFoundError("no such identity")
        await session.delete(found)
        self._record(session, "unlink_identity", row, actor=actor, issuer=found.issuer, known_as=found.subject)

    async def _to_link(self, session: Session, user: str, *, actor: Actor) -> UserRow:
        require_administrator(actor, Scope.WRITE)
        require_hand(actor)
        row = await lock_user(session, (await self._accounts.people.show_user(session, user, actor=actor)).id)
        if row.deleted_at is not None:
            raise ConflictError(f"{row.email} is being deleted", code="user_deleting")
        return row

    # Pieces

    def _note(self, session: Session, verb: str, row: UserRow, *, actor: Actor, identity: Identity) -> None:
        self._record(
            session, verb, row, actor=actor, issuer=identity.issuer, known_as=identity.subject, said=identity.email
        )

    def _record(self, session: Session, verb: str, row: UserRow, *, actor: Actor, **data: Any) -> None:
        record_act_on(session, verb, row, actor=actor, at=self._clock.now(), email=row.email, **data)
