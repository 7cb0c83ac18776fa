"""How things look in a terminal: tables that fit, times and amounts for people, nothing that a pod could smuggle in.

Names, messages and logs come from strangers: every control character is taken out before it reaches the terminal
(SECURITY 33), tabs and the colours of log lines too.
"""

import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

from neuropod.kit.clock import SystemClock
from neuropod.wire.pods import Pod

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x1b\\|\x07|$)|[ -/]*[0-~])", re.DOTALL)
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return text without escape sequences, control and bidirectional characters; line ends and tabs stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def clean_line(text: str) -> str:
    """Return the same as one line."""
    return clean(text).replace("\t", " ").replace("\n", " ")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned table; the last column is cut where the terminal ends."""
    cells = [[clean_line(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(head), *cells]) for column in range(len(head))]
    width = shutil.get_terminal_size((120, 24)).columns
    lines = []
    for line in [list(head), *cells]:
        text = "  ".join(cell.ljust(widths[column]) for column, cell in enumerate(line)).rstrip()
        lines.append(text if len(text) <= width else text[: width - 1] + "…")
    return "\n".join(lines)


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago in the largest unit that says enough."""
    if at is None:
        return "-"
    seconds = int(((now or SystemClock().now()) - at.astimezone(UTC)).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{max(0, seconds)} s"


def state_of(pod: Pod) -> str:
    """Return status, reason and what it waits for in a few words."""
    text = f"{pod.status}"
    if pod.status in {"waiting", "starting", "failed", "unreachable"} and pod.message:
        text += f": {pod.message}"
    if pod.progress is not None and pod.progress.total:
        text += f" ({pod.progress.done} of {pod.progress.total} {pod.progress.unit})"
    return clean_line(text)
