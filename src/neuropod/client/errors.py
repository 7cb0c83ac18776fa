"""What goes wrong between a program and the API: the server's own errors again, and two that no server can send."""

import httpx
from pydantic import ValidationError

from neuropod.kit.errors import (
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    NeuropodError,
    NotFoundError,
    ThrottledError,
    UnauthenticatedError,
    UnavailableError,
)
from neuropod.wire.problems import Problem

_OF_STATUS: dict[int, type[NeuropodError]] = {
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidInputError,
    503: UnavailableError,
}
_THROTTLED = 429


class UnreachableError(UnavailableError):
    """No server answers at that address."""

    code = "unreachable"


class NotNeuropodError(NeuropodError):
    """Something answers at that address, and it is not Neuropod's API."""

    code = "not_neuropod"


def error_of(response: httpx.Response, url: str) -> NeuropodError:
    """Return the error that an answer (already read) stands for."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        status = response.status_code
        if status in {502, 503, 504}:
            return UnavailableError(f"{url} answered {status}: a proxy is there, and the server behind it is not")
        return NotNeuropodError(f"{url} answered {status}, and not as Neuropod's API does")
    fields = [FieldError(wrong.field, wrong.code, wrong.message) for wrong in problem.fields]
    if problem.status == _THROTTLED:
        return ThrottledError(problem.detail, retry_after_seconds=_seconds(response.headers.get("Retry-After", "")))
    error = _OF_STATUS.get(problem.status, NeuropodError)(problem.detail, code=problem.code, fields=fields)
    error.status = problem.status
    return error


def _seconds(text: str) -> int:
    return int(text) if text.isdecimal() else 1
