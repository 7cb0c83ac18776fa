"""Who finds which template, in which order, on both databases."""

from typing import Any

import pytest

from neuropod.accounts.access import MACHINE, Actor
from neuropod.accounts.records import UserRow
from neuropod.db.engine import Database
from neuropod.ids import UserId
from neuropod.kit.errors import InvalidInputError
from neuropod.kit.identifiers import new_id
from neuropod.templates import store
from neuropod.templates.records import TemplateRow
from neuropod.templates.snapshot import TemplateSnapshot
from neuropod.words import Role, Scope
from support.rows import NOW, user_row


def actor_of(user: UserRow, *scopes: Scope) -> Actor:
    return Actor(UserId(user.id), Role(user.role), frozenset(scopes or Scope), "key")


def template_row(name: str, author: UserRow | None = None, **values: Any) -> TemplateRow:
    defaults: dict[str, Any] = {
        "id": new_id("tpl"),
        "name": name,
        "author_id": author and author.id,
        "public": author is None,
        "title": name.title(),
        "description": "",
        "readme": "",
        "snapshot": TemplateSnapshot(name=name, title=name.title()).to_json(),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return TemplateRow(**(defaults | values))


@pytest.fixture
async def people(database: Database) -> tuple[UserRow, UserRow, UserRow]:
    ann, ben, admin = user_row(), user_row(), user_row(role=Role.ADMIN)
    async with database.write() as session:
        session.add_all([ann, ben, admin])
        await session.flush()
        session.add_all(
            [
                template_row("web"),
                template_row("lab"),
                template_row("lab", ann),
                template_row("ann-public", ann, public=True),
                template_row("lab", ben),
                template_row("ben-private", ben),
            ]
        )
    return ann, ben, admin


async def _seen(database: Database, actor: Actor) -> list[tuple[str, bool]]:
    async with database.read() as session:
        page = await store.templates(session, actor=actor, cursor=None, limit=50)
        return [(row.name, row.author_id is None) for row in page.items]


async def test_people_see_starters_then_what_is_public_and_what_is_their_own(database, people):
    ann, ben, _ = people

    assert await _seen(database, actor_of(ann)) == [
        ("lab", True),
        ("web", True),
        ("ann-public", False),
        ("lab", False),
    ]
    assert await _seen(database, actor_of(ben)) == [
        ("lab", True),
        ("web", True),
        ("ann-public", False),
        ("ben-private", False),
        ("lab", False),
    ]


async def test_an_administrator_sees_all_but_not_with_a_key_that_lacks_the_scope(database, people):
    _, _, admin = people

    assert len(await _seen(database, actor_of(admin))) == 6
    assert len(await _seen(database, MACHINE)) == 6
    assert len(await _seen(database, actor_of(admin, Scope.READ))) == 3


async def test_pages_follow_each_other_without_a_gap_or_a_double(database, people):
    ann, _, _ = people
    seen, cursor = [], None

    while True:
        async with database.read() as session:
            page = await store.templates(session, actor=actor_of(ann), cursor=cursor, limit=1)
        seen += [(row.name, row.author_id is None) for row in page.items]
        if (cursor := page.next_cursor) is None:
            break

    assert seen == await _seen(database, actor_of(ann))


async def test_a_cursor_of_something_else_is_refused(database):
    async with database.read() as session:
        with pytest.raises(InvalidInputError):
            await store.templates(session, actor=MACHINE, cursor="bm8", limit=1)


async def test_a_name_means_ones_own_template_first_and_never_anothers(database, people):
    ann, ben, admin = people

    async with database.read() as session:
        found = {user: await store.template_by_name(session, "lab", actor=actor_of(user)) for user in (ann, ben, admin)}
        of_ben_for_ann = await store.template_by_name(session, "ben-private", actor=actor_of(ann))
        public_for_ben = await store.template_by_name(session, "ann-public", actor=actor_of(ben))
        for_the_machine = await store.template_by_name(session, "lab", actor=MACHINE)

    assert [found[user].author_id for user in (ann, ben, admin)] == [ann.id, ben.id, None]
    assert for_the_machine.author_id is None
    assert of_ben_for_ann is None
    assert public_for_ben is None


async def test_an_id_finds_what_is_in_sight_and_nothing_else(database, people):
    ann, ben, admin = people
    async with database.read() as session:
        private = await store.template_by_name(session, "ben-private", actor=actor_of(ben))
        public = await store.template_by_name(session, "ann-public", actor=actor_of(ann))

        assert await store.template_by_id(session, private.id, actor=actor_of(ann)) is None
        assert (await store.template_by_id(session, private.id, actor=actor_of(admin))).id == private.id
        assert (await store.template_by_id(session, public.id, actor=actor_of(ben))).id == public.id
