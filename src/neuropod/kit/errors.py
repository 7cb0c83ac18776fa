"""The errors that a caller of the API can meet, each with a stable code and its HTTP status (api makes RFC 9457 of it).

Raise the one whose name is the situation. Anything else that escapes is a defect and becomes a plain 500.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: its path in the request (`ports.0.port`), the rule's code, and a sentence naming the rule."""

    field: str
    code: str
    message: str


class NeuropodError(Exception):
    """A situation with a name. `code` is part of the API and never changes; `message` is for people."""

    status = 400
    code = "bad_request"

    def __init__(self, message: str, *, code: str | None = None, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.fields = tuple(fields)


class InvalidInputError(NeuropodError):
    """The request can be read but breaks rules; all wrong fields are in `fields` at once."""

    status = 422
    code = "invalid"


class UnauthenticatedError(NeuropodError):
    """Nobody known is asking."""

    status = 401
    code = "unauthenticated"


class ForbiddenError(NeuropodError):
    """The actor is known and may not do this at all (things of others are NotFoundError instead)."""

    status = 403
    code = "forbidden"


class NotFoundError(NeuropodError):
    """Does not exist, or is not the actor's to see: the answer is the same."""

    status = 404
    code = "not_found"


class ConflictError(NeuropodError):
    """True now, perhaps not later: a taken name, a state that does not allow the verb."""

    status = 409
    code = "conflict"


class ThrottledError(NeuropodError):
    """Too many tries; `retry_after_seconds` says when the next one is looked at."""

    status = 429
    code = "throttled"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(NeuropodError):
    """Nothing is wrong with the request; what would answer it cannot be reached now."""

    status = 503
    code = "unavailable"


class UpgradeNeededError(NeuropodError):
    """This is reached over a WebSocket alone."""

    status = 426
    code = "upgrade_required"


class UnsupportedError(NeuropodError):
    """Nothing is wrong with the request; what runs the thing does not have the ability."""

    status = 501
    code = "not_supported"


class NoSpaceError(NeuropodError):
    """The disk has no room for this; nothing was changed."""

    status = 507
    code = "disk_full"


def taken(field: str, value: str) -> ConflictError:
    """Return the error for a name that is in use."""
    sentence = f"{field} {value!r} is taken"
    return ConflictError(sentence, code="name_taken", fields=[FieldError(field, "taken", sentence)])
