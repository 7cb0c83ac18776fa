"""Where a command speaks: results on standard output, all else on standard error, JSON when asked for.

One is made per run by `commands.run`, on the process's own streams; tests make it on theirs. Everything passes `text`,
so no caller can show a control character by mistake (SECURITY 33).
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from neuropod.kit.terminal.tables import GAP, Column, table
from neuropod.kit.terminal.text import clean, clean_line, shortened

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}


class Screen:
    """The two streams of a command. `json` is set by the option `--json`."""

    def __init__(self, out: TextIO, err: TextIO, environ: Mapping[str, str] | None = None) -> None:
        self._out = out
        self._err = err
        self._environ = os.environ if environ is None else environ
        self._live = False
        self.json = False

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees the results as they come."""
        return self._out.isatty()

    @property
    def tells_live(self) -> bool:
        """Whether a line on standard error can be written over."""
        return self._err.isatty() and self._environ.get("TERM") != "dumb"

    def columns(self) -> int:
        """Return the width of the terminal."""
        return shutil.get_terminal_size((100, 24)).columns

    # Results

    def say(self, text: str = "") -> None:
        """Print a result for people; nothing with `--json`."""
        if not self.json:
            self._end_live()
            self._out.write(clean(text) + "\n")
            self._out.flush()

    def line(self, text: str) -> None:
        """Print one of many lines; `flush` when they should be seen."""
        self._out.write(clean(text).replace("\n", " ") + "\n")

    def raw(self, text: str) -> None:
        """Write a result as it is, without a newline; the caller has to know why that is safe."""
        self._end_live()
        self._out.write(text)

    def data(self, value: Any) -> None:
        """Print a result for programs; every control character is escaped."""
        self._end_live()
        self._out.write(json.dumps(value, indent=2).replace("\x7f", "\\u007f") + "\n")
        self._out.flush()

    def data_line(self, value: Any) -> None:
        """Print one of many results for programs, in a line of its own."""
        self._out.write(json.dumps(value).replace("\x7f", "\\u007f") + "\n")

    def flush(self) -> None:
        """Let what was written be seen."""
        self._out.flush()

    def table(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str]], colours: Mapping[str, str] | None = None
    ) -> None:
        """Print a table; `colours` maps the whole text of a cell to a colour, where the terminal has them."""
        if self.json:
            return
        head, *body = table(columns, rows, self.columns() if self.is_terminal else None)
        painted = [[self.painted(cell, (colours or {}).get(cell.strip(), "")) for cell in row] for row in body]
        for row in ([self.painted(cell, "dim") for cell in head], *painted):
            self._out.write(GAP.join(row).rstrip() + "\n")
        self._out.flush()

    def fields(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Print names and values, one pair a line."""
        if self.json:
            return
        longest = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self._out.write(f"{self.painted(name.ljust(longest), 'dim')}{GAP}{clean_line(value)}".rstrip() + "\n")
        self._out.flush()

    def painted(self, text: str, colour: str) -> str:
        """Return the text in a colour, where the terminal has colours and the person wants them (NO_COLOR)."""
        plain = not self.is_terminal or "NO_COLOR" in self._environ or self._environ.get("TERM") == "dumb"
        return text if plain or colour not in _COLOURS else f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"

    # What goes on

    def note(self, text: str = "") -> None:
        """Say something that is not a result."""
        self._end_live()
        self._err.write(clean(text) + "\n")
        self._err.flush()

    def live(self, text: str) -> None:
        """Show a line that the next one writes over; only where `tells_live`."""
        self._err.write("\r\x1b[K" + shortened(clean_line(text), self.columns() - 1))
        self._err.flush()
        self._live = True

    def _end_live(self) -> None:
        if self._live:
            self._err.write("\r\x1b[K")
            self._err.flush()
            self._live = False

    def error(self, message: str, *, hints: Sequence[str] = (), data: Mapping[str, Any] | None = None) -> None:
        """Say what went wrong and what to do about it; with `--json` as an object on standard error."""
        self._end_live()
        if self.json:
            self._err.write(json.dumps({"error": {"message": message, "hints": list(hints)} | dict(data or {})}) + "\n")
        else:
            self._err.write(f"Error: {clean(message)}\n")
            for hint in hints:
                self._err.write(f"  {clean(hint)}\n")
        self._err.flush()
