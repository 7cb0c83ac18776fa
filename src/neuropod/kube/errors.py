"""What can go wrong between us and an API server; the callers of kube turn it into their own errors.

An error tells the server's own sentence about a request (its Status), never what was sent: no token, no body.
Absence is no error here: `get` answers None and `delete` False.
"""

from collections.abc import Mapping
from types import MappingProxyType


class KubeError(Exception):
    """The API server refused. `status` is HTTP's, `reason` the Status' word (`AlreadyExists`), `message` for people."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})" if reason else f"{message} ({status})")
        self.status = status
        self.reason = reason
        self.message = message


class ConflictError(KubeError):
    """409: exists already, or is not the one that was meant any more (a UID, a resourceVersion, a field's owner)."""


class ForbiddenError(KubeError):
    """401 or 403: not our right; also what admission and quotas refuse (`message` says which)."""


class InvalidError(KubeError):
    """400 or 422: the object can never be taken as it is."""


class GoneError(KubeError):
    """410: the resourceVersion or the page asked for is no longer known; list again."""


class NotFoundError(KubeError):
    """404 where absence is no answer: the object to patch, the pod to enter, the namespace to create in."""


class NoSuchKindError(NotFoundError):
    """404 to the path itself: this cluster does not know the kind."""


class KubeUnavailableError(Exception):
    """Nothing is known: no answer, a time-out, 429 or 5xx even after the retries. Try again later."""


class AccessError(Exception):
    """The kubeconfig or the ServiceAccount cannot be used as it stands; the sentence says what is wrong."""


_BY_STATUS: Mapping[int, type[KubeError]] = MappingProxyType(
    {
        400: InvalidError,
        401: ForbiddenError,
        403: ForbiddenError,
        404: NotFoundError,
        409: ConflictError,
        410: GoneError,
        422: InvalidError,
    }
)


def refusal(status: int, reason: str, message: str) -> KubeError:
    """Return the error whose name is the situation."""
    return _BY_STATUS.get(status, KubeError)(status, reason, message)
