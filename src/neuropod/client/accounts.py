"""Who one is: oneself, API keys, how a program gets its key, and a browser's session where only a person may act."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from http.cookies import CookieError, SimpleCookie

from pydantic import SecretStr

from neuropod.client.connection import Connection
from neuropod.client.users import user_path
from neuropod.kit.errors import NeuropodError, UnauthenticatedError
from neuropod.wire.accounts import (
    ApiKey,
    ApiKeyCreate,
    ApiKeyCreated,
    ApiKeyPage,
    KeyClaim,
    KeyClaimed,
    KeyRequest,
    KeyRequestCreated,
    Me,
    PasswordChange,
    SignIn,
)
from neuropod.wire.users import IdentityLink, IdentityLinked, SignInLink, User, UserCreate, UserEdit
from neuropod.words import Scope


class Accounts:
    """The nouns of people."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def show_me(self) -> Me:
        """Return who the key stands for."""
        return self._connection.ask(Me, "GET", "/me")

    def list_keys(self) -> Iterator[ApiKey]:
        """Yield one's keys, newest first."""
        return self._connection.pages(ApiKeyPage, "/api-keys")

    def ask_for_key(self, name: str, scopes: list[Scope]) -> KeyRequestCreated:
        """Ask for a key that a signed-in person confirms in their browser."""
        return self._connection.ask(
            KeyRequestCreated, "POST", "/key-requests", body=KeyRequest(name=name, scopes=scopes)
        )

    def claim_key(self, request: KeyRequestCreated) -> KeyClaimed:
        """Ask whether it was confirmed."""
        body = KeyClaim(secret=SecretStr(request.secret))
        return self._connection.ask(KeyClaimed, "POST", f"/key-requests/{request.id}/claim", body=body)


class Person:
    """What only a person in a session may do (SECURITY 27)."""

    def __init__(self, connection: Connection, headers: dict[str, str]) -> None:
        self._connection = connection
        self._headers = headers

    def create_key(self, name: str, scopes: list[Scope], *, expires_at: datetime | None) -> ApiKeyCreated:
        """Make a key; this answer alone holds it."""
        body = ApiKeyCreate(name=name, scopes=scopes, expires_at=expires_at)
        return self._connection.ask(ApiKeyCreated, "POST", "/api-keys", body=body, headers=self._headers)

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key."""
        self._connection.send("DELETE", f"/api-keys/{key_id}", headers=self._headers)

    def set_password(self, new_password: str, current_password: str) -> None:
        """Set one's password; other sessions end."""
        body = PasswordChange(new_password=SecretStr(new_password), current_password=SecretStr(current_password))
        self._connection.send("PUT", "/me/password", body=body, headers=self._headers)

    def create_user(self, asked: UserCreate) -> User:
        """Make a user."""
        return self._connection.ask(User, "POST", "/users", body=asked, headers=self._headers)

    def edit_user(self, user: str, asked: UserEdit) -> User:
        """Give a user another role or name."""
        return self._connection.ask(User, "PATCH", user_path(user), body=asked, headers=self._headers)

    def make_sign_in_link(self, user: str) -> SignInLink:
        """Make a one-time link; this answer alone holds it."""
        return self._connection.ask(SignInLink, "POST", user_path(user, "sign-in-link"), headers=self._headers)

    def link_identity(self, user: str, asked: IdentityLink) -> IdentityLinked:
        """Let an identity of the sign-in provider sign a user in."""
        path = user_path(user, "identities")
        return self._connection.ask(IdentityLinked, "POST", path, body=asked, headers=self._headers)

    def unlink_identity(self, user: str, identity_id: str) -> None:
        """Let an identity sign a user in no longer."""
        self._connection.send("DELETE", user_path(user, "identities", identity_id), headers=self._headers)

    def sign_out(self) -> None:
        """End the session."""
        self._connection.send("DELETE", "/session", headers=self._headers)


@contextmanager
def session_of(console: Connection, email: str, password: str) -> Iterator[Person]:
    """Sign in with a password at the console's own address, and sign out at the end.

    The cookie is carried by hand: it is meant for browsers, and only for the console's host.
    """
    response = console.send("POST", "/session", body=SignIn(email=email, password=SecretStr(password)))
    person = Person(console, {"Cookie": _cookie(response.headers.get_list("set-cookie")), "Origin": console.url})
    try:
        yield person
    finally:
        with suppress(NeuropodError):
            person.sign_out()


def _cookie(set_cookies: list[str]) -> str:
    for header in set_cookies:
        with suppress(CookieError):
            for name, morsel in SimpleCookie(header).items():
                return f"{name}={morsel.coded_value}"
    raise UnauthenticatedError("the server gave no session")
