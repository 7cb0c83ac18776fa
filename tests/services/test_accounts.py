"""The use-cases of accounts on both databases."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select

from neuropod.accounts.access import MACHINE, SYSTEM, Actor
from neuropod.accounts.passwords import Passwords
from neuropod.accounts.records import ApiKeyRow, SessionRow, SignInFailureRow, UserRow
from neuropod.accounts.service import Accounts
from neuropod.accounts.signing_in import Browser
from neuropod.accounts.visitors import Visitor, Visitors
from neuropod.db.audit import AuditRow
from neuropod.db.engine import Database, Topic
from neuropod.ids import SessionId, UserId
from neuropod.kit.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, UnauthenticatedError
from neuropod.kit.identifiers import user_hash
from neuropod.settings import Settings
from neuropod.words import Role, Scope
from support.api import CHEAP
from support.clocks import ManualClock
from support.rows import user_row

HERE = Browser("192.0.2.1", "a browser")
PRESET = "a-preset-key-of-at-least-32-characters"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _accounts(clock: ManualClock, **values: object) -> Accounts:
    return Accounts(Settings(**values), clock, Passwords(CHEAP))


async def _user(
    database: Database, accounts: Accounts, role: Role = Role.CLIENT, email: str = "a@example.org"
) -> UserRow:
    async with database.write() as session:
        return await accounts.create_user(session, email=email, role=role, actor=MACHINE)


async def _session(database: Database, accounts: Accounts, user: UserRow, browser: Browser = HERE) -> str:
    async with database.write() as session:
        link = await accounts.sign_ins.make_link(session, user, actor=MACHINE)
    async with database.write() as session:
        return (await accounts.sign_ins.use_link(session, link.token.reveal(), browser=browser)).token.reveal()


async def test_the_first_administrator_is_made_once(database: Database, clock: ManualClock):
    accounts = _accounts(clock, admin_email="Root@Example.org")

    async with database.write() as session:
        first = await accounts.first_administrator(session, actor=SYSTEM)
    async with database.write() as session:
        again = await accounts.first_administrator(session, actor=SYSTEM)

    assert (first.email, first.role, first.password_hash) == ("root@example.org", "admin", None)
    assert again.id == first.id


async def test_a_suspended_administrator_is_one_again_when_the_machine_says_so(database: Database, clock: ManualClock):
    accounts = _accounts(clock, admin_email="root@example.org")
    user = await _user(database, accounts, Role.CLIENT, "root@example.org")

    async with database.write() as session:
        found = await accounts.first_administrator(session, actor=MACHINE)

    assert (found.id, found.role) == (user.id, "admin")


async def test_hashes_that_collide_are_salted_again(database: Database, clock: ManualClock, monkeypatch):
    accounts = _accounts(clock)
    monkeypatch.setattr("neuropod.accounts.service.new_id", lambda _: "usr_same")
    async with database.write() as session:
        session.add(user_row(hash=user_hash("usr_same")))

    user = await _user(database, accounts)

    assert user.hash == user_hash("usr_same", 1)


async def test_only_administrators_make_people_and_links(database: Database, clock: ManualClock):
    accounts = _accounts(clock)
    user = await _user(database, accounts)
    client = Actor(UserId(user.id), Role.CLIENT, frozenset({Scope.READ, Scope.WRITE, Scope.ADMIN}), "session")
    unscoped = Actor(UserId(user.id), Role.ADMIN, frozenset({Scope.READ, Scope.WRITE}), "key")

    for actor in (client, unscoped):
        async with database.write() as session:
            with pytest.raises(ForbiddenError):
                await accounts.create_user(session, email="b@example.org", role=Role.ADMIN, actor=actor)
            with pytest.raises(ForbiddenError):
                await accounts.sign_ins.make_link(session, user, actor=actor)


@pytest.mark.parametrize(
    "email", ["", "nobody", "a@b@c", "a b@example.org", "<x>@example.org", "a@-", "a@example.org\n"]
)
async def test_an_address_that_is_none_is_refused(sqlite_url: str, clock: ManualClock, email: str):
    database = Database(sqlite_url)
    async with database.write() as session:
        if email.strip() != email:
            made = await _accounts(clock).create_user(session, email=email, role=Role.CLIENT, actor=MACHINE)
            assert made.email == email.strip()
        else:
            with pytest.raises(InvalidInputError):
                await _accounts(clock).create_user(session, email=email, role=Role.CLIENT, actor=MACHINE)
    await database.aclose()


async def test_a_password_sign_in_counts_its_try_before_the_password_is_looked_at(
    database: Database, clock: ManualClock
):
    accounts = _accounts(clock)
    user = await _user(database, accounts)
    async with database.write() as session:
        (await session.merge(user)).password_hash = await accounts.passwords.hash("a good password")

    async with database.write() as session:
        begun = await accounts.sign_ins.begin(session, " A@Example.org ", browser=HERE)
    async with database.read() as session:
        counted = len((await session.scalars(select(SignInFailureRow))).all())
    async with database.write() as session:
        made = await accounts.sign_ins.finish(session, begun, browser=HERE)
    async with database.read() as session:
        left = (await session.scalars(select(SignInFailureRow))).all()
        signed_in = await accounts.by_session_token(session, made.token.reveal())

    assert (counted, left) == (1, [])
    assert signed_in is not None
    assert signed_in.actor.user_id == user.id


async def test_a_password_that_was_changed_meanwhile_does_not_sign_in(database: Database, clock: ManualClock):
    accounts = _accounts(clock)
    user = await _user(database, accounts)
    async with database.write() as session:
        (await session.merge(user)).password_hash = "the old one"
    async with database.write() as session:
        begun = await accounts.sign_ins.begin(session, user.email, browser=HERE)
    async with database.write() as session:
        (await session.merge(user)).password_hash = "a new one"

    with pytest.raises(UnauthenticatedError):
        async with database.write() as session:
            await accounts.sign_ins.finish(session, begun, browser=HERE)


async def test_of_two_who_use_a_link_at_once_one_gets_in(database: Database, clock: ManualClock):
    accounts = _accounts(clock)
    user = await _user(database, accounts)
    async with database.write() as session:
        link = await accounts.sign_ins.make_link(session, user, actor=MACHINE)

    async def use() -> str:
        async with database.write() as session:
            return (await accounts.sign_ins.use_link(session, link.token.reveal(), browser=HERE)).row.id

    outcomes = await asyncio.gather(use(), use(), use(), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["UnauthenticatedError"] * 2 + ["str"]


async def test_a_link_ends_after_its_time(database: Database, clock: ManualClock):
    accounts = _accounts(clock)
    user = await _user(database, accounts)
    async with database.write() as session:
        link = await accounts.sign_ins.make_link(session, user, actor=MACHINE)
    await clock.advance(15 * 60)

    with pytest.raises(UnauthenticatedError):
        async with database.write() as session:
            await accounts.sign_ins.use_link(session, link.token.reveal(), browser=HERE)


async def test_a_sign_in_ends_the_session_that_the_browser_had(database: Database, clock: ManualClock):
    accounts = _accounts(clock)
    user, other = await _user(database, accounts), await _user(database, accounts, email="b@example.org")
    planted = await _session(database, accounts, other)

    token = await _session(database, accounts, user, Browser("192.0.2.1", "x", token=planted))

    async with database.read() as session:
        assert await accounts.by_session_token(session, planted) is None
        assert await accounts.by_session_token(session, token) is not None


async def test_setting_a_password_ends_links_and_other_sessions(database: Database, clock: ManualClock):
    accounts = _accounts(clock)
    user = await _user(database, accounts)
    mine, other = [await _session(database, accounts, user) for _ in range(2)]
    async with database.write() as session:
        link = await accounts.sign_ins.make_link(session, user, actor=MACHINE)
        signed_in = await accounts.by_session_token(session, mine)
    assert signed_in is not None

    async with database.write() as session:
        await accounts.set_password(session, "a hash", actor=signed_in.actor)
        nudged = set(session.topics)

    async with database.write() as session:
        assert await accounts.by_session_token(session, mine) is not None
        assert await accounts.by_session_token(session, other) is None
        with pytest.raises(UnauthenticatedError):
            await accounts.sign_ins.use_link(session, link.token.reveal(), browser=HERE)
    assert Topic.ROUTES in nudged


async def _preset_rows(database: Database) -> list[tuple[str, bool]]:
    async with database.read() as session:
        rows = (await session.scalars(select(ApiKeyRow).where(ApiKeyRow.preset).order_by(ApiKeyRow.id))).all()
        return [(row.user_id, row.revoked_at is None) for row in rows]


async def test_the_preset_key_follows_the_settings(database: Database, clock: ManualClock):
    admin = await _user(database, _accounts(clock), Role.ADMIN)
    history = []

    for key in (PRESET, PRESET, PRESET + "-2", None, PRESET):
        accounts = _accounts(clock, admin_api_key=key)
        async with database.write() as session:
            await accounts.keys.settle_preset_key(session, admin)
        async with database.read() as session:
            known = [await accounts.by_key(session, tried) is not None for tried in (PRESET, PRESET + "-2")]
        history.append(known)

    assert history == [[True, False], [True, False], [False, True], [False, False], [True, False]]
    assert len(await _preset_rows(database)) == 2


async def test_the_preset_key_has_all_scopes_is_kept_hashed_and_cannot_be_revoked(
    database: Database, clock: ManualClock
):
    accounts = _accounts(clock, admin_api_key=PRESET)
    admin = await _user(database, accounts, Role.ADMIN)
    async with database.write() as session:
        await accounts.keys.settle_preset_key(session, admin)
    token = await _session(database, accounts, admin)

    async with database.write() as session:
        row = (await session.scalars(select(ApiKeyRow))).one()
        signed_in = await accounts.by_session_token(session, token)
        assert signed_in is not None
        with pytest.raises(ConflictError):
            await accounts.keys.revoke_key(session, row.id, actor=signed_in.actor)

    assert set(row.scopes) == set(Scope)
    assert PRESET not in str(vars(row))
    assert len(row.prefix) <= 4


async def test_a_key_of_somebody_else_cannot_be_revoked(database: Database, clock: ManualClock):
    accounts = _accounts(clock)
    user, other = await _user(database, accounts), await _user(database, accounts, email="b@example.org")
    tokens = [await _session(database, accounts, one) for one in (user, other)]

    async with database.write() as session:
        mine, theirs = [await accounts.by_session_token(session, token) for token in tokens]
        assert mine is not None
        assert theirs is not None
        made = await accounts.keys.create_key(session, name="x", scopes=[Scope.READ], expires_at=None, actor=mine.actor)
        with pytest.raises(NotFoundError):
            await accounts.keys.revoke_key(session, made.row.id, actor=theirs.actor)


async def test_the_gate_knows_sessions_and_keys_of_scope_ports_alone(database: Database, clock: ManualClock):
    accounts = _accounts(clock)
    admin = await _user(database, accounts, Role.ADMIN)
    visitors = Visitors(database, accounts)
    token = await _session(database, accounts, admin)
    async with database.write() as session:
        signed_in = await accounts.by_session_token(session, token)
        assert signed_in is not None
        assert signed_in.by_session is not None
        keys = {
            scopes: (
                await accounts.keys.create_key(session, name="x", scopes=scopes, expires_at=None, actor=signed_in.actor)
            ).key.reveal()
            for scopes in [(Scope.PORTS,), (Scope.READ, Scope.WRITE, Scope.ADMIN), (Scope.PORTS, Scope.ADMIN)]
        }
    session_id = SessionId(signed_in.by_session.id)

    by_session = await visitors.by_session(session_id)
    by_key = {scopes: await visitors.by_key(key) for scopes, key in keys.items()}
    async with database.write() as session:
        await accounts.sign_ins.sign_out(session, actor=signed_in.actor)
        nudged = set(session.topics)

    assert by_session == Visitor(UserId(admin.id), Role.ADMIN, session_id=session_id)
    assert {scopes: visitor and visitor.role for scopes, visitor in by_key.items()} == {
        (Scope.PORTS,): Role.CLIENT,  # an administrator's rights need the scope
        (Scope.READ, Scope.WRITE, Scope.ADMIN): None,
        (Scope.PORTS, Scope.ADMIN): Role.ADMIN,
    }
    assert await visitors.by_session(session_id) is None
    assert Topic.ROUTES in nudged


async def test_what_ended_long_ago_is_swept_and_the_rest_stays(database: Database, clock: ManualClock):
    accounts = _accounts(clock, accounts={"session_seconds": 90 * 24 * 3600})
    user = await _user(database, accounts)
    stays, signed_out = [await _session(database, accounts, user) for _ in range(2)]
    async with database.write() as session:
        await accounts.sign_ins.begin(session, user.email, browser=HERE)
        found = await accounts.by_session_token(session, signed_out)
        assert found is not None
        await accounts.sign_ins.sign_out(session, actor=found.actor)
    await clock.advance(31 * 24 * 3600)

    async with database.write() as session:
        await accounts.sweep(session)

    async with database.read() as session:
        assert len((await session.scalars(select(SessionRow))).all()) == 1
        assert (await session.scalars(select(SignInFailureRow))).all() == []
        assert await accounts.by_session_token(session, stays) is not None


async def test_acts_are_written_down_without_secrets(database: Database, clock: ManualClock):
    accounts = _accounts(clock)
    user = await _user(database, accounts)
    token = await _session(database, accounts, user)
    async with database.write() as session:
        found = await accounts.by_session_token(session, token)
        assert found is not None
        made = await accounts.keys.create_key(
            session, name="x", scopes=[Scope.READ], expires_at=clock.now() + timedelta(days=1), actor=found.actor
        )
        await accounts.keys.revoke_key(session, made.row.id, actor=found.actor)

    async with database.read() as session:
        rows = (await session.scalars(select(AuditRow).order_by(AuditRow.id))).all()

    assert {row.verb for row in rows} == {
        "create_user", "make_sign_in_link", "sign_in", "create_api_key", "revoke_api_key",
    }  # fmt: skip
    everything = str([vars(row) for row in rows])
    assert token not in everything
    assert made.key.reveal() not in everything
