"""`--wait`: shows how a pod comes to what was asked for. A live line on a terminal, plain lines elsewhere."""

import sys
import time

import click

from neuropod.cli.outcome import Ended, Exit
from neuropod.cli.text import clean_line, state_of
from neuropod.client.api import Api
from neuropod.wire.pods import Pod
from neuropod.words import Status

_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 1.0
_ENDS = frozenset({Status.FAILED, Status.FINISHED})


def wait_until_running(api: Api, name: str, timeout_seconds: float) -> Pod:
    """Wait until the pod runs. Raises Ended when it ended instead, or the time is over."""
    return _wait(api, name, Status.RUNNING, timeout_seconds)


def wait_until_stopped(api: Api, name: str, timeout_seconds: float) -> Pod:
    """Wait until nothing of the pod runs."""
    return _wait(api, name, Status.STOPPED, timeout_seconds)


def _wait(api: Api, name: str, goal: Status, timeout_seconds: float) -> Pod:
    ends = time.monotonic() + timeout_seconds
    line = _Line()
    pause = _FIRST_PAUSE_SECONDS
    try:
        while True:
            pod = api.pod(name)
            line.show(_step(pod))
            if pod.status is goal:
                return pod
            if pod.status in _ENDS and goal is Status.RUNNING:
                code = Exit.POD_FAILED
                raise Ended(f"{name} is {pod.status}: {pod.message}\nSee `neuropod pod logs {name}`.", code)
            if pod.status in _ENDS:
                return pod
            if time.monotonic() > ends:
                sentence = f"{name} is still {pod.status} after {timeout_seconds:.0f} s; it goes on without you"
                raise Ended(f"{sentence}. See `neuropod pod show {name}`.", Exit.TIMED_OUT)
            time.sleep(pause)
            pause = min(pause * 1.3, _LAST_PAUSE_SECONDS)
    except KeyboardInterrupt:
        sentence = f"\nNo longer waiting; {name} goes on. See `neuropod pod show {name}`."
        raise Ended(sentence, Exit.TIMED_OUT) from None
    finally:
        line.end()


def _step(pod: Pod) -> str:
    if pod.status is Status.RUNNING:
        return "ready"
    if pod.status is Status.STARTING and pod.reason == "preparing":
        progress = pod.progress
        if progress is not None and progress.total:
            return f"preparing environment: {progress.step or progress.unit} {progress.done} of {progress.total}"
        return "preparing environment"
    if pod.status is Status.STARTING:
        return "starting"
    return state_of(pod)


class _Line:
    """One line that changes, or a line for each change."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        text = clean_line(text)
        if text == self._shown:
            return
        self._shown = text
        if self._live:
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
        else:
            click.echo(text, err=True)

    def end(self) -> None:
        if self._live and self._shown:
            click.echo(err=True)
