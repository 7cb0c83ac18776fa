"""The SQL of registries. Called by accounts.registries.service, pods.registries, and by the deletion of a user."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from neuropod.accounts.registries.records import PrivateHostRow, RegistryRow
from neuropod.db.engine import ReadSession, Session


async def registries_of(session: ReadSession, owner_id: str) -> Sequence[RegistryRow]:
    """Return a user's, by host."""
    query = select(RegistryRow).where(RegistryRow.owner_id == owner_id).order_by(RegistryRow.host)
    return (await session.scalars(query)).all()


async def registries_at(
    session: ReadSession, owner_ids: Collection[str], hosts: Collection[str]
) -> Sequence[RegistryRow]:
    """Return what these users keep for these hosts, in one query."""
    query = select(RegistryRow).where(RegistryRow.owner_id.in_(owner_ids), RegistryRow.host.in_(hosts))
    return (await session.scalars(query)).all()


async def count_registries(session: ReadSession, owner_id: str) -> int:
    """Return how many a user keeps."""
    query = select(func.count()).select_from(RegistryRow).where(RegistryRow.owner_id == owner_id)
    return await session.scalar(query) or 0


async def delete_registries(session: Session, owner_id: str) -> None:
    """Delete all that a user keeps."""
    await session.execute(
        delete(RegistryRow).where(RegistryRow.owner_id == owner_id).execution_options(synchronize_session=False)
    )


async def note_private_host(session: Session, host: str) -> None:
    """Write down that private images may come from a host; may be repeated, by several at once."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    await session.execute(insert(PrivateHostRow).values(host=host).on_conflict_do_nothing())


async def private_hosts(session: ReadSession, hosts: Collection[str]) -> set[str]:
    """Return those of the hosts from which private images may come."""
    return set(await session.scalars(select(PrivateHostRow.host).where(PrivateHostRow.host.in_(hosts))))
