"""What a use-case would find wrong, found by trying: where the shape is wrong already one answer then says all.

Called by the routes that create and edit, through `errors.WrongFieldsToo`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from neuropod.api.deps import Caller
from neuropod.db.engine import Session
from neuropod.kit.errors import FieldError, InvalidInputError, NeuropodError


class _TriedOutError(Exception):
    """Ends a transaction that was only a try."""


async def wrong_fields(caller: Caller, act: Callable[[Session], Awaitable[Any]]) -> Sequence[FieldError]:
    """Run a use-case in a transaction that is always rolled back, and return what it finds wrong."""
    try:
        async with caller.writing() as session:
            await act(session)
            raise _TriedOutError
    except InvalidInputError as error:
        return error.fields
    except (_TriedOutError, NeuropodError):
        return ()
