"""What administrators do with users, and what users do with their sessions.

Called by api; suspending, reinstating and deleting by `pods.people`, since pods follow. Nobody suspends or deletes
themselves, and one active administrator is always left: whoever takes an administrator's rights away locks all
administrators first. Roles, sign-in links and identities are given by people, never by keys (SECURITY 27).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from neuropod.accounts.access import Actor, require_administrator, require_hand, require_scope
from neuropod.accounts.acts import record_act_on
from neuropod.accounts.people import store
from neuropod.accounts.records import SessionRow, UserRow
from neuropod.accounts.registries.store import delete_registries
from neuropod.accounts.secrets.store import delete_secrets
from neuropod.db.audit import record_act
from neuropod.db.engine import ReadSession, Session, Topic
from neuropod.db.events import record_event
from neuropod.ids import UserId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from neuropod.kit.paging import Page
from neuropod.words import Role, Scope, UserStatus, VolumesAtEnd


@dataclass(frozen=True, slots=True)
class UserFilters:
    """Which users a list shows."""

    search: str | None = None  # a part of the address or the name
    role: Role | None = None
    status: UserStatus | None = None  # None: all but the deleted


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change about a user; what is None stays."""

    role: Role | None = None
    name: str | None = None


class People:
    """The use-cases. Each takes a session and never commits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    # Looking

    async def list_users(
        self, session: ReadSession, *, actor: Actor, filters: UserFilters, cursor: str | None, limit: int
    ) -> Page[UserRow]:
        """Return users by address. Administrators only."""
        require_administrator(actor, Scope.READ)
        return await store.users_page(
            session, search=filters.search, role=filters.role, status=filters.status, cursor=cursor, limit=limit
        )

    async def show_user(self, session: ReadSession, user: str, *, actor: Actor) -> UserRow:
        """Return a user by id or address. Administrators only."""
        require_administrator(actor, Scope.READ)
        return await self._found(session, user)

    async def last_uses(self, session: ReadSession, users: Sequence[UserRow]) -> Mapping[str, datetime]:
        """Return when each of them was last seen."""
        return await store.last_uses(session, {user.id for user in users})

    async def named(self, session: ReadSession, ids: set[str]) -> Mapping[str, UserRow]:
        """Return users by id, for who shows names beside ids."""
        return await store.users_by_id(session, ids)

    # Changing

    async def change_user(self, session: Session, user: str, changes: Changes, *, actor: Actor) -> UserRow:
        """Give a user another role or name. A role is given by a person, not by a key."""
        require_administrator(actor, Scope.WRITE)
        if changes.role is not None:
            require_hand(actor)
        if changes.name is not None and (wrong := wrong_person_name(changes.name)):
            raise InvalidInputError(wrong[0].message, fields=wrong)
        row = await self._found(session, user)
        if changes.role is Role.CLIENT:
            await self._keep_an_administrator(session, row)
        row = await self._locked(session, row)
        if changes.name is not None and changes.name.strip() != row.name:
            row.name = changes.name.strip()
            self._note(session, "rename_user", row, actor=actor)
        if changes.role is not None and row.role != changes.role:
            await self.give_role(session, row, changes.role, actor=actor)
        return row

    async def give_role(self, session: Session, row: UserRow, role: Role, *, actor: Actor) -> None:
        """Write another role down; the caller has the row locked, and has kept an administrator."""
        before, row.role = row.role, role
        session.nudge(Topic.ROUTES)
        self._note(session, "change_role", row, actor=actor, before=before, role=role)
        await session.flush()
        message = f"The role of {row.email} is {role} now."
        await record_event(session, "user.role_changed", message, at=self._clock.now(), owner_id=UserId(row.id))

    async def keep_an_administrator(self, session: Session, row: UserRow) -> bool:
        """Tell whether an active administrator would be left without this one; all are locked from now on."""
        administrators = await store.lock_administrators(session)
        return administrators != [row.id]

    async def begin_suspension(self, session: Session, user: str, *, actor: Actor, reason: str) -> tuple[UserRow, bool]:
        """Suspend a user: sessions and links end, keys count for nothing while it lasts. Tell whether that is new.

        The caller holds the user's account lock and stops their pods.
        """
        require_administrator(actor, Scope.WRITE)
        row = await self._not_oneself(session, user, actor, "suspend")
        await self._keep_an_administrator(session, row)
        row = await self._locked(session, row)
        if row.suspended_at is not None:
            return row, False
        row.suspended_at = self._clock.now()
        await self._end_sign_ins(session, row)
        self._note(session, "suspend_user", row, actor=actor, reason=reason)
        return row, True

    async def end_suspension(self, session: Session, user: str, *, actor: Actor) -> UserRow:
        """Let a suspended user in again: their keys count again, they sign in anew, their pods stay stopped."""
        require_administrator(actor, Scope.WRITE)
        row = await self._locked(session, await self._found(session, user))
        if row.suspended_at is None:
            return row
        row.suspended_at = None
        session.nudge(Topic.ROUTES)
        self._note(session, "reinstate_user", row, actor=actor)
        await session.flush()
        message = f"{row.email} is no longer suspended; stopped pods can be started again."
        await record_event(session, "user.reinstated", message, at=self._clock.now(), owner_id=UserId(row.id))
        return row

    async def begin_deletion(
        self, session: Session, user: str, *, volumes: VolumesAtEnd, actor: Actor
    ) -> tuple[UserRow, bool]:
        """Delete a user: sessions, links, keys, identities, secrets, registries and password end now.

        Tell whether that is new. The caller holds the user's account lock and deletes their pods; `close` comes when
        nothing is left.
        """
        require_administrator(actor, Scope.WRITE)
        row = await self._not_oneself(session, user, actor, "delete")
        if row.deleted_at is not None:
            return row, False
        await self._keep_an_administrator(session, row)
        row = await self._locked(session, row)
        now = self._clock.now()
        row.deleted_at, row.volumes_at_end = now, volumes
        row.password_hash = row.link_until = None
        await self._end_sign_ins(session, row)
        await store.revoke_keys(session, row.id, now=now)
        await store.delete_identities(session, row.id)
        await delete_secrets(session, row.id)
        await delete_registries(session, row.id)
        self._note(session, "delete_user", row, actor=actor, volumes=volumes)
        return row, True

    async def close(self, session: Session, user_id: UserId, *, actor: Actor) -> None:
        """Write down that nothing of a deleted user's is left but what was to be kept."""
        row = await store.lock_user(session, user_id)
        if row.deleted_at is not None and row.closed_at is None:
            row.closed_at = self._clock.now()
            self._note(session, "close_user", row, actor=actor)

    # Sessions

    async def list_sessions(
        self, session: ReadSession, user: str | None, *, actor: Actor, cursor: str | None, limit: int
    ) -> Page[SessionRow]:
        """Return the sessions that last: one's own, or (administrators) those of `user`."""
        user_id = await self._whose(session, user, actor=actor, scope=Scope.READ)
        return await store.sessions_page(session, user_id, now=self._clock.now(), cursor=cursor, limit=limit)

    async def revoke_session(self, session: Session, user: str | None, session_id: str, *, actor: Actor) -> None:
        """End a session of one's own, or (administrators) one of `user`. Its open streams are cut within seconds."""
        user_id = await self._whose(session, user, actor=actor, scope=Scope.WRITE)
        if not await store.revoke_session(session, user_id, session_id, now=self._clock.now()):
            raise NotFoundError("no such session")
        await self._tell_of_sessions(session, user_id, "revoke_session", f"session/{session_id}", 1, actor=actor)

    async def revoke_sessions(self, session: Session, user: str | None, *, actor: Actor) -> int:
        """End all sessions of one's own but the one that asks, or (administrators) all of `user`; return how many."""
        user_id = await self._whose(session, user, actor=actor, scope=Scope.WRITE)
        count = await store.revoke_sessions(session, user_id, now=self._clock.now(), keep=actor.session_id)
        if count:
            await self._tell_of_sessions(session, user_id, "revoke_sessions", f"user/{user_id}", count, actor=actor)
        return count

    async def _tell_of_sessions(
        self, session: Session, user_id: str, verb: str, subject: str, count: int, *, actor: Actor
    ) -> None:
        session.nudge(Topic.ROUTES)
        now, owner_id = self._clock.now(), UserId(user_id)
        record_act(
            session, verb, subject, at=now, actor_id=actor.user_id, via=actor.via, owner_id=owner_id, count=count
        )
        if actor.user_id != user_id:
            await session.flush()
            message = f"An administrator has ended {count} of your sessions; sign in again."
            await record_event(session, "user.sessions_revoked", message, at=now, owner_id=owner_id)

    # Pieces

    async def _found(self, session: ReadSession, user: str) -> UserRow:
        row = await store.user_named(session, user)
        if row is None or row.closed_at is not None:
            raise NotFoundError("no such user")
        return row

    async def _locked(self, session: Session, row: UserRow) -> UserRow:
        row = await store.lock_user(session, row.id)
        if row.deleted_at is not None:
            raise ConflictError(f"{row.email} is being deleted", code="user_deleting")
        return row

    async def _not_oneself(self, session: ReadSession, user: str, actor: Actor, verb: str) -> UserRow:
        row = await self._found(session, user)
        if row.id == actor.user_id:
            raise ConflictError(f"you cannot {verb} yourself; another administrator can", code="not_yourself")
        return row

    async def _keep_an_administrator(self, session: Session, row: UserRow) -> None:
        if not await self.keep_an_administrator(session, row):
            sentence = f"{row.email} is the last active administrator; make somebody else one first"
            raise ConflictError(sentence, code="last_administrator")

    async def _end_sign_ins(self, session: Session, row: UserRow) -> None:
        now = self._clock.now()
        await store.revoke_sessions(session, row.id, now=now)
        await store.end_links(session, row.id, now=now)
        session.nudge(Topic.ROUTES)

    async def _whose(self, session: ReadSession, user: str | None, *, actor: Actor, scope: Scope) -> str:
        if user is None:
            require_scope(actor, scope)
            if actor.user_id is None:
                raise NotFoundError("no such user")
            return actor.user_id
        require_administrator(actor, scope)
        return (await self._found(session, user)).id

    def _note(self, session: Session, verb: str, row: UserRow, *, actor: Actor, **data: Any) -> None:
        record_act_on(session, verb, row, actor=actor, at=self._clock.now(), email=row.email, **data)


def wrong_person_name(name: str, field: str = "name") -> list[FieldError]:
    """Return what is wrong with a person's name."""
    if 1 <= len(name.strip()) <= 100 and name.strip().isprintable():
        return []
    return [FieldError(field, "name", "a name has 1 to 100 printable characters")]
