"""What a provider's claims mean here, by the settings: who is let in, who is an administrator. Pure.

Rules that are set hold for everybody and at each sign-in. An e-mail address counts only when the provider says that it
is verified; it never decides whose account is opened (SECURITY 32), only whether somebody may have one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuropod.settings import OidcSettings
from neuropod.words import Role


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says that somebody is, and what that means here."""

    issuer: str
    subject: str
    email: str | None  # lower case; None unless it is verified
    name: str | None
    role: Role | None  # None: the settings leave roles to the administrators here
    refused: str | None  # why they are not let in; None: they are
    may_join: bool  # whether an account may be made for them


def identity_of(claims: Mapping[str, Any], settings: OidcSettings) -> Identity:
    """Return what verified claims mean."""
    email = _email(claims, settings)
    refused = _refused(claims, email, settings)
    invited = bool(settings.allowed_email_domains or settings.allowed_claim) or settings.allow_anyone
    return Identity(
        issuer=str(claims["iss"]),
        subject=str(claims["sub"]),
        email=email,
        name=_name(claims),
        role=_role(claims, settings),
        refused=refused,
        may_join=refused is None and settings.create_users and invited and email is not None,
    )


def _email(claims: Mapping[str, Any], settings: OidcSettings) -> str | None:
    email = claims.get("email")
    verified = claims.get("email_verified") in {True, "true"} or settings.trust_unverified_email
    return email.strip().lower() if isinstance(email, str) and verified else None


def _name(claims: Mapping[str, Any]) -> str | None:
    name = claims.get("name")
    if not isinstance(name, str):
        return None
    kept = "".join(letter for letter in name if letter.isprintable()).strip()[:100].strip()
    return kept or None


def _refused(claims: Mapping[str, Any], email: str | None, settings: OidcSettings) -> str | None:
    domains = {domain.lower() for domain in settings.allowed_email_domains}
    if domains and (email is None or email.rpartition("@")[2] not in domains):
        return "only verified e-mail addresses of certain domains may sign in here"
    if settings.allowed_claim is not None and not _matches(claims, settings.allowed_claim, settings.allowed_values):
        return "you are not in a group that may sign in here"
    return None


def _role(claims: Mapping[str, Any], settings: OidcSettings) -> Role | None:
    if settings.admin_claim is None:
        return None
    return Role.ADMIN if _matches(claims, settings.admin_claim, settings.admin_values) else Role.CLIENT


def _matches(claims: Mapping[str, Any], path: str, values: Sequence[str]) -> bool:
    found = value_at(claims, path)
    several = found if isinstance(found, list) else [found]
    return any(_text(one) in values for one in several if one is not None)


def value_at(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its name, or by names with dots between, as in `realm_access.roles`; None if there is none."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
