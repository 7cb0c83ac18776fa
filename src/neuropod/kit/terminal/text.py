"""Text that is safe and fits: control characters out, widths as a terminal counts them, spans of time for people.

Everything that a server or a pod wrote passes `clean` or `clean_line` before it is shown (SECURITY 33): a log line or a
pod's reason must not move the cursor, retitle the window or paste into somebody's shell.
"""

import re
import unicodedata
from datetime import datetime

# Whole escape sequences first, so that no `[31m` is left of them: OSC, DCS and their like up to their end, CSI, the
# short ones; each in its 7-bit and its 8-bit form (ECMA-48).
_SEQUENCES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
)
# C0 and C1 but tab and newline; DEL; what reorders text or hides it; what cannot be encoded; line and paragraph ends.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
_SPACES = re.compile(r"\s+")


def clean(text: str) -> str:
    """Return text whose only control characters are tabs and newlines."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", text))


def clean_line(text: str) -> str:
    """Return text as one line: control characters out, white space as single spaces."""
    return _SPACES.sub(" ", clean(text)).strip()


def width(text: str) -> int:
    """Return how many columns a terminal uses for it."""
    if text.isascii():
        return len(text)
    return sum(_columns(letter) for letter in text)


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def shortened(text: str, columns: int) -> str:
    """Return the text in at most so many columns, its end cut and marked with `…`."""
    if width(text) <= columns:
        return text
    kept, used = [], 1
    for letter in text:
        used += _columns(letter)
        if used > columns:
            break
        kept.append(letter)
    return "".join(kept) + "…" if columns > 0 else ""


def padded(text: str, columns: int) -> str:
    """Return the text filled with spaces to so many columns."""
    return text + " " * (columns - width(text))


def span(seconds: float) -> str:
    """Return how long something took or has lasted, in its largest unit."""
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def exact_span(seconds: int) -> str:
    """Return a span of time with all its units: `1 d 12 h`."""
    parts = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        whole, seconds = divmod(seconds, size)
        if whole:
            parts.append(f"{whole} {unit}")
    return " ".join(parts) or "0 s"


def ago(at: datetime | None, now: datetime) -> str:
    """Return how long ago that was; `-` for never."""
    return "-" if at is None else span((now - at).total_seconds())


def local_time(at: datetime | None) -> str:
    """Return a time as a person here reads it, with its zone; `-` for none."""
    return "-" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
