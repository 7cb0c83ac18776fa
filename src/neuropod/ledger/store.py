"""All SQL of the ledger: so far the account row, whose lock lets one promise at a time be made to a user."""

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from neuropod.db.engine import Session
from neuropod.ids import UserId
from neuropod.ledger.records import AccountRow


async def lock_account(session: Session, user_id: UserId) -> AccountRow:
    """Return the user's account, made at first use, locked until this transaction ends.

    Take it before any row of the user's pods or volumes: whoever decides by what a user has, decides alone.
    """
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    query = select(AccountRow).where(AccountRow.user_id == user_id).with_for_update()
    account = await session.scalar(query.execution_options(populate_existing=True))
    if account is None:
        await session.execute(insert(AccountRow).values(user_id=user_id).on_conflict_do_nothing())
        account = (await session.scalars(query)).one()
    return account
