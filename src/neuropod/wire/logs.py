"""What pods print.

`GET /api/v1/pods/{pod}/logs` answers text; with `follow=true` (or `Accept: text/event-stream`) Server-Sent Events:
`event: line`, `id: <incarnation>.<position>`, `data:` a LogLine; at the end of the run `event: end`, `data:` a LogEnd.
A comment line comes at least every 15 s. A follower resumes with `since=<position>` or `Last-Event-ID`.
"""

from neuropod.wire.shapes import Answer


class LogLine(Answer):
    """One line of output, without its newline. Control characters are in it as the pod wrote them."""

    incarnation: int
    position: int
    """Bytes of log written before this line since the run began: orders lines and resumes a follower."""

    text: str


class LogEnd(Answer):
    """Nothing more comes from this run."""

    incarnation: int
