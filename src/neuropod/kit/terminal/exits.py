"""Exit codes, the same for every command; docs/reference/cli.md is made from their comments."""

from enum import IntEnum

from neuropod.kit.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NeuropodError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_SIGNED_IN = 3
    NOT_FOUND = 4
    CONFLICT = 5
    UNREACHABLE = 6
    POD_FAILED = 7
    NOT_ALLOWED = 8
    INTERRUPTED = 130
    CUT = 255


MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "failed; the message says why",
    Exit.USAGE: "wrong usage, or values that the server refused; the message names each",
    Exit.NOT_SIGNED_IN: "not signed in, or the key does not count any more",
    Exit.NOT_FOUND: "there is no such thing, or it is not yours to see",
    Exit.CONFLICT: "not now: a taken name, or a state that does not allow it",
    Exit.UNREACHABLE: "the server, or what runs the pod, does not answer",
    Exit.POD_FAILED: "with `--wait`: the pod failed, or the time was over",
    Exit.NOT_ALLOWED: "you may not do this",
    Exit.INTERRUPTED: "ended by Ctrl-C",
    Exit.CUT: "of `pod exec` and `pod shell`: cut from a command that ran; else they end with the command's own code",
}

_OF_ERRORS: tuple[tuple[type[NeuropodError], Exit], ...] = (
    (InvalidInputError, Exit.USAGE),
    (UnauthenticatedError, Exit.NOT_SIGNED_IN),
    (ForbiddenError, Exit.NOT_ALLOWED),
    (NotFoundError, Exit.NOT_FOUND),
    (ConflictError, Exit.CONFLICT),
    (UnavailableError, Exit.UNREACHABLE),
)


class CommandError(Exception):
    """A command cannot go on: the sentence, what to do about it, and the exit code."""

    def __init__(self, message: str, *, exit_code: Exit = Exit.FAILED, hints: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.hints = hints


def exit_of(error: NeuropodError) -> Exit:
    """Return the exit code for an error of the API."""
    for kind, code in _OF_ERRORS:
        if isinstance(error, kind):
            return code
    return Exit.FAILED
