"""The SQL of secrets. Called by accounts.secrets.service, and by the deletion of a user."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select

from neuropod.accounts.secrets.records import SecretRow
from neuropod.db.engine import ReadSession, Session


async def secrets_of(session: ReadSession, owner_id: str) -> Sequence[SecretRow]:
    """Return what a user keeps, by name."""
    query = select(SecretRow).where(SecretRow.owner_id == owner_id).order_by(SecretRow.name)
    return (await session.scalars(query)).all()


async def secrets_named(
    session: ReadSession, owner_ids: Collection[str], names: Collection[str]
) -> Sequence[SecretRow]:
    """Return the secrets of these names that these users keep, in one query."""
    query = select(SecretRow).where(SecretRow.owner_id.in_(owner_ids), SecretRow.name.in_(names))
    return (await session.scalars(query)).all()


async def names_of(session: ReadSession, owner_id: str) -> set[str]:
    """Return the names of what a user keeps."""
    return set(await session.scalars(select(SecretRow.name).where(SecretRow.owner_id == owner_id)))


async def count_secrets(session: ReadSession, owner_id: str) -> int:
    """Return how many a user keeps."""
    query = select(func.count()).select_from(SecretRow).where(SecretRow.owner_id == owner_id)
    return await session.scalar(query) or 0


async def delete_secrets(session: Session, owner_id: str) -> None:
    """Delete all that a user keeps."""
    await session.execute(
        delete(SecretRow).where(SecretRow.owner_id == owner_id).execution_options(synchronize_session=False)
    )
