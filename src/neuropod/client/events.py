"""What happens, followed over cuts and restarts of the server."""

import time
from collections.abc import Callable, Iterator

from neuropod.client.connection import Connection
from neuropod.kit.errors import NeuropodError, UnauthenticatedError, UnavailableError
from neuropod.wire.events import Reset, StreamedEvent

# How often a cut stream is taken up again before the cut counts: a server that restarts is back within a minute.
_RESUMES = 60
_RESUME_SECONDS = 1.0


class Events:
    """`/api/v1/events`."""

    def __init__(self, connection: Connection, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._connection = connection
        self._sleep = sleep

    def follow_events(
        self,
        *,
        everybody: bool = False,
        user: str | None = None,
        pod: str | None = None,
        after: str | None = None,
        renew_key: Callable[[], bool] | None = None,
    ) -> Iterator[StreamedEvent | Reset]:
        """Yield events as they happen, without an end, from now on or after a position; none is lost or doubled.

        Reset: some are missing, since nothing of them is kept any more. A server that restarted may have given its
        machine a new key meanwhile: `renew_key` is asked for it once the old one is refused.
        """
        params = {"user": user, "pod": pod} | ({"everybody": "true"} if everybody else {})
        last, begun, left = after, False, _RESUMES
        while True:
            cut: NeuropodError | None = None
            try:
                for event in self._connection.events("/events", params=params, last_event_id=last):
                    begun, left = True, _RESUMES
                    last = event.id or last
                    if event.event == "message":
                        yield StreamedEvent.model_validate_json(event.data)
                    elif event.event == "reset":
                        yield Reset.model_validate_json(event.data)
            except UnauthenticatedError as error:
                if not begun or renew_key is None or not renew_key():
                    raise
                cut = error
            except UnavailableError as error:
                cut = error
            if cut is not None and (not begun or left == 0):
                raise cut
            left -= 1
            self._sleep(_RESUME_SECONDS)
