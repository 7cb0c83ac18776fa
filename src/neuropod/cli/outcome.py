"""How a command ends: exit codes, and errors as sentences that say what to do."""

from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from neuropod.cli.text import clean
from neuropod.client.errors import ClientError, NotSignedInError, ProblemError, UnreachableError

P = ParamSpec("P")
R = TypeVar("R")


class Exit(IntEnum):
    """The exit codes, the same for every command (docs/reference/cli.md)."""

    OK = 0
    FAILED = 1  # anything that has no code of its own
    USAGE = 2  # the words of the command are wrong
    NOT_SIGNED_IN = 3
    NOT_FOUND = 4
    CONFLICT = 5  # a taken name, a state that does not allow it
    UNREACHABLE = 6  # no server answers
    POD_FAILED = 7  # with --wait: the pod ended instead of becoming ready
    TIMED_OUT = 8  # with --wait: it took longer than --timeout
    INVALID = 9  # the server refused wrong fields
    FORBIDDEN = 10


_BY_STATUS = {401: Exit.NOT_SIGNED_IN, 403: Exit.FORBIDDEN, 404: Exit.NOT_FOUND, 409: Exit.CONFLICT, 422: Exit.INVALID}


class Ended(click.ClickException):
    """An end with a sentence and an exit code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(clean(message))
        self.exit_code: int = code  # type: ignore[misc]  # click declares it on the class and reads it here


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what the client raises into a sentence and an exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except NotSignedInError as error:
            raise Ended(str(error), Exit.NOT_SIGNED_IN) from error
        except UnreachableError as error:
            raise Ended(str(error), Exit.UNREACHABLE) from error
        except ProblemError as error:
            raise Ended(_sentence(error), _BY_STATUS.get(error.problem.status, Exit.FAILED)) from error
        except ClientError as error:
            raise Ended(str(error)) from error

    return run


def _sentence(error: ProblemError) -> str:
    fields = error.problem.fields
    if not fields:
        return str(error)
    return "\n".join([error.problem.title, *(f"  {field.field or 'request'}: {field.message}" for field in fields)])
