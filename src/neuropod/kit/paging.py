"""Cursor paging: a page is read after a sort key, so rows that come and go never shift it."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from neuropod.kit.errors import FieldError, InvalidInputError

T = TypeVar("T")

MAX_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`items` in order, and the cursor that continues after the last of them (None at the end)."""

    items: Sequence[T]
    next_cursor: str | None


def encode_cursor(*key: str | int) -> str:
    """Return an opaque cursor for the sort key of the last row of a page."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, length: int) -> list[str | int]:
    """Return the sort key in a cursor of ours; anything else is an InvalidInputError on the field `cursor`."""
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(key, list) or len(key) != length or not all(isinstance(part, str | int) for part in key):
            raise ValueError
    except ValueError:
        message = "cursor must be a next_cursor of an earlier answer"
        raise InvalidInputError(message, fields=[FieldError("cursor", "cursor", message)]) from None
    return key


def page_of(rows: Sequence[T], limit: int, key: Callable[[T], tuple[str | int, ...]]) -> Page[T]:
    """Cut `rows`, read with `limit + 1`, into a page."""
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], encode_cursor(*key(rows[limit - 1])))
