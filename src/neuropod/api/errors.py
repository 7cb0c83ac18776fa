"""Errors as answers: RFC 9457 problems for programs, a small page for people. The only place that makes them.

A NeuropodError carries its status, code and wrong fields. What FastAPI finds wrong with a request's shape becomes the
same kind of list; where a route has a `WrongFieldsToo`, the use-case's own rules are asked as well, so that one answer
names all wrong fields. Anything else is a defect: logged with its traceback, answered without.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from socket import gaierror
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, IntegrityError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from neuropod.db.engine import is_away
from neuropod.kit.errors import (
    ConflictError,
    FieldError,
    InvalidInputError,
    NeuropodError,
    NotFoundError,
    ThrottledError,
    UnauthenticatedError,
    UnavailableError,
    UpgradeNeededError,
)
from neuropod.wire.problems import Problem, WrongField

MEDIA_TYPE = "application/problem+json"

# Asks the use-case what else is wrong with a request, given what is left of its body without the wrong fields.
WrongFieldsToo = Callable[[Request, dict[str, Any]], Awaitable[Sequence[FieldError]]]
Page = Callable[[Request, NeuropodError], Response]

_CODES = {"missing": "missing", "extra_forbidden": "unknown", "enum": "not_one_of", "literal_error": "not_one_of"}
_STATUS_CODES = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large", HTTPStatus.BAD_REQUEST: "bad_request"}
_log = structlog.get_logger(__name__)


def problem(error: NeuropodError) -> Response:
    """Return an error as a problem."""
    body = Problem(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.message,
        code=error.code,
        fields=[WrongField(field=wrong.field, code=wrong.code, message=wrong.message) for wrong in error.fields],
    )
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, UpgradeNeededError):
        headers["Upgrade"] = "websocket"
    if isinstance(error, ThrottledError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return JSONResponse(body.model_dump(mode="json"), error.status, headers, MEDIA_TYPE)


def internal_problem() -> Response:
    """Return what is said of a defect."""
    return problem(_internal())


def _internal() -> NeuropodError:
    error = NeuropodError("a fault of the server; its log says more", code="internal")
    error.status = 500
    return error


def install(app: FastAPI, page: Page, checks: Mapping[str, WrongFieldsToo]) -> None:
    """Let the app answer errors: `page` for people, `checks` by the name of a route's function."""

    def answer(request: Request, error: NeuropodError) -> Response:
        if request.url.path.startswith("/api/") or request.url.path == "/metrics":
            return problem(error)
        return page(request, error)

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, NeuropodError)
        return answer(request, error)

    async def of_shape(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, await _invalid(request, error, checks))

    async def of_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = answer(request, _from_framework(error))
        response.headers.update(error.headers or {})
        return response

    async def of_race(request: Request, error: Exception) -> Response:
        _log.info("two requests met at a unique key", error=str(error.__cause__ or error))
        return answer(request, ConflictError("somebody changed the same thing at this moment; look again"))

    async def of_database(request: Request, error: Exception) -> Response:
        return answer(request, _from_database(error))

    async def of_defect(request: Request, _: Exception) -> Response:
        return answer(request, _internal())  # logged by api.watching, to which it is raised afterwards

    app.add_exception_handler(Exception, of_defect)
    app.add_exception_handler(NeuropodError, ours)
    app.add_exception_handler(RequestValidationError, of_shape)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(IntegrityError, of_race)
    for of_its in (DBAPIError, UnicodeEncodeError, ConnectionError, TimeoutError, gaierror):
        app.add_exception_handler(of_its, of_database)


def _from_database(error: Exception) -> NeuropodError:
    """Return what is said of what the database said; what is a defect of ours is raised again."""
    if is_away(error):
        _log.warning("the database does not answer", error=str(error))
        return UnavailableError("the database does not answer now; try again in a moment")
    if _is_unstorable(error):
        sentence = "a text of this request holds a null byte or half a character, which nothing here can be named"
        return InvalidInputError(sentence, code="unstorable_text")
    raise error


def _is_unstorable(error: BaseException | None) -> bool:
    """Tell whether a database refused a text: PostgreSQL has no null bytes, and no database has lone surrogates."""
    while error is not None:
        if isinstance(error, UnicodeEncodeError) or type(error).__name__ == "CharacterNotInRepertoireError":
            return True
        error = error.__cause__ or getattr(error, "orig", None)
    return False


def _from_framework(error: HTTPException) -> NeuropodError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError("nothing has this address; it may be mistyped")
    status = HTTPStatus(error.status_code)
    code = _STATUS_CODES.get(status, status.phrase.lower().replace(" ", "_"))
    named = NeuropodError(str(error.detail), code=code)
    named.status = error.status_code
    return named


async def _invalid(
    request: Request, error: RequestValidationError, checks: Mapping[str, WrongFieldsToo]
) -> NeuropodError:
    found = error.errors()
    if any(wrong["type"] == "json_invalid" for wrong in found):
        return NeuropodError("the body is not JSON", code="bad_json")
    wrong_fields = [_field_error(wrong) for wrong in found]
    check = checks.get(getattr(request.scope.get("endpoint"), "__name__", ""))
    if check is not None and isinstance(error.body, dict):
        rest = _without(error.body, [wrong["loc"][1:] for wrong in found if wrong["loc"][0] == "body"])
        named = {wrong.field for wrong in wrong_fields}
        wrong_fields += [wrong for wrong in await check(request, rest) if wrong.field not in named]
    sentence = "; ".join(f"{wrong.field}: {wrong.message}" if wrong.field else wrong.message for wrong in wrong_fields)
    return InvalidInputError(sentence, fields=wrong_fields)


def _field_error(wrong: Mapping[str, Any]) -> FieldError:
    """Name the field as the request has it, and say the rule in a sentence."""
    where = wrong["loc"][1:] if wrong["loc"][0] in {"body", "query", "path", "header"} else wrong["loc"]
    kind = str(wrong["type"])
    message = str(wrong["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    if kind == "missing":
        message = "is needed"
    elif kind == "extra_forbidden":
        message = "is not a field of this request"
    return FieldError(".".join(str(part) for part in where), _CODES.get(kind, "type"), message)


def _without(body: dict[str, Any], places: Sequence[tuple[int | str, ...]]) -> dict[str, Any]:
    """Return the body without its wrong fields; a wrong item of a list takes its whole list along."""
    rest = dict(body)
    for place in places:
        if not place:
            continue
        first, *inner = place
        value = rest.get(str(first))
        if inner and isinstance(value, dict) and isinstance(inner[0], str) and inner[0] in value:
            rest[str(first)] = {name: part for name, part in value.items() if name != inner[0]}
        else:
            rest.pop(str(first), None)
    return rest
