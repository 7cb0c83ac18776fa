"""Long work for the shim in a forked child, so that its loop goes on and `stop` ends the work at once.

Used for building an environment and for measuring folders. The child is in a session of its own, dies with the shim,
and tells what it has to tell as lines of JSON.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from neuropod.runtimes.local import linux
from neuropod.runtimes.local.loop import Loop

Tell = Callable[[Any], None]


class Worker:
    """Runs `work(tell)` in a child; `on_told` gets each told value, `on_end` whether it returned without an error."""

    def __init__(
        self,
        loop: Loop,
        work: Callable[[Tell], None],
        *,
        on_told: Callable[[Any], None],
        on_end: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._on_told = on_told
        self._on_end = on_end
        self._rest = b""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reading)
            _work(work, writing, parent)
        os.close(writing)
        self._fd = reading
        loop.add_reader(reading, self._read)

    def _read(self) -> None:
        data = os.read(self._fd, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_told(json.loads(line))
        if not data and self._pid:
            self._on_end(self._reap() == 0)

    def _reap(self) -> int:
        self._loop.remove(self._fd)
        os.close(self._fd)
        # What it started in its session goes with it.
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

    def cancel(self) -> None:
        """End it now, unheard; may be repeated."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._reap()


def _work(work: Callable[[Tell], None], writing: int, parent: int) -> None:
    status = 1
    try:
        os.setsid()
        linux.die_with_parent(parent)

        def tell(value: Any) -> None:
            os.write(writing, json.dumps(value).encode() + b"\n")

        work(tell)
        status = 0
    except BaseException:  # noqa: BLE001 - a forked child must never return into the shim's loop
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)
