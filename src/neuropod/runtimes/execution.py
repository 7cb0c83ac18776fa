"""What a runtime with `Capability.EXEC` has besides the contract: it runs further commands in a workload.

Asked by the API (`pod exec` and terminals); implemented beside each runtime's verbs. Who may run a command, and how
many run at a time, is the caller's to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from neuropod.runtimes.contract import WorkloadId


class TooManyExecutionsError(Exception):
    """As many commands as are allowed run beside the workload's own process already."""


# Bash where the workload has it, else sh. A prompt that names the pod, unless files of the user's say another.
LOGIN_SHELL = (
    "/bin/sh",
    "-c",
    "if command -v bash >/dev/null 2>&1; then export PS1='\\u@\\h:\\w\\$ '; exec bash -l; fi; exec /bin/sh -l",
)


class OutputStream(StrEnum):
    """Where a command wrote to; a terminal has standard output alone."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """The size of a terminal, in characters."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A command to run beside a workload's own process, as that process: same user, limits, environment, folder."""

    command: tuple[str, ...]  # argv, found on the workload's PATH; no shell; empty: its login shell (LOGIN_SHELL)
    at_most: int  # how many such commands may run in the workload at a time, this one included
    terminal: TerminalSize | None = None  # None: pipes
    env: Mapping[str, str] = field(default_factory=dict)  # over the workload's own


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """Some of what a command wrote, never empty."""

    stream: OutputStream
    data: bytes


class Execution(Protocol):
    """A command that runs in a workload. Whoever asked for it owns it and closes it.

    It is bound by all that binds the workload, ends with it at the latest, and does not keep it alive. It ends with
    the server too: when this is closed, or its server dies, it gets SIGHUP, and SIGKILL some seconds later; what it
    has put into the background with `nohup` or the like goes on.
    """

    async def read(self) -> OutputChunk | None:
        """Return what it wrote next; None when it has ended and all was read. One reader at a time.

        What is not read stays in the kernel's small buffers, and then the command waits.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Give it input; returns once it is taken, which the command decides. BrokenPipeError: it takes no more."""
        ...

    async def end_input(self) -> None:
        """Let it see the end of its input; in a terminal that is Ctrl-D. May be repeated."""
        ...

    def resize(self, size: TerminalSize) -> None:
        """Change the size of its terminal; it gets SIGWINCH. Without a terminal, or after its end, nothing."""
        ...

    def signal(self, number: int) -> None:
        """Send a signal to its process group; after its end, nothing."""
        ...

    async def wait(self) -> int:
        """Return its exit code once it has ended: 128 + n for a signal n, 127 and 126 as shells tell them."""
        ...

    async def aclose(self) -> None:
        """Let go: one that still runs is ended. May be repeated."""
        ...


class Exec(Protocol):
    """The ability of Capability.EXEC."""

    async def exec(self, workload_id: WorkloadId, request: ExecRequest) -> Execution:
        """Start a command in that very incarnation, whose process runs.

        A command that is not there is one that ends at once with 127, and its standard error says so. Raises
        NotReadyError, TooManyExecutionsError, RuntimeUnavailableError.
        """
        ...
