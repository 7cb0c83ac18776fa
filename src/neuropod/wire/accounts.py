"""Who one is: sessions of browsers, the person, API keys, and how the command line gets its key."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from neuropod.wire.shapes import Answer, Page, Request
from neuropod.words import Role, Scope


class Me(Answer):
    """The person that a request comes from."""

    id: str
    email: str
    name: str
    role: Role
    hash: str
    """The 8 characters that stand for this person in host names."""

    has_password: bool
    """Whether they can sign in with a password; otherwise only by a one-time link."""

    scopes: list[Scope]
    """What this request's key or session may do."""

    via: Literal["session", "key"]
    """How this request is signed in."""


class MeEdit(Request):
    """Changes to oneself."""

    name: Annotated[str, Field(json_schema_extra={"maxLength": 100})]


class PasswordChange(Request):
    """A new password. Needs a browser session."""

    new_password: SecretStr
    current_password: SecretStr | None = None
    """Needed when one is set, unless a one-time link began this session within the hour."""


class SignIn(Request):
    """Signing in with a password."""

    email: str
    password: SecretStr


class Session(Answer):
    """A signed-in browser; its token is in the cookie alone."""

    id: str
    user: Me
    created_at: datetime
    expires_at: datetime
    """When it ends unless it is used before."""


class ApiKey(Answer):
    """A key for programs, sent as `Authorization: Bearer …`."""

    id: str
    name: str
    prefix: str
    """Its first characters, for recognition; the rest is not kept."""

    scopes: list[Scope]
    preset: bool
    """Whether it comes from the server's own settings (NEUROPOD_ADMIN_API_KEY)."""

    created_at: datetime
    used_at: datetime | None
    """Last use, to the minute."""

    expires_at: datetime | None


class ApiKeyCreate(Request):
    """A new key. Needs a browser session: a key cannot make keys."""

    name: Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": 100})]
    scopes: list[Scope]
    """A set; none implies another. `admin` needs the role too; `ports` alone passes the gate."""

    expires_at: datetime | None = None


class ApiKeyCreated(ApiKey):
    """The answer to its creation, the only time that the key itself is shown."""

    key: str


class ApiKeyPage(Page[ApiKey]):
    """A part of the list of one's keys."""


class KeyRequest(Request):
    """A program (`neuropod login`) asks for a key that a signed-in person confirms in their browser."""

    name: Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": 100})]
    """What the key will be called: `neuropod on <host name>`."""

    scopes: list[Scope]


class KeyRequestCreated(Answer):
    """What the program does next: show `url` and `code`, then ask for the key until it is confirmed or expired."""

    id: str
    secret: str
    """Proves, when asking for the key, that it is this program's request."""

    code: str
    """Shown by the program, and by the page that asks the person whether it is the same."""

    url: str
    """The page on which a signed-in person confirms."""

    expires_at: datetime
    interval_seconds: int
    """How long to wait between two questions."""


class KeyClaim(Request):
    """The program asks whether its request was confirmed."""

    secret: SecretStr


class KeyClaimed(Answer):
    """The state of a key request. Once `confirmed` is answered the request is used up."""

    status: Literal["waiting", "confirmed", "refused"]
    key: ApiKeyCreated | None = None
