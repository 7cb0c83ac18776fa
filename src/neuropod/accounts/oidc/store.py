"""The SQL of identities."""

from collections.abc import Sequence

from sqlalchemy import select

from neuropod.accounts.records import IdentityRow, UserRow
from neuropod.db.engine import ReadSession


async def identities_of(session: ReadSession, user_id: str) -> Sequence[IdentityRow]:
    """Return the identities that sign a user in."""
    query = select(IdentityRow).where(IdentityRow.user_id == user_id).order_by(IdentityRow.id)
    return (await session.scalars(query)).all()


async def identity(session: ReadSession, issuer: str, subject: str) -> tuple[IdentityRow, UserRow] | None:
    """Return the identity of a provider's subject, and whose it is."""
    query = (
        select(IdentityRow, UserRow)
        .join(UserRow, UserRow.id == IdentityRow.user_id)
        .where(IdentityRow.issuer == issuer, IdentityRow.subject == subject)
    )
    row = (await session.execute(query)).first()
    return None if row is None else (row[0], row[1])
