"""What can go wrong between a program and the API."""

from neuropod.wire.problems import Problem


class ClientError(Exception):
    """A call had no answer that helps; the message says what to do."""


class UnreachableError(ClientError):
    """No server answers at the address."""


class ProblemError(ClientError):
    """The API's own error (RFC 9457): `problem.code` is stable, `problem.fields` are all wrong fields."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


class NotSignedInError(ClientError):
    """There is no key, or the server does not take it."""
