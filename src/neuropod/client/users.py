"""Users, for administrators; sessions, one's own and theirs; the audit log. A user is named by id or address."""

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote

from neuropod.client.connection import Connection
from neuropod.wire.accounts import ApiKey, ApiKeyPage
from neuropod.wire.audit import AuditEntry, AuditPage
from neuropod.wire.users import (
    BrowserSession,
    BrowserSessionPage,
    Identity,
    IdentityPage,
    SessionsRevoked,
    User,
    UserCreate,
    UserPage,
    UserSuspend,
)
from neuropod.words import Role, UserStatus, VolumesAtEnd


def user_path(user: str, *rest: str) -> str:
    """Return the path of a user, or of something of theirs."""
    return "/".join(["/users", quote(user, safe="@"), *(quote(part, safe="") for part in rest)])


class Users:
    """`/api/v1/users`, `/api/v1/me/sessions`, `/api/v1/audit`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_users(
        self, *, search: str | None = None, role: Role | None = None, status: UserStatus | None = None
    ) -> Iterator[User]:
        """Yield users by address."""
        return self._connection.pages(UserPage, "/users", params={"search": search, "role": role, "status": status})

    def show_user(self, user: str) -> User:
        """Return a user."""
        return self._connection.ask(User, "GET", user_path(user))

    def create_user(self, asked: UserCreate) -> User:
        """Make a client; an administrator is made by a person."""
        return self._connection.ask(User, "POST", "/users", body=asked)

    def suspend_user(self, user: str, reason: str) -> User:
        """Suspend a user; their pods are stopped."""
        return self._connection.ask(User, "POST", user_path(user, "suspend"), body=UserSuspend(reason=reason))

    def reinstate_user(self, user: str) -> User:
        """Let a suspended user in again."""
        return self._connection.ask(User, "POST", user_path(user, "reinstate"))

    def delete_user(self, user: str, volumes: VolumesAtEnd) -> User:
        """Delete a user and their pods."""
        return self._connection.ask(User, "DELETE", user_path(user), params={"volumes": volumes})

    def list_identities(self, user: str) -> list[Identity]:
        """Return who at the sign-in provider signs a user in."""
        return self._connection.ask(IdentityPage, "GET", user_path(user, "identities")).items

    def list_keys(self, user: str) -> Iterator[ApiKey]:
        """Yield a user's API keys, newest first."""
        return self._connection.pages(ApiKeyPage, user_path(user, "api-keys"))

    def revoke_key(self, user: str, key_id: str) -> None:
        """Revoke an API key of a user."""
        self._connection.send("DELETE", user_path(user, "api-keys", key_id))

    # Sessions: of oneself without a user

    def list_sessions(self, user: str | None = None) -> Iterator[BrowserSession]:
        """Yield where somebody is signed in, newest first."""
        return self._connection.pages(BrowserSessionPage, _sessions(user))

    def revoke_session(self, session_id: str, user: str | None = None) -> None:
        """End a session."""
        self._connection.send("DELETE", f"{_sessions(user)}/{quote(session_id, safe='')}")

    def revoke_sessions(self, user: str | None = None) -> int:
        """End all sessions; return how many."""
        return self._connection.ask(SessionsRevoked, "DELETE", _sessions(user)).revoked

    # The audit log

    def list_audit(
        self,
        *,
        user: str | None = None,
        actor: str | None = None,
        verb: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Iterator[AuditEntry]:
        """Yield who did what, newest first."""
        params = {
            "user": user,
            "actor": actor,
            "verb": verb,
            "subject": subject,
            "since": None if since is None else since.isoformat(),
        }
        return self._connection.pages(AuditPage, "/audit", params=params, limit=limit)


def _sessions(user: str | None) -> str:
    return "/me/sessions" if user is None else user_path(user, "sessions")
