"""All SQL of the ledger: so far the account row, whose lock lets one promise at a time be made to a user."""

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from neuropod.accounts.records import UserRow
from neuropod.db.engine import Session
from neuropod.ids import UserId
from neuropod.ledger.records import AccountRow


async def lock_account(session: Session, user_id: UserId) -> tuple[AccountRow, UserRow] | None:
    """Return a person's account, made at first use, locked until this transaction ends, and the person.

    None: no such person. Take it before any row of the person's pods or volumes: whoever decides by what somebody has,
    decides alone.
    """
    query = (
        select(AccountRow, UserRow)
        .join(UserRow, UserRow.id == AccountRow.user_id)
        .where(AccountRow.user_id == user_id)
        .with_for_update(of=AccountRow)
        .execution_options(populate_existing=True)
    )
    found = (await session.execute(query)).first()
    if found is None and await session.get(UserRow, user_id) is not None:
        insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        await session.execute(insert(AccountRow).values(user_id=user_id).on_conflict_do_nothing())
        found = (await session.execute(query)).first()
    return None if found is None else (found[0], found[1])
