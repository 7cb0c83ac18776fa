"""Who is asking, and what they may do: the one place with the rules, pure.

Every use-case takes `actor` by keyword. A thing that the actor may not see does not exist for them (NotFoundError);
a thing they see and may not change is a ForbiddenError.
"""

from dataclasses import dataclass
from typing import Literal

from neuropod.ids import ApiKeyId, SessionId, UserId
from neuropod.kit.errors import ForbiddenError, NotFoundError
from neuropod.words import Access, Role, Scope

Via = Literal["session", "key", "system", "machine"]

ALL_BUT_PORTS = frozenset({Scope.READ, Scope.WRITE, Scope.ADMIN})


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a user by session or key, the system itself (loops), or the machine's administrator (`operate`).

    `scopes` limits what the key may do; a session has all but `ports`, since browsers pass the gate by passes.
    """

    user_id: UserId | None
    role: Role
    scopes: frozenset[Scope]
    via: Via
    session_id: SessionId | None = None
    key_id: ApiKeyId | None = None
    address: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether administrators' rights are in force: the role, and the scope as well."""
        return self.role is Role.ADMIN and Scope.ADMIN in self.scopes


SYSTEM = Actor(user_id=None, role=Role.ADMIN, scopes=ALL_BUT_PORTS, via="system")
MACHINE = Actor(user_id=None, role=Role.ADMIN, scopes=ALL_BUT_PORTS, via="machine")


def require_scope(actor: Actor, scope: Scope) -> None:
    """Raise ForbiddenError unless the key or session has the scope."""
    if scope not in actor.scopes:
        raise ForbiddenError(f"this needs a key of scope '{scope}'", code="scope_missing")


def may_see(actor: Actor, owner_id: str) -> bool:
    """Tell whether things of that owner exist for the actor."""
    return actor.is_admin or actor.user_id == owner_id


def require_sight(actor: Actor, owner_id: str | None, what: str) -> None:
    """Raise NotFoundError unless the thing exists and the actor may see it; `owner_id` None is a missing thing."""
    if owner_id is None or not may_see(actor, owner_id):
        raise NotFoundError(f"no such {what}")


def require_session_of_self(actor: Actor) -> UserId:
    """Return the user's id when a person acts by a browser session; keys may not do this (SECURITY 27)."""
    if actor.via != "session" or actor.user_id is None:
        raise ForbiddenError("an API key cannot do this; sign in", code="session_needed")
    return actor.user_id


def require_administrator(actor: Actor, scope: Scope) -> None:
    """Raise ForbiddenError unless administrators' rights are in force, and the scope as well."""
    if not actor.is_admin:
        raise ForbiddenError("this is for administrators", code="admin_needed")
    require_scope(actor, scope)


def require_hand(actor: Actor) -> None:
    """Raise ForbiddenError when a key acts: rights and ways to sign in are given by people alone (SECURITY 27)."""
    if actor.via == "key":
        raise ForbiddenError("an API key cannot do this; sign in", code="session_needed")


def may_pass(access: Access, *, visitor_id: UserId | None, visitor_role: Role | None, owner_id: UserId) -> bool:
    """Tell whether a visitor passes the gate of a port; `visitor_id` is None for nobody known or an inactive user."""
    if access is Access.PUBLIC:
        return True
    if visitor_id is None:
        return False
    return access is Access.MEMBERS or visitor_id == owner_id or visitor_role is Role.ADMIN
