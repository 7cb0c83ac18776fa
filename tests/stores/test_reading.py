"""Plain reading: rows with their records' attributes, which see what the session has yet to write."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from neuropod.accounts.records import UserRow
from neuropod.db.engine import Database
from neuropod.db.reading import columns_of, read_pairs, read_rows, read_values, row_of
from neuropod.pods.records import PodRow
from support.rows import pod_row, user_row

NOW = datetime(2026, 1, 1, 12, 30, 15, 250_000, tzinfo=UTC)
USERS = select(*columns_of(UserRow)).order_by(UserRow.id)


async def test_a_row_has_what_its_record_has_as_the_session_would_read_it(database: Database):
    async with database.write() as session:
        user = user_row(suspended_at=NOW)
        session.add(user)
        await session.flush()
        session.add(pod_row(user, name="lab", want_at=NOW, command=["sh", "-c", "ls"]))

    pods = select(*columns_of(PodRow), *columns_of(UserRow)).join(UserRow, UserRow.id == PodRow.owner_id)
    async with database.read() as session:
        ((pod, owner),) = await read_pairs(session, PodRow, UserRow, pods, {})
        kept, person = (
            await session.execute(select(PodRow, UserRow).join(UserRow, UserRow.id == PodRow.owner_id))
        ).one()

    for column in columns_of(PodRow):
        assert getattr(pod, column.key) == getattr(kept, column.key), column.key
    for column in columns_of(UserRow):
        assert getattr(owner, column.key) == getattr(person, column.key), column.key
    assert (pod.want_at, pod.command) == (NOW, ["sh", "-c", "ls"])
    assert owner.active is False  # a property
    assert owner.status == person.status


async def test_what_the_session_has_not_written_yet_is_read_too(database: Database):
    async with database.write() as session:
        user = user_row()
        session.add(user)
        (added,) = await read_rows(session, UserRow, USERS, {})
        user.name = "Grace"
        (changed,) = await read_rows(session, UserRow, USERS, {})

    assert added.id == user.id
    assert changed.name == "Grace"


async def test_a_row_that_was_read_keeps_as_it_was_and_cannot_be_changed(database: Database):
    async with database.write() as session:
        user = user_row(name="Ada")
        session.add(user)
        (before,) = await read_rows(session, UserRow, USERS, {})
        user.name = "Grace"
        await session.flush()

    assert before.name == "Ada"
    with pytest.raises(AttributeError):
        before.name = "Grace"


async def test_a_row_is_made_of_the_first_of_more_values(database: Database):
    async with database.write() as session:
        session.add(user_row())
        ((*values, last),) = await read_values(session, select(*columns_of(UserRow), UserRow.hash), {})

    user = row_of(UserRow, [*values, last])
    assert user.hash == last
