"""Pods, their ports, logs and events. A pod is named by its name or its id."""

import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from neuropod.client.connection import Connection
from neuropod.client.errors import UnreachableError
from neuropod.kit.errors import UnauthenticatedError, UnavailableError
from neuropod.kit.identifiers import new_token
from neuropod.wire.events import Event, EventPage
from neuropod.wire.logs import LogEnd, LogLine
from neuropod.wire.pods import Pod, PodCreate, PodEdit, PodPage, Port, PortCreate, PortEdit, PortLink, PortPage
from neuropod.wire.quotes import Quote
from neuropod.wire.usage import PodUsage
from neuropod.words import Status

# How often a cut log is taken up again before the cut counts: a server that restarts is back within a minute.
_RESUMES = 60
_RESUME_SECONDS = 1.0


def _path(pod: str, *rest: str | int) -> str:
    return "/".join(["/pods", quote(pod, safe=""), *(str(part) for part in rest)])


class Pods:
    """The nouns below `/api/v1/pods`."""

    def __init__(self, connection: Connection, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._connection = connection
        self._sleep = sleep

    def list_pods(
        self,
        *,
        everybody: bool = False,
        owner: str | None = None,
        gpu_type: str | None = None,
        status: Status | None = None,
    ) -> Iterator[Pod]:
        """Yield one's pods, newest first; `everybody` and `owner` (id or address) are for administrators."""
        params = {"owner": owner, "gpu_type": gpu_type, "status": status}
        params |= {"everybody": "true"} if everybody else {}
        return self._connection.pages(PodPage, "/pods", params=params)

    def show_pod(self, pod: str) -> Pod:
        """Return a pod."""
        return self._connection.ask(Pod, "GET", _path(pod))

    def create_pod(self, asked: PodCreate) -> Pod:
        """Launch a pod; a lost answer makes no second one."""
        headers = {"Idempotency-Key": new_token(16)}
        return self._connection.ask(Pod, "POST", "/pods", body=asked, headers=headers)

    def quote_pod(self, asked: PodCreate) -> Quote:
        """Return what a launch would meet; nothing is made."""
        return self._connection.ask(Quote, "POST", "/pods/quote", body=asked)

    def edit_pod(self, pod: str, asked: PodEdit) -> Pod:
        """Change a pod."""
        return self._connection.ask(Pod, "PATCH", _path(pod), body=asked)

    def delete_pod(self, pod: str) -> Pod:
        """Delete a pod; its volume stays."""
        return self._connection.ask(Pod, "DELETE", _path(pod))

    def start_pod(self, pod: str) -> Pod:
        """Wish it to run."""
        return self._connection.ask(Pod, "POST", _path(pod, "start"))

    def stop_pod(self, pod: str) -> Pod:
        """Wish it stopped."""
        return self._connection.ask(Pod, "POST", _path(pod, "stop"))

    def restart_pod(self, pod: str) -> Pod:
        """Wish for a new run of it."""
        return self._connection.ask(Pod, "POST", _path(pod, "restart"))

    def show_usage(self, pod: str, *, hours: int | None = None) -> PodUsage:
        """Return what it uses now, and the points of the last hours."""
        return self._connection.ask(
            PodUsage, "GET", _path(pod, "usage"), params={} if hours is None else {"hours": hours}
        )

    def list_events(self, pod: str, *, limit: int | None = None) -> Iterator[Event]:
        """Yield what happened to it, newest first."""
        return self._connection.pages(EventPage, _path(pod, "events"), limit=limit)

    # Ports

    def list_ports(self, pod: str) -> list[Port]:
        """Return its ports."""
        return self._connection.ask(PortPage, "GET", _path(pod, "ports")).items

    def add_port(self, pod: str, asked: PortCreate) -> Port:
        """Expose a port."""
        return self._connection.ask(Port, "POST", _path(pod, "ports"), body=asked)

    def edit_port(self, pod: str, port: int, asked: PortEdit) -> Port:
        """Rename a port, or change who may pass."""
        return self._connection.ask(Port, "PATCH", _path(pod, "ports", port), body=asked)

    def remove_port(self, pod: str, port: int) -> None:
        """Take a port's address away."""
        self._connection.send("DELETE", _path(pod, "ports", port))

    def make_link(self, pod: str, port: int) -> PortLink:
        """Return a link that opens the port; for Jupyter it signs in."""
        return self._connection.ask(PortLink, "POST", _path(pod, "ports", port, "link"))

    # Logs

    def read_logs(self, pod: str, *, tail: int | None, incarnation: int | None) -> Iterator[bytes]:
        """Yield what a run printed, in chunks of UTF-8."""
        params = {"tail": tail, "incarnation": incarnation}
        with self._connection.stream(_path(pod, "logs"), params=params) as response:
            yield from response.iter_bytes()

    def follow_logs(
        self, pod: str, *, tail: int | None, incarnation: int | None, renew_key: Callable[[], bool] | None = None
    ) -> Iterator[LogLine | LogEnd]:
        """Yield lines as they come until the run ends (LogEnd).

        A stream that is cut is taken up after the last line, so none is lost or doubled. A server that restarted may
        have given its machine a new key meanwhile: `new_key` is asked for it once the old one is refused.
        """
        last: str | None = None
        left = _RESUMES
        first = {"tail": tail, "incarnation": incarnation}
        while True:
            params = {"follow": "true"} | (first if last is None else {})
            try:
                for event in self._connection.events(_path(pod, "logs"), params=params, last_event_id=last):
                    if event.event == "line":
                        yield LogLine.model_validate_json(event.data)
                        last, left = event.id, _RESUMES
                    elif event.event == "end":
                        yield LogEnd.model_validate_json(event.data)
                        return
            except UnauthenticatedError:
                if last is None or renew_key is None or not renew_key():
                    raise
            except UnavailableError:
                if last is None or left == 0:  # it never began, or the server was away for too long
                    raise
            if left == 0:
                raise UnreachableError(f"the log of {pod} ends in the middle again and again")
            left -= 1
            self._sleep(_RESUME_SECONDS)
