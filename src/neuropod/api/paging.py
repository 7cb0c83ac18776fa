"""Pages of lists, the same for every list: `cursor` and `limit` of the query."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from neuropod.kit.paging import MAX_LIMIT


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page is asked for."""

    cursor: str | None
    limit: int


async def paging(
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=500)] = None,
    limit: Annotated[int, Query(description="Items on the page.", ge=1, le=MAX_LIMIT)] = 50,
) -> Paging:
    """Read the query."""
    return Paging(cursor, limit)


AskedPage = Annotated[Paging, Depends(paging)]
