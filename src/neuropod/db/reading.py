"""Reading rows in plain statements, past the session's unit of work: for what is read often and changed by nobody.

For every row that the ORM loads it keeps a state, an entry in the session's map and an instrumented attribute for each
column, so that changes can be found later; that costs as much as the statement itself. Here a row is a named tuple with
its record's attributes, properties and methods. It cannot be changed; who wants to change a row reads it through the
session. What the session has not written yet is written first, as before its own queries.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import Column, Executable
from sqlalchemy.orm import Session as PlainSession

from neuropod.db.engine import ReadSession
from neuropod.db.record import Record, table_of

A = TypeVar("A", bound=Record)
B = TypeVar("B", bound=Record)

Parameters = Mapping[str, Any]


def columns_of(record: type[Record], without: frozenset[str] = frozenset()) -> Sequence[Column[Any]]:
    """Return the columns to select, in the order in which this module reads them."""
    return [column for column in table_of(record).columns if column.key not in without]


async def read_values(session: ReadSession, statement: Executable, parameters: Parameters) -> Sequence[Sequence[Any]]:
    """Return what a statement selects, or returns of what it changed, as it is."""

    def read(own: PlainSession) -> Sequence[Sequence[Any]]:
        own.flush()
        return session.connected().execute(statement, parameters).all()

    return await session.run_sync(read)


async def read_rows(
    session: ReadSession,
    record: type[A],
    statement: Executable,
    parameters: Parameters,
    without: frozenset[str] = frozenset(),
) -> list[A]:
    """Return the rows of a statement that selects (or returns) `columns_of(record, without)`; they have no others."""
    plain = _plain(record, without)
    return [plain.made_of(values) for values in await read_values(session, statement, parameters)]


async def read_pairs(
    session: ReadSession, first: type[A], second: type[B], statement: Executable, parameters: Parameters
) -> list[tuple[A, B]]:
    """Return the rows of a statement that selects the columns of two records, one after the other."""
    one, two = _plain(first), _plain(second)
    rows = await read_values(session, statement, parameters)
    return [(one.made_of(row[: one.width]), two.made_of(row[one.width :])) for row in rows]


def row_of(record: type[A], values: Sequence[Any]) -> A:
    """Return a record's row out of values that begin with its own."""
    plain = _plain(record)
    return cast("A", plain.made_of(values[: plain.width]))


def row_or_none(record: type[A], values: Sequence[Any]) -> A | None:
    """Return a record's row out of values that begin with its own; None where an outer join found none."""
    missing = all(value is None for value in values[: _plain(record).width])
    return None if missing else row_of(record, values)


class _Plain(NamedTuple):
    width: int
    made_of: Callable[[Sequence[Any]], Any]


@cache
def _plain(record: type[Record], without: frozenset[str] = frozenset()) -> _Plain:
    names = [column.key for column in columns_of(record, without)]
    own = {
        name: value
        for name, value in vars(record).items()
        if isinstance(value, property | FunctionType) and not name.startswith("_")  # the ORM's makings aside
    }
    values = namedtuple(record.__name__, names)  # type: ignore[misc]  # noqa: PYI024 - its names are not known before
    kind = type(record.__name__, (values,), {**own, "__slots__": ()})
    return _Plain(len(names), kind._make)  # type: ignore[attr-defined]
