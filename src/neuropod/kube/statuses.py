"""What an API server says when it refuses: its Status, read, and made into our errors. Pure.

Used by client and informer. The server's sentences are for people and quote what they complain about, so what was said
about a Secret is left out of them.
"""

import msgspec

from neuropod.kube.errors import KubeError, NoSuchKindError, refusal
from neuropod.kube.shapes import Shape

_LONGEST = 2000


class Cause(Shape, frozen=True):
    """One thing that is wrong, and where."""

    reason: str = ""
    message: str = ""
    field: str = ""


class Details(Shape, frozen=True):
    """Which object it is about, and when to ask again."""

    name: str = ""
    kind: str = ""
    causes: tuple[Cause, ...] = ()
    retry_after_seconds: int = 0


class Status(Shape, frozen=True):
    """An API server's answer that is no object (meta/v1 Status)."""

    status: str = ""
    reason: str = ""
    message: str = ""
    code: int = 0
    details: Details | None = None


_DECODER = msgspec.json.Decoder(Status)


def read_status(content: bytes) -> Status | None:
    """Return the Status that an answer holds; None when it is something else (a proxy's page, plain text)."""
    try:
        status = _DECODER.decode(content)
    except msgspec.DecodeError:
        return None
    return status if status.status or status.reason or status.code else None


def refusal_of(code: int, content: bytes, *, private: bool = False) -> KubeError:
    """Return the error for an answer. `private`: it was about a Secret, so the server's own words are not told."""
    status = read_status(content)
    if status is None:
        if code == 404:
            return NoSuchKindError(404, "", "the cluster does not know this path")
        return refusal(code, "", f"the server refused with {code}, without saying why")
    if private:
        where = ", ".join(cause.field for cause in (status.details.causes if status.details else ()) if cause.field)
        message = "the server refused the Secret" + (f" because of {where}" if where else "")
    else:
        message = status.message[:_LONGEST] or "the server refused, without saying why"
    if code == 404 and not (status.details and status.details.name):
        return NoSuchKindError(404, status.reason, message)
    if code == 422 and _is_about_identity(status):
        # A patch that names another UID is answered as a wrong field; it is the wrong object.
        return refusal(409, "Conflict", message)
    return refusal(code, status.reason, message)


def _is_about_identity(status: Status) -> bool:
    return status.details is not None and any(cause.field == "metadata.uid" for cause in status.details.causes)


def retry_after_seconds(header: str | None, content: bytes) -> float | None:
    """Return how long the server asks to wait; None when it does not say."""
    if header is not None and header.strip().isdigit():
        return float(header)
    status = read_status(content)
    if status is not None and status.details is not None and status.details.retry_after_seconds > 0:
        return float(status.details.retry_after_seconds)
    return None
