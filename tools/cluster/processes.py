"""A program that is started, watched, killed and started again, with its output in a file of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


class Process:
    """One program of the cluster. Not safe for several threads at once: its owner holds a lock."""

    def __init__(self, name: str, command: Callable[[], list[str]], logs: Path) -> None:
        self.name = name
        self._command = command
        self._log = logs / f"{name}.log"
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.poll() is None

    @property
    def wanted(self) -> bool:
        """Whether it was started and not told to end since."""
        return self._running is not None

    @property
    def pid(self) -> int | None:
        return self._running.pid if self._running is not None and self.alive else None

    def start(self) -> None:
        """Start it if it does not run."""
        if self.alive:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def end(self, number: signal.Signals = signal.SIGTERM, *, within_seconds: float = 10) -> None:
        """Send the signal, and SIGKILL if it has not ended in time; returns when it has. May be repeated."""
        if self._running is None:
            return
        if self.alive:
            self._running.send_signal(number)
            try:
                self._running.wait(within_seconds)
            except subprocess.TimeoutExpired:
                self._running.kill()
        self._running.wait()
        self._running = None


def wait_until(what: str, condition: Callable[[], bool], *, seconds: float) -> None:
    """Ask again and again; TimeoutError that names what was waited for."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.05)


def run(*command: str | Path, text: str | None = None) -> str:
    """Run a program to its end and return its output; CalledProcessError shows what it said."""
    done = subprocess.run(
        [str(part) for part in command], input=text, capture_output=True, text=True, check=False, env=os.environ
    )
    if done.returncode:
        print(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}", flush=True)
        done.check_returncode()
    return done.stdout
