"""`/api/v1/pods/{pod}/exec`: who may open it, what is answered before, how it is spoken, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import select, update

from neuropod.api.app import build_routes
from neuropod.db.audit import AuditRow
from neuropod.db.events import EventRow
from neuropod.pods.records import IncarnationRow
from neuropod.runtimes.contract import Capability, NotSupportedError
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.wire.exec import MAX_COMMAND_BYTES, MAX_MESSAGE_BYTES, STDERR, STDIN, STDOUT
from neuropod.words import Scope
from support.api import POD, ApiWorld
from support.terminals import SIZE, Served, served

NORMAL = 1000


@pytest.fixture
async def here(sqlite_world: ApiWorld) -> AsyncIterator[Served]:
    async with served(sqlite_world) as made:
        yield made


# Who may


@pytest.mark.parametrize(
    ("caller", "answer"),
    [
        ("nobody", (401, "unauthenticated")),
        ("outsider", (404, "not_found")),
        ("owner", None),
        ("admin", None),
        ("key", None),
        ("key that reads", (403, "scope_missing")),
        ("key for ports", (403, "scope_missing")),
        ("key of an outsider", (404, "not_found")),
        ("wrong key", (401, "unauthenticated")),
    ],
)
async def test_who_may_open_it(here: Served, caller: str, answer: tuple[int, str] | None):
    pod = await here.running_pod()
    headers = {
        "nobody": {},
        "outsider": await here.cookie("outsider"),
        "owner": await here.cookie("owner"),
        "admin": await here.cookie("admin"),
        "key": await here.key("owner", Scope.WRITE),
        "key that reads": await here.key("owner", Scope.READ),
        "key for ports": await here.key("owner", Scope.PORTS),
        "key of an outsider": await here.key("outsider", Scope.WRITE),
        "wrong key": {"Authorization": "Bearer npk_wrong"},
    }[caller]

    if answer is not None:
        assert await here.refusal(pod, headers) == answer
        return
    async with here.command(pod, headers, "echo", "hello") as command:
        assert command.socket.subprotocol == "neuropod.exec.v1"
        assert await command.to_the_end() == NORMAL
    assert command.output[STDOUT] == b"hello\n"
    assert command.end == {"exit_code": 0, "code": None, "message": ""}


async def test_the_owner_reaches_it_by_name_on_every_host_that_programs_use(here: Served):
    await here.running_pod()
    addresses = here.world.parts.addresses

    for host in (addresses.console_host, addresses.api_host, "127.0.0.1"):
        async with here.command("lab", await here.key("owner", Scope.WRITE), "true", host=host) as command:
            assert await command.to_the_end() == NORMAL


# What is answered before


async def test_a_pod_that_does_not_run_yet_or_no_more_is_a_conflict(here: Served):
    owner = await here.world.browser("owner")
    headers = await here.key("owner", Scope.WRITE)
    await owner.post("/api/v1/pods", json=POD | {"name": "waits"})
    running = await here.running_pod()

    assert await here.refusal("waits", headers) == (409, "not_running")
    await owner.post(f"/api/v1/pods/{running}/stop")
    assert await here.refusal(running, headers) == (409, "not_running")
    assert await here.refusal("no-such-pod", headers) == (404, "not_found")


async def test_a_runtime_without_the_ability_is_a_501(here: Served, monkeypatch: pytest.MonkeyPatch):
    pod = await here.running_pod()
    less = here.world.runtime.capabilities - {Capability.EXEC}
    monkeypatch.setattr(FakeRuntime, "capabilities", property(lambda _: less))

    assert await here.refusal(pod, await here.key("owner", Scope.WRITE)) == (501, "not_supported")


async def test_another_subprotocol_is_refused_and_none_is_taken(here: Served):
    pod = await here.running_pod()
    headers = await here.key("owner", Scope.WRITE)

    refusal = await here.refusal(pod, headers, subprotocols=["v5.channel.k8s.io"])
    async with here.command(pod, headers, "true", subprotocols=[]) as command:
        code = await command.to_the_end()

    assert refusal == (400, "unknown_subprotocol")
    assert (code, command.socket.subprotocol) == (NORMAL, None)


async def test_a_request_without_an_upgrade_is_told_to_upgrade(here: Served):
    pod = await here.running_pod()
    owner = await here.world.browser("owner")

    answer = await owner.get(f"/api/v1/pods/{pod}/exec")

    assert (answer.status_code, answer.json()["code"], answer.headers["upgrade"]) == (
        426,
        "upgrade_required",
        "websocket",
    )


def test_every_web_socket_of_the_api_has_its_callers_here(sqlite_world: ApiWorld):
    routes = iter_route_contexts(build_routes(sqlite_world.parts).routes)

    assert [route.path for route in routes if not route.methods] == ["/api/v1/pods/{pod}/exec"]


# How it is spoken


async def test_a_commands_streams_come_apart_and_its_exit_code_comes_last(here: Served):
    pod = await here.running_pod()

    async with here.command(pod, await here.cookie("owner"), "sh", "-c", "echo one; echo two >&2; exit 3") as command:
        closed = await command.to_the_end()

    assert (closed, command.output) == (NORMAL, {STDOUT: b"one\n", STDERR: b"two\n"})
    assert command.end == {"exit_code": 3, "code": None, "message": ""}


async def test_input_passes_byte_for_byte_until_its_end(here: Served):
    pod = await here.running_pod()
    given = bytes(range(256)) * 1024

    async with here.command(pod, await here.cookie("owner"), "cat") as command:
        for start in range(0, len(given), 50_000):
            await command.give(given[start : start + 50_000])
        await command.end_input()
        closed = await command.to_the_end()

    assert (closed, command.output[STDOUT]) == (NORMAL, given)
    assert command.end is not None
    assert command.end["exit_code"] == 0


async def test_a_terminal_is_a_shell_that_takes_another_size(here: Served):
    pod = await here.running_pod()

    async with here.command(pod, await here.cookie("owner"), terminal=SIZE) as shell:
        await shell.give(b"stty size\r")
        await shell.until(b"33 77\r\n")
        await shell.resize(11, 22)
        await shell.give(b"stty size\r")
        await shell.until(b"11 22\r\n")
        await shell.give(b"exit 7\r")
        closed = await shell.to_the_end()

    assert (closed, shell.end) == (NORMAL, {"exit_code": 7, "code": None, "message": ""})


@pytest.mark.parametrize(
    ("first", "says"),
    [
        ("not json", "JSON"),
        ('{"command": ["ls"], "user": "root"}', "user"),
        ('{"command": ["a\\u0000b"]}', "no program can be given"),
        ('{"command": [""]}', "no program can be given"),
        (json.dumps({"command": ["x" * (MAX_COMMAND_BYTES + 1)]}), str(MAX_COMMAND_BYTES)),
        ('{"terminal": {"rows": 0, "columns": 80}}', "rows"),
        ('{"terminal": {"rows": 24, "columns": 80, "term": "a;b"}}', "term"),
        (bytes([STDIN]) + b"too early", "JSON"),
    ],
)
async def test_a_first_message_that_cannot_be_taken_is_said(here: Served, first: str | bytes, says: str):
    pod = await here.running_pod()

    async with here.opened(pod, await here.cookie("owner")) as spoken:
        await spoken.socket.send(first)
        closed = await spoken.to_the_end()

    assert closed == NORMAL
    assert spoken.end is not None
    assert (spoken.end["exit_code"], spoken.end["code"]) == (None, "invalid")
    assert says in spoken.end["message"]


@pytest.mark.parametrize("later", [b"", b"\x01out", b"\x04{}", b'\x04{"rows": 1}', "text"])
async def test_a_later_message_that_cannot_be_taken_ends_the_command(here: Served, later: str | bytes):
    pod = await here.running_pod()

    async with here.command(pod, await here.cookie("owner"), "sleep", "1000") as command:
        await command.socket.send(later)
        await command.to_the_end()

    assert command.end is not None
    assert command.end["code"] == "invalid"


async def test_an_image_without_a_shell_is_told_with_what_to_do(here: Served):
    pod = await here.running_pod()

    async def refuse(verb: str) -> None:
        if verb == "exec":
            raise NotSupportedError("its image has no shell (/bin/sh): name a program that is in it")

    here.world.fake.before = refuse
    async with here.command(pod, await here.key("owner", Scope.WRITE)) as command:
        await command.to_the_end()

    assert command.end is not None
    assert command.end["code"] == "not_supported"
    assert command.end["message"].endswith("has no shell (/bin/sh): name a program that is in it")


async def test_more_than_the_allowed_number_at_once_is_said(here: Served):
    pod = await here.running_pod()
    headers = await here.key("owner", Scope.WRITE)
    most = here.world.settings.limits.execs_per_pod

    async with asyncio.TaskGroup() as group:
        enough = asyncio.Event()
        open_ = 0

        async def hold() -> None:
            nonlocal open_
            async with here.command(pod, headers, "sleep", "1000"):
                open_ += 1
                await enough.wait()

        for _ in range(most):
            group.create_task(hold())
        async with asyncio.timeout(20):
            while sum(map(len, here.world.fake.executions.values())) < most:
                await asyncio.sleep(0.01)
        async with here.command(pod, headers, "true") as one_more:
            await one_more.to_the_end()
        enough.set()

    assert open_ == most
    assert one_more.end is not None
    assert one_more.end["code"] == "too_many_execs"


async def test_a_command_ends_when_its_client_goes(here: Served):
    pod = await here.running_pod()

    async with here.command(pod, await here.cookie("owner"), "sleep", "1000"):
        async with asyncio.timeout(20):
            while not any(here.world.fake.executions.values()):
                await asyncio.sleep(0.01)

    async with asyncio.timeout(20):
        while any(here.world.fake.executions.values()):
            await asyncio.sleep(0.01)


async def test_a_reader_who_is_slow_stops_the_command_and_gets_everything(here: Served):
    pod = await here.running_pod()
    size = 64 << 20  # several times what the kernel's buffers take: 6 to 9 MiB here, by its own choice each time

    async with here.command(pod, await here.cookie("owner"), "head", "-c", str(size)) as command:
        await command.hear()
        await asyncio.sleep(0.5)  # nobody reads: what is on its way stays where it is
        ((execution,),) = [running for running in here.world.fake.executions.values() if running]
        written = execution.written
        await command.to_the_end()

    assert written < size // 2
    assert len(command.output[STDOUT]) == size


async def test_a_message_of_more_than_a_mebibyte_is_too_big(here: Served):
    pod = await here.running_pod()

    async with here.command(pod, await here.cookie("owner"), "cat") as command:
        await command.give(bytes(MAX_MESSAGE_BYTES - 1))  # with the channel's byte it is one exactly
        await command.give(bytes(MAX_MESSAGE_BYTES))
        closed = await command.to_the_end()

    assert closed == 1009


async def test_neither_an_idle_terminal_nor_one_whose_client_reads_nothing_is_cut(sqlite_world: ApiWorld):
    async with served(sqlite_world, ping_seconds=0.05) as here:  # 400 times as often: half an hour in five seconds
        pod = await here.running_pod()
        cookie = await here.cookie("owner")
        async with (
            here.command(pod, cookie, terminal=SIZE) as idle,
            here.command(pod, cookie, "yes") as unread,
        ):
            await idle.until(b"pod$ ")
            await asyncio.sleep(4)
            await idle.give(b"exit 5\r")
            closed = await idle.to_the_end()
            await unread.hear()

    assert closed == NORMAL
    assert idle.end is not None
    assert idle.end["exit_code"] == 5
    assert unread.end is None


# What stays of it


async def test_the_audit_log_holds_who_ran_something_and_not_what(here: Served):
    pod = await here.running_pod()
    for who in ("owner", "admin"):
        async with here.command(pod, await here.cookie(who), "echo", "a-secret-word") as command:
            await command.to_the_end()

    async with here.world.database.read() as session:
        acts = (await session.scalars(select(AuditRow).where(AuditRow.verb == "exec_pod").order_by(AuditRow.id))).all()
        events = (await session.scalars(select(EventRow).where(EventRow.kind == "pod.entered"))).all()

    owner, admin = here.world.person("owner"), here.world.person("admin")
    assert [(act.actor_id, act.owner_id, act.subject, act.data) for act in acts] == [
        (owner.id, owner.id, f"pod/{pod}", {"terminal": False}),
        (admin.id, owner.id, f"pod/{pod}", {"terminal": False}),
    ]
    assert [(event.owner_id, event.pod_id) for event in events] == [(owner.id, pod)]  # the administrator's alone


async def test_a_terminal_keeps_its_pod_from_being_idle(here: Served):
    used: list[str] = []
    pod = await here.running_pod()
    object.__setattr__(here.world.parts, "note_use", used.append)

    async with here.command(pod, await here.cookie("owner"), "true") as command:
        await command.to_the_end()

    assert set(used) == {pod}


async def test_a_run_that_ends_ends_what_runs_in_it(here: Served):
    pod = await here.running_pod()

    async with here.command(pod, await here.cookie("owner"), "sleep", "1000") as command:
        async with asyncio.timeout(20):
            while not any(here.world.fake.executions.values()):
                await asyncio.sleep(0.01)
        async with here.world.database.write() as session:
            row = (await session.scalars(select(IncarnationRow).where(IncarnationRow.pod_id == pod))).one()
            await session.execute(
                update(IncarnationRow).where(IncarnationRow.id == row.id).values(ended_at=here.world.clock.now())
            )
        await command.to_the_end(seconds=5)

    assert command.end is not None
    assert command.end["code"] == "not_running"
