"""All SQL of the ledger: so far the lock that lets one promise at a time be made to a user."""

from sqlalchemy import bindparam, literal, select
from sqlalchemy.dialects import postgresql

from neuropod.accounts.records import UserRow
from neuropod.db.engine import Session
from neuropod.ids import UserId
from neuropod.ledger.records import AccountRow

_LOCKED = select(AccountRow.user_id).where(AccountRow.user_id == bindparam("user_id")).with_for_update()


async def lock_account(session: Session, user_id: UserId) -> None:
    """Let nobody else decide by what this user has until this transaction ends. SQLite's writers are alone.

    Take it before any row of the user's pods or volumes, and read what they have after it, in a statement of its own:
    one that had to wait for the lock still sees what was there before. An account's row is made at first use.
    """
    if session.get_bind().dialect.name == "sqlite":
        return
    asked = {"user_id": user_id}
    if await session.scalar(_LOCKED, asked) is None:
        person = select(UserRow.id, literal(0)).where(UserRow.id == user_id)
        made = postgresql.insert(AccountRow).from_select(["user_id", "balance_micros"], person)
        await session.execute(made.on_conflict_do_nothing())
        await session.execute(_LOCKED, asked)
