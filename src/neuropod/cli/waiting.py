"""`--wait`: shows how a pod comes to what was asked for. A live line on a terminal, a line for each change elsewhere.

What it shows goes to standard error; the pod as it is in the end is the command's result. Ctrl-C ends the waiting and
nothing else, and says so. A server that restarts meanwhile is waited for.
"""

from enum import Enum

from neuropod.cli.commands import UserCall
from neuropod.client.pods import Pods
from neuropod.kit.errors import NotFoundError, UnauthenticatedError, UnavailableError
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.kit.terminal.text import clean_line, span
from neuropod.wire.pods import Pod
from neuropod.words import Reason, Status, Want

_PAUSES_SECONDS = (0.1, 0.2, 0.3, 0.5)  # then the last again and again
_LATER_SECONDS = 1.0  # once it takes long
_LONG_SECONDS = 20.0
_AWAY_SECONDS = 60.0  # how long a server may be away
_PLAIN_EVERY_SECONDS = 10.0  # how often plain lines tell mere progress


_STILL = frozenset({Status.STOPPED, Status.FINISHED, Status.FAILED})


class Goal(Enum):
    """What is waited for."""

    RUNNING = "run"
    STOPPED = "stop"
    GONE = "be gone"


def stage(pod: Pod) -> str:
    """Return in a few words where a pod stands on its way."""
    match pod.status, pod.reason:
        case Status.RUNNING, _:
            return "ready"
        case Status.STARTING, Reason.PREPARING | Reason.PULLING:
            what = "preparing environment" if pod.reason is Reason.PREPARING else "fetching its image"
            progress = pod.progress
            if progress is None or not progress.total:
                return what
            return f"{what} ({progress.done} of {progress.total}{f' {progress.unit}' if progress.unit else ''})"
        case Status.STARTING, Reason.CRASH_LOOP | Reason.INTERNAL:
            return pod.message
        case Status.STARTING, _:
            return "starting"
        case Status.WAITING | Status.UNREACHABLE, _:
            return f"{pod.status}: {pod.message}"
        case _:
            return str(pod.status)


def ended(pod: Pod, goal: Goal) -> str | None:
    """Return why waiting is of no use any more; None while it is."""
    if goal is Goal.RUNNING:
        if pod.status in {Status.FAILED, Status.FINISHED}:
            return pod.message
        if pod.want is not Want.RUNNING:
            return f"somebody wished it {pod.want} meanwhile"
    if goal is Goal.STOPPED and pod.want is Want.RUNNING:
        return "somebody started it again meanwhile"
    return None


def reached(pod: Pod, goal: Goal) -> bool:
    """Tell whether the pod is where it should be."""
    if goal is Goal.RUNNING:
        return pod.status is Status.RUNNING
    return goal is Goal.STOPPED and pod.want is not Want.RUNNING and pod.status in _STILL


class Waiting:
    """One wait."""

    def __init__(self, call: UserCall, pods: Pods, *, timeout_seconds: float) -> None:
        self._call = call
        self._pods = pods
        self._timeout_seconds = timeout_seconds
        self._began = call.clock.monotonic()
        self._told = ""
        self._told_at = self._began

    def wait(self, pod: Pod, goal: Goal) -> Pod | None:
        """Return the pod once it is there; None once it is gone. Raises CommandError when it will not get there."""
        try:
            return self._wait(pod, goal)
        except KeyboardInterrupt:
            raise CommandError(
                f"not waiting any longer; {pod.name} goes on by itself",
                exit_code=Exit.INTERRUPTED,
                hints=(f"look: neuropod pod show {pod.name}", f"stop it: neuropod pod stop {pod.name}"),
            ) from None

    def _wait(self, pod: Pod, goal: Goal) -> Pod | None:
        pauses = iter(_PAUSES_SECONDS)
        pause = 0.0
        while True:
            self._tell(pod, stage(pod))
            if reached(pod, goal):
                return pod
            if (why := ended(pod, goal)) is not None:
                self._give_up(pod, why)
            if self._elapsed() > self._timeout_seconds:
                raise CommandError(
                    f"{pod.name} did not {goal.value} within {span(self._timeout_seconds)}; it goes on by itself",
                    exit_code=Exit.POD_FAILED,
                    hints=(f"look: neuropod pod show {pod.name}", f"its log: neuropod pod logs {pod.name}"),
                )
            pause = next(pauses, _LATER_SECONDS if self._elapsed() > _LONG_SECONDS else pause)
            self._call.sleep(pause)
            try:
                pod = self._look(pod)
            except NotFoundError:
                if goal is Goal.GONE:
                    self._tell(pod, "gone")
                    return None
                raise CommandError(f"{pod.name} was deleted meanwhile", exit_code=Exit.POD_FAILED) from None

    def _look(self, pod: Pod) -> Pod:
        """Return the pod as it is now; wait for a server that is away."""
        lost_at: float | None = None
        while True:
            try:
                return self._pods.show_pod(pod.id)
            except UnavailableError:
                now = self._call.clock.monotonic()
                lost_at = now if lost_at is None else lost_at
                if now - lost_at > _AWAY_SECONDS:
                    raise
            except UnauthenticatedError:
                if lost_at is None or not self._call.renew_key():
                    raise
            self._tell(pod, "the server does not answer; waiting for it")
            self._call.sleep(_LATER_SECONDS)

    def _give_up(self, pod: Pod, why: str) -> None:
        hints = (f"its log: neuropod pod logs {pod.name}", f"try again: neuropod pod start {pod.name} --wait")
        raise CommandError(f"{pod.name} is {pod.status}: {why}", exit_code=Exit.POD_FAILED, hints=hints)

    def _tell(self, pod: Pod, text: str) -> None:
        screen = self._call.screen
        line = clean_line(f"{pod.name}: {text}")
        if screen.tells_live:
            screen.live(f"{line} · {span(self._elapsed())}")
            return
        now = self._call.clock.monotonic()
        kind, told = line.partition(" (")[0], self._told.partition(" (")[0]
        if kind != told or (line != self._told and now - self._told_at >= _PLAIN_EVERY_SECONDS):
            screen.note(line)
            self._told, self._told_at = line, now

    def _elapsed(self) -> float:
        return self._call.clock.monotonic() - self._began
