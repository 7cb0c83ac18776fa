"""The rows of accounts."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.record import Record
from neuropod.words import UserStatus


class UserRow(Record):
    """A person. A deleted one keeps the row (`deleted_at`), so that history keeps its names; the address is free again.

    `closed_at` is set once nothing of a deleted person's is left but what was to be kept.
    """

    __tablename__ = "users"
    __table_args__ = (
        Index(
            "uq_users_email_open",
            "email",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str]  # lower case
    name: Mapped[str]
    role: Mapped[str]  # words.Role
    hash: Mapped[str] = mapped_column(unique=True)  # 8 characters in host names and namespaces
    password_hash: Mapped[str | None]  # argon2id; None: signs in by link
    created_at: Mapped[datetime]
    suspended_at: Mapped[datetime | None] = mapped_column(default=None)
    deleted_at: Mapped[datetime | None] = mapped_column(default=None)
    volumes_at_end: Mapped[str | None] = mapped_column(default=None)  # words.VolumesAtEnd, said with the deletion
    closed_at: Mapped[datetime | None] = mapped_column(default=None)
    link_until: Mapped[datetime | None] = mapped_column(default=None)  # an identity with this address may link itself

    @property
    def active(self) -> bool:
        """Neither suspended nor deleted: may sign in and pass gates."""
        return self.suspended_at is None and self.deleted_at is None

    @property
    def status(self) -> UserStatus:
        """What they are shown as."""
        if self.deleted_at is not None:
            return UserStatus.DELETING if self.closed_at is None else UserStatus.DELETED
        return UserStatus.ACTIVE if self.suspended_at is None else UserStatus.SUSPENDED


class IdentityRow(Record):
    """A person at a sign-in provider (OpenID Connect), known by issuer and subject, never by an e-mail address."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id), index=True)
    issuer: Mapped[str]
    subject: Mapped[str]
    email: Mapped[str | None]  # what the provider said last; for people to read
    linked_by: Mapped[str | None]  # the administrator who linked it; None: made with the account
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None] = mapped_column(default=None)


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
