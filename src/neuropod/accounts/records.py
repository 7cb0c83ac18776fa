"""The rows of accounts."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.record import Record


class UserRow(Record):
    """A person. A deleted one keeps the row (`deleted_at`), so that history keeps its names."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)  # lower case
    name: Mapped[str]
    role: Mapped[str]  # words.Role
    hash: Mapped[str] = mapped_column(unique=True)  # 8 characters in host names and namespaces
    password_hash: Mapped[str | None]  # argon2id; None: signs in by link
    created_at: Mapped[datetime]
    suspended_at: Mapped[datetime | None] = mapped_column(default=None)
    deleted_at: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def active(self) -> bool:
        """Neither suspended nor deleted: may sign in and pass gates."""
        return self.suspended_at is None and self.deleted_at is None


class SessionRow(Record):
    """A signed-in browser. Only the token's hash is kept."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id), index=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    used_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)
    by_link: Mapped[bool] = mapped_column(default=False)  # began with a one-time link: may set a password without one
    address: Mapped[str]
    user_agent: Mapped[str]


class ApiKeyRow(Record):
    """A key for programs. Only its hash is kept, and its first characters for recognition."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id), index=True)
    name: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    prefix: Mapped[str]
    scopes: Mapped[list[Any]]  # words.Scope values
    preset: Mapped[bool] = mapped_column(default=False)  # from NEUROPOD_ADMIN_API_KEY
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None] = mapped_column(default=None)  # to the minute
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)


class SignInLinkRow(Record):
    """A one-time link that signs in (SECURITY 32)."""

    __tablename__ = "sign_in_links"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id))
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None] = mapped_column(default=None)


class SignInFailureRow(Record):
    """A try to sign in with a password, counted by account and address (SECURITY 31); gone once it succeeds, or old.

    Written before the password is looked at, so that a hundred tries at once count as a hundred.
    """

    __tablename__ = "sign_in_failures"
    __table_args__ = (
        Index("ix_sign_in_failures_email_at", "email", "at"),
        Index("ix_sign_in_failures_address_at", "address", "at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str]
    address: Mapped[str]
    at: Mapped[datetime]


class KeyRequestRow(Record):
    """A program (`neuropod login`) that asks for a key which a signed-in person confirms. No secret is kept."""

    __tablename__ = "key_requests"

    id: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)  # what the person compares; not a secret
    secret_hash: Mapped[str]  # proves that it is the same program
    name: Mapped[str]
    scopes: Mapped[list[Any]]  # words.Scope values
    address: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    confirmed_by: Mapped[str | None] = mapped_column(ForeignKey(UserRow.id), default=None)
    refused_at: Mapped[datetime | None] = mapped_column(default=None)
    claimed_at: Mapped[datetime | None] = mapped_column(default=None)
