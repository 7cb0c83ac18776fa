"""`GET /api/v1/pods/{pod}/exec`: a command or a terminal in a pod, over one WebSocket (RFC 6455).

The channels are those of Kubernetes' `v5.channel.k8s.io` (https://kubernetes.io/blog/2024/08/20/websockets-transition/,
k8s.io/apimachinery/pkg/util/remotecommand), the JSON on them is ours. The subprotocol is `neuropod.exec.v1`; a client
that offers others only is refused, one that offers none is taken.

What can be known before is answered before the WebSocket opens, as a problem: 401, 403, 404, 409 (`not_running`), 501.
Then the client's first message is text: an ExecStart. It is no part of the address, since a command's words may hold
secrets and addresses are logged on the way. All others are binary, their first byte the channel:

    0     to the command's standard input
    1, 2  from its standard output and standard error (a terminal has but the first)
    3     from the server, the last message: an ExecEnd
    4     to the server: an ExecSize, the terminal's new size
    255   to the server, with the single byte 0: the end of standard input

A message has at most 1 MiB. The server sends pings; whoever is not read from is not written to, on both sides. Closing
the WebSocket ends the command (SIGHUP). After an ExecEnd the server closes with 1000, or with 1008 when the right to
be here ended: the key or session was revoked, the person suspended, or the pod stopped.
"""

from typing import Annotated

from pydantic import Field, field_validator

from neuropod.wire.shapes import Answer, Request

SUBPROTOCOL = "neuropod.exec.v1"
STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
MAX_MESSAGE_BYTES = 1 << 20
MAX_COMMAND_BYTES = 128 << 10

Characters = Annotated[int, Field(ge=1, le=10_000, strict=True)]


class ExecSize(Request):
    """The size of a terminal, in characters."""

    rows: Characters
    columns: Characters


class ExecTerminal(ExecSize):
    """A terminal that is asked for."""

    term: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")] = "xterm-256color"
    """The kind of terminal that shows it: the variable TERM."""


class ExecStart(Request):
    """What to run."""

    command: Annotated[list[str], Field(max_length=10_000)] = Field(default_factory=list)
    """The words; no shell reads them. None at all: the login shell, bash where there is one, else sh."""

    terminal: ExecTerminal | None = None
    """Null: standard output and standard error come apart, byte for byte."""

    @field_validator("command")
    @classmethod
    def _can_be_given(cls, words: list[str]) -> list[str]:
        if any("\0" in word for word in words) or words[:1] == [""]:
            raise ValueError("holds a word that no program can be given")
        if sum(len(word.encode("utf-8", "surrogatepass")) + 1 for word in words) > MAX_COMMAND_BYTES:
            raise ValueError(f"has more than {MAX_COMMAND_BYTES} bytes")
        return words


class ExecEnd(Answer):
    """How it ended: by itself, or not."""

    exit_code: int | None = None
    """The command's own: 128 + n for a signal n, 127 for one that is not there, 126 for one that cannot be run."""

    code: str | None = None
    """Why there is none, as in problems: `invalid`, `not_running`, `too_many_execs`, `unauthenticated`, …"""

    message: str = ""
    """The sentence for people."""
