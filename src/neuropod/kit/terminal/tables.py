"""Tables: columns that line up, cut to the terminal's width. Pure; `screen` prints what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass

from neuropod.kit.terminal.text import clean_line, padded, shortened, width

GAP = "  "
_LEAST = 8  # columns that a shrinking column keeps


@dataclass(frozen=True, slots=True)
class Column:
    """A column; one that `shrinks` is cut where the table is too wide, the rightmost first."""

    title: str
    shrinks: bool = False
    right: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], columns_in_all: int | None) -> list[list[str]]:
    """Return the head and all rows as cells that line up when joined with `GAP`.

    Control characters are out of them. `columns_in_all` None cuts nothing: what is piped is for programs.
    """
    cells = [[column.title for column in columns], *([clean_line(cell) for cell in row] for row in rows)]
    widths = [max(width(row[index]) for row in cells) for index in range(len(columns))]
    if columns_in_all is not None:
        _shrink(columns, widths, columns_in_all)
    last = len(columns) - 1
    return [
        [_cell(cell, columns[index], widths[index], is_last=index == last) for index, cell in enumerate(row)]
        for row in cells
    ]


def _shrink(columns: Sequence[Column], widths: list[int], columns_in_all: int) -> None:
    over = sum(widths) + len(GAP) * (len(widths) - 1) - columns_in_all
    for index in reversed(range(len(columns))):
        if over <= 0:
            return
        if columns[index].shrinks:
            least = max(_LEAST, width(columns[index].title))
            given = max(0, min(over, widths[index] - least))
            widths[index] -= given
            over -= given


def _cell(cell: str, column: Column, columns: int, *, is_last: bool) -> str:
    cell = shortened(cell, columns)
    if column.right:
        return " " * (columns - width(cell)) + cell
    return cell if is_last else padded(cell, columns)
