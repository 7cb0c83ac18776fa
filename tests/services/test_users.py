"""What administrators do with users, on both databases: suspend, reinstate, delete, roles, and who may not be touched."""

import asyncio

import pytest
from sqlalchemy import select

from neuropod.accounts.access import ALL_BUT_PORTS, MACHINE, Actor
from neuropod.accounts.people.service import Changes, UserFilters
from neuropod.accounts.records import SessionRow, UserRow
from neuropod.db.audit import AuditRow
from neuropod.db.engine import Topic
from neuropod.db.events import EventRow
from neuropod.ids import SessionId, UserId
from neuropod.kit.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.records import PodRow
from neuropod.words import Reason, Role, Scope, UserStatus, VolumesAtEnd, Want
from support.api import ApiWorld


async def _launch(world: ApiWorld, who: str, name: str) -> str:
    async with world.database.write() as session:
        request = LaunchRequest(name=name, template="jupyterlab")
        return (await world.parts.pods.launch_pod(session, request, actor=world.actor(who))).id


async def _pods(world: ApiWorld) -> dict[str, PodRow]:
    async with world.database.read() as session:
        return {row.name: row for row in await session.scalars(select(PodRow))}


async def _suspend(world: ApiWorld, who: str, by: str = "admin") -> UserRow:
    async with world.database.write() as session:
        user_id = world.person(who).id
        return await world.parts.owners.suspend_user(session, user_id, actor=world.actor(by), reason="left the lab")


async def _second_admin(world: ApiWorld) -> None:
    async with world.database.write() as session:
        world.people["second"] = await world.parts.accounts.create_user(
            session, email="second@example.org", role=Role.ADMIN, actor=MACHINE
        )


async def test_who_is_suspended_is_out_at_once_and_their_pods_are_stopped(world: ApiWorld):
    await _launch(world, "owner", "lab")
    await _launch(world, "outsider", "other")
    browser, program = await world.browser("owner"), await world.program("owner", *Scope)

    row = await _suspend(world, "owner")

    pods = await _pods(world)
    statuses = [(await client.get("/api/v1/me")).status_code for client in (browser, program)]
    assert row.status is UserStatus.SUSPENDED
    assert (pods["lab"].want, pods["lab"].want_reason) == (Want.STOPPED, Reason.SUSPENDED)
    assert pods["other"].want == Want.RUNNING
    assert statuses == [401, 401]


async def test_a_suspension_is_told_and_written_down_with_who_and_why(world: ApiWorld):
    pod = await _launch(world, "owner", "lab")

    await _suspend(world, "owner")
    await _suspend(world, "owner")

    async with world.database.read() as session:
        acts = (await session.scalars(select(AuditRow).order_by(AuditRow.id))).all()
        kinds = (await session.scalars(select(EventRow.kind))).all()
    suspensions = [act for act in acts if act.verb == "suspend_user"]
    stops = [act for act in acts if act.verb == "stop_pod"]
    owner, admin = world.person("owner").id, world.person("admin").id
    assert [(act.actor_id, act.owner_id, act.data["reason"]) for act in suspensions] == [(admin, owner, "left the lab")]
    assert [(act.actor_id, act.via, act.subject, act.data["reason"]) for act in stops] == [
        (None, "system", f"pod/{pod}", "suspended")
    ]
    assert kinds.count("user.suspended") == 1


async def test_who_is_let_in_again_signs_in_anew_and_starts_pods_by_hand(world: ApiWorld):
    pod = await _launch(world, "owner", "lab")
    browser, program = await world.browser("owner"), await world.program("owner", *Scope)
    await _suspend(world, "owner")

    async with world.database.write() as session:
        row = await world.parts.owners.reinstate_user(session, world.person("owner").id, actor=world.actor("admin"))

    assert row.status is UserStatus.ACTIVE
    assert (await browser.get("/api/v1/me")).status_code == 401
    assert (await program.get("/api/v1/me")).status_code == 200
    assert (await _pods(world))["lab"].want == Want.STOPPED
    assert (await program.post(f"/api/v1/pods/{pod}/start")).status_code == 200


async def test_neither_a_link_nor_a_program_that_asked_gets_a_suspended_user_in(world: ApiWorld):
    accounts = world.parts.accounts
    browser = await world.browser("owner")
    async with world.database.write() as session:
        link = await accounts.sign_ins.make_link(session, world.person("owner"), actor=MACHINE)
        asked = await accounts.keys.ask(session, name="laptop", scopes=[Scope.READ], address="192.0.2.1")
    await browser.post("/connect", data={"code": asked.row.code, "decision": "confirm"})
    await _suspend(world, "owner")

    page = world.http(origin=world.console)
    used = await page.post("/sign-in/link", data={"token": link.token.reveal()})
    claimed = await page.post(f"/api/v1/key-requests/{asked.row.id}/claim", json={"secret": asked.secret.reveal()})
    async with world.database.write() as session:
        await world.parts.owners.reinstate_user(session, world.person("owner").id, actor=MACHINE)
    later = await page.post("/sign-in/link", data={"token": link.token.reveal()})

    assert (used.status_code, claimed.status_code, later.status_code) == (401, 404, 401)


@pytest.mark.parametrize("act", ["suspend", "delete"])
async def test_nobody_does_it_to_themselves(world: ApiWorld, act: str):
    await _second_admin(world)
    admin, owners = world.actor("admin"), world.parts.owners
    itself = admin.user_id or ""

    async with world.database.write() as session:
        asked = (
            owners.suspend_user(session, itself, actor=admin)
            if act == "suspend"
            else owners.delete_user(session, itself, volumes=VolumesAtEnd.KEEP, actor=admin)
        )
        with pytest.raises(ConflictError) as refused:
            await asked

    assert refused.value.code == "not_yourself"


async def test_the_last_administrator_is_neither_demoted_nor_suspended_nor_deleted(world: ApiWorld):
    last = world.person("admin").id
    people, owners = world.parts.accounts.people, world.parts.owners

    for act in (
        lambda session: people.change_user(session, last, Changes(role=Role.CLIENT), actor=world.actor("admin")),
        lambda session: owners.suspend_user(session, last, actor=MACHINE),
        lambda session: owners.delete_user(session, last, volumes=VolumesAtEnd.KEEP, actor=MACHINE),
    ):
        with pytest.raises(ConflictError) as refused:
            async with world.database.write() as session:
                await act(session)
        assert refused.value.code == "last_administrator"

    async with world.database.read() as session:
        row = await session.get(UserRow, last)
    assert row is not None
    assert (row.role, row.status) == (Role.ADMIN, UserStatus.ACTIVE)


async def test_a_suspended_administrator_does_not_count_as_one_who_is_left(world: ApiWorld):
    await _second_admin(world)
    await _suspend(world, "second")

    with pytest.raises(ConflictError):
        async with world.database.write() as session:
            await world.parts.accounts.people.change_user(
                session, world.person("admin").id, Changes(role=Role.CLIENT), actor=world.actor("admin")
            )


async def test_of_two_administrators_who_demote_each_other_at_once_one_is_left(world: ApiWorld):
    await _second_admin(world)

    async def demote(who: str, by: str) -> None:
        async with world.database.write() as session:
            await world.parts.accounts.people.change_user(
                session, world.person(who).id, Changes(role=Role.CLIENT), actor=world.actor(by)
            )

    outcomes = await asyncio.gather(demote("second", "admin"), demote("admin", "second"), return_exceptions=True)

    async with world.database.read() as session:
        left = (await session.scalars(select(UserRow.id).where(UserRow.role == Role.ADMIN))).all()
    assert len(left) == 1
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConflictError", "NoneType"]


async def test_no_launch_slips_in_beside_a_suspension(world: ApiWorld):
    tasks = [_launch(world, "owner", f"lab{number}") for number in range(4)]

    await asyncio.gather(*tasks[:2], _suspend(world, "owner"), *tasks[2:], return_exceptions=True)

    running = [pod for pod in (await _pods(world)).values() if pod.want == Want.RUNNING]
    assert running == []


async def test_a_role_holds_from_the_next_request_on(world: ApiWorld):
    browser = await world.browser("owner")
    people = world.parts.accounts.people
    before = (await browser.get("/api/v1/users")).status_code

    async with world.database.write() as session:
        await people.change_user(
            session, world.person("owner").id, Changes(role=Role.ADMIN), actor=world.actor("admin")
        )
        nudged = set(session.topics)
    after = (await browser.get("/api/v1/users")).status_code

    assert (before, after) == (403, 200)
    assert Topic.ROUTES in nudged


async def test_a_deleted_user_is_gone_at_once_and_their_row_stays_until_their_pods_are(world: ApiWorld):
    await _launch(world, "owner", "lab")
    browser, program = await world.browser("owner"), await world.program("owner", *Scope)
    owner = world.person("owner")

    async with world.database.write() as session:
        row = await world.parts.owners.delete_user(
            session, owner.id, volumes=VolumesAtEnd.KEEP, actor=world.actor("admin")
        )
        again = await world.parts.owners.delete_user(
            session, owner.id, volumes=VolumesAtEnd.KEEP, actor=world.actor("admin")
        )

    statuses = [(await client.get("/api/v1/me")).status_code for client in (browser, program)]
    assert (row.status, again.status) == (UserStatus.DELETING, UserStatus.DELETING)
    assert (row.password_hash, row.volumes_at_end) == (None, "keep")
    assert statuses == [401, 401]
    assert (await _pods(world))["lab"].want == Want.GONE


async def test_a_deletion_says_what_becomes_of_volumes(world: ApiWorld):
    async with world.database.write() as session:
        with pytest.raises(InvalidInputError) as refused:
            await world.parts.owners.delete_user(
                session, world.person("owner").id, volumes=None, actor=world.actor("admin")
            )

    assert [(wrong.field, wrong.code) for wrong in refused.value.fields] == [("volumes", "missing")]


async def test_an_address_is_free_again_after_a_deletion_and_brings_nothing_back(world: ApiWorld):
    pod = await _launch(world, "owner", "lab")
    old = world.person("owner")
    async with world.database.write() as session:
        await world.parts.owners.delete_user(session, old.id, volumes=VolumesAtEnd.KEEP, actor=MACHINE)

    async with world.database.write() as session:
        new = await world.parts.accounts.create_user(session, email=old.email, role=Role.CLIENT, actor=MACHINE)
    world.people["owner"] = new
    browser = await world.browser("owner")

    assert (new.id != old.id, new.hash != old.hash) == (True, True)
    assert (await browser.get(f"/api/v1/pods/{pod}")).status_code == 404
    with pytest.raises(ConflictError):
        async with world.database.write() as session:
            await world.parts.owners.reinstate_user(session, old.id, actor=MACHINE)


async def test_users_are_found_by_parts_of_address_and_name_and_paged(world: ApiWorld):
    people = world.parts.accounts.people
    async with world.database.write() as session:
        for email, name in (("x_y@example.org", "Äda Byron"), ("xzy@example.org", "Grace"), ("q@example.org", "100%")):
            await world.parts.accounts.create_user(session, email=email, name=name, role=Role.CLIENT, actor=MACHINE)

    async def found(limit: int = 50, cursor: str | None = None, **filters: object) -> tuple[list[str], str | None]:
        async with world.database.read() as session:
            page = await people.list_users(
                session, actor=world.actor("admin"), filters=UserFilters(**filters), cursor=cursor, limit=limit
            )
        return [row.email.partition("@")[0] for row in page.items], page.next_cursor

    first, cursor = await found(limit=4)
    rest, end = await found(limit=4, cursor=cursor)

    assert (first + rest, end) == (["admin", "outsider", "owner", "q", "x_y", "xzy"], None)
    assert (await found(search="X_Y"))[0] == ["x_y"]  # the underline is no wildcard
    assert (await found(search="byron"))[0] == ["x_y"]
    assert (await found(search="%"))[0] == ["q"]
    assert (await found(role=Role.ADMIN))[0] == ["admin"]
    assert (await found(status=UserStatus.SUSPENDED))[0] == []


async def test_clients_and_keys_without_admin_do_nothing_of_it(world: ApiWorld):
    unscoped = Actor(UserId(world.person("admin").id), Role.ADMIN, frozenset({Scope.READ, Scope.WRITE}), "key")
    unreading = Actor(UserId(world.person("admin").id), Role.ADMIN, frozenset({Scope.ADMIN}), "key")
    people, owners, owner = world.parts.accounts.people, world.parts.owners, world.person("owner").id

    for actor in (world.actor("outsider"), unscoped, unreading):
        for act in (
            lambda session, actor=actor: people.list_users(
                session, actor=actor, filters=UserFilters(), cursor=None, limit=5
            ),
            lambda session, actor=actor: people.show_user(session, owner, actor=actor),
            lambda session, actor=actor: people.change_user(session, owner, Changes(name="x"), actor=actor),
            lambda session, actor=actor: people.revoke_sessions(session, owner, actor=actor),
            lambda session, actor=actor: owners.suspend_user(session, owner, actor=actor),
            lambda session, actor=actor: owners.reinstate_user(session, owner, actor=actor),
            lambda session, actor=actor: owners.delete_user(session, owner, volumes=VolumesAtEnd.KEEP, actor=actor),
        ):
            async with world.database.write() as session:
                with pytest.raises(ForbiddenError):
                    await act(session)


async def test_sessions_are_listed_and_ended_one_by_one_or_all_but_the_one_that_asks(world: ApiWorld):
    people, now = world.parts.accounts.people, world.clock.now()
    mine, other, third = [await world.browser("owner") for _ in range(3)]
    listed = (await mine.get("/api/v1/me/sessions")).json()["items"]
    current = [one["id"] for one in listed if one["current"]]
    ids = [one["id"] for one in listed]

    async with world.database.write() as session:
        row = await session.get(SessionRow, ids[1])
        assert row is not None
        ended_actor = Actor(
            UserId(row.user_id), Role.CLIENT, ALL_BUT_PORTS, "session", session_id=SessionId(current[0])
        )
        await people.revoke_session(session, None, ids[1], actor=ended_actor)
        with pytest.raises(NotFoundError):
            await people.revoke_session(session, None, ids[1], actor=ended_actor)
        count = await people.revoke_sessions(session, None, actor=ended_actor)

    assert (len(ids), len(current), current[0]) == (3, 1, ids[2])
    assert count == 1
    assert [(await one.get("/api/v1/me")).status_code for one in (mine, other, third)] == [200, 401, 401]
    async with world.database.read() as session:
        revoked = (await session.scalars(select(SessionRow.revoked_at).where(SessionRow.id != current[0]))).all()
    assert revoked == [now, now]


async def test_an_administrator_ends_sessions_of_a_user_who_is_told(world: ApiWorld):
    browser, admin = await world.browser("owner"), world.actor("admin")

    async with world.database.write() as session:
        count = await world.parts.accounts.people.revoke_sessions(session, "owner@example.org", actor=admin)
        nudged = set(session.topics)

    async with world.database.read() as session:
        kinds = (await session.scalars(select(EventRow.kind))).all()
    assert (count, (await browser.get("/api/v1/me")).status_code) == (1, 401)
    assert kinds == ["user.sessions_revoked"]
    assert Topic.ROUTES in nudged
