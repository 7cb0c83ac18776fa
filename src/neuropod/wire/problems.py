"""Errors as RFC 9457 has them (`application/problem+json`), with a stable code and the wrong fields."""

from pydantic import Field

from neuropod.wire.shapes import Answer


class WrongField(Answer):
    """One wrong field of a request."""

    field: str
    """Its path in the request: `ports.0.port`; empty for the request as a whole."""

    code: str
    """The rule's stable code: `missing`, `unknown`, `type`, `taken`, …"""

    message: str
    """A sentence that names the rule."""


class Problem(Answer):
    """Why a request had no effect."""

    type: str = "about:blank"
    """Always `about:blank`: `code` is what programs look at."""

    title: str
    """The status in words."""

    status: int
    """The HTTP status."""

    detail: str
    """A sentence for people, which says what to do where something can be done."""

    code: str
    """Stable: `not_found`, `invalid`, `name_taken`, `restart_required`, …"""

    fields: list[WrongField] = Field(default_factory=list)
    """All wrong fields at once."""
