"""Users as administrators see them, and the browsers that are signed in."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from neuropod.wire.shapes import Answer, Page, Request
from neuropod.words import Role, UserStatus, VolumesAtEnd


class User(Answer):
    """A user."""

    id: str
    email: str
    name: str
    role: Role
    status: UserStatus
    """`deleting`: signed out for good, and something of theirs is left."""

    hash: str
    """The 8 characters that stand for this user in host names."""

    has_password: bool
    pods: int
    """How many they have, stopped ones included."""

    created_at: datetime
    seen_at: datetime | None
    """When a session or a key of theirs was used last."""

    suspended_at: datetime | None
    deleted_at: datetime | None
    volumes_at_end: VolumesAtEnd | None
    """What was said with the deletion about their volumes."""


class UserPage(Page[User]):
    """A part of the list of users, by address."""


class UserCreate(Request):
    """A new user. They sign in by a one-time link (`…/sign-in-link`) until they set a password."""

    email: str
    name: Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": 100})] | None = None
    """Default: what stands before the @."""

    role: Role = Role.CLIENT
    """Another administrator is made by a person in a session, not by a key."""


class UserEdit(Request):
    """Changes to a user; what is absent stays."""

    name: Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": 100})] | None = None
    role: Role | None = None
    """Given by a person in a session, not by a key."""


class UserSuspend(Request):
    """Why somebody is suspended."""

    reason: Annotated[str, Field(max_length=500)] = ""
    """Kept in the audit log, where the user sees it too."""


class SignInLink(Answer):
    """A one-time link that signs somebody in: to invite them, or to let them set a new password.

    This answer alone has it. Earlier links of the same user have ended.
    """

    email: str
    url: str
    expires_at: datetime


class BrowserSession(Answer):
    """A browser that is signed in."""

    id: str
    current: bool
    """Whether this request came from it."""

    address: str
    """Where it signed in from."""

    user_agent: str
    by_link: bool
    """Whether it began with a one-time link."""

    created_at: datetime
    used_at: datetime
    """Last use, to the hour."""

    expires_at: datetime


class BrowserSessionPage(Page[BrowserSession]):
    """A part of the list of sessions, newest first."""


class SessionsRevoked(Answer):
    """How many sessions were ended."""

    revoked: int


class Identity(Answer):
    """A person at the sign-in provider, who signs a user in here."""

    id: str
    issuer: str
    subject: str
    """The provider's own name for them, which never changes there."""

    email: str | None
    """The address that the provider said last; it decides nothing."""

    created_at: datetime
    used_at: datetime | None


class IdentityPage(Page[Identity]):
    """All identities of a user."""


class IdentityLink(Request):
    """Which identity shall sign a user in: exactly one of these."""

    subject: str | None = None
    """The provider's subject; it is shown to whoever is refused because they are not linked."""

    by_address: bool = False
    """The first that comes within a week with the user's verified address."""


class IdentityLinked(Answer):
    """What was linked now, or until when the first with the user's address links itself."""

    identity: Identity | None
    by_address_until: datetime | None
