"""SECURITY 24, terminals: a command over the API's WebSocket ends within five seconds of the right to it."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from sqlalchemy import update

from neuropod.accounts.records import ApiKeyRow, SessionRow, UserRow
from neuropod.kit.secrets import token_hash
from neuropod.words import Role, Scope
from support.api import ApiWorld
from support.terminals import SIZE, Served, Spoken, served

SECONDS = 5.0
POLICY_VIOLATION = 1008


class Held:
    """Terminals that are open, each with a shell that has answered."""

    def __init__(self, here: Served, stack: AsyncExitStack) -> None:
        self._here = here
        self._stack = stack
        self.open: list[Spoken] = []

    async def another(self, pod: str, headers: dict[str, str]) -> Spoken:
        shell = await self._stack.enter_async_context(self._here.command(pod, headers, terminal=SIZE))
        await self.answers(shell, "here")
        self.open.append(shell)
        return shell

    async def answers(self, shell: Spoken, word: str) -> None:
        await shell.give(f"echo {word}\r".encode())
        await shell.until(f"\r\n{word}\r\n".encode())

    async def ends(self, *shells: Spoken, code: str) -> None:
        """All of them end now, the processes too, and nothing else does."""
        closed = await asyncio.gather(*(shell.to_the_end(SECONDS) for shell in shells))
        left = len(self.open) - len(shells)
        async with asyncio.timeout(SECONDS):
            while _running(self._here.world) != left:
                await asyncio.sleep(0.01)

        assert set(closed) == {POLICY_VIOLATION}
        assert {(shell.end or {})["code"] for shell in shells} == {code}
        for shell in self.open:
            if shell not in shells:
                await self.answers(shell, "still")


def _running(world: ApiWorld) -> int:
    return sum(map(len, world.fake.executions.values()))


def _token(headers: dict[str, str]) -> str:
    return token_hash(headers["Cookie"].partition("=")[2] if "Cookie" in headers else headers["Authorization"][7:])


async def _write(world: ApiWorld, *statements: Any) -> None:
    async with world.database.write() as session:
        for statement in statements:
            await session.execute(statement)


async def test_a_session_or_key_that_counts_no_more_is_out_and_others_of_the_same_person_stay(sqlite_world: ApiWorld):
    now = sqlite_world.clock.now()
    async with served(sqlite_world) as here, AsyncExitStack() as stack:
        pod = await here.running_pod()
        held = Held(here, stack)
        sessions = [await here.cookie("owner") for _ in range(3)]
        keys = [await here.key("owner", Scope.WRITE) for _ in range(3)]
        shells = [await held.another(pod, headers) for headers in (*sessions, *keys)]

        await _write(
            sqlite_world,
            update(SessionRow).where(SessionRow.token_hash == _token(sessions[0])).values(revoked_at=now),
            update(SessionRow).where(SessionRow.token_hash == _token(sessions[1])).values(expires_at=now),
            update(ApiKeyRow).where(ApiKeyRow.token_hash == _token(keys[0])).values(revoked_at=now),
            update(ApiKeyRow).where(ApiKeyRow.token_hash == _token(keys[1])).values(expires_at=now),
        )

        await held.ends(shells[0], shells[1], shells[3], shells[4], code="unauthenticated")
        for headers in (*sessions[:2], *keys[:2]):
            assert await here.refusal(pod, headers) == (401, "unauthenticated")


async def test_a_person_who_is_suspended_is_out_by_session_and_by_key(sqlite_world: ApiWorld):
    async with served(sqlite_world) as here, AsyncExitStack() as stack:
        pod = await here.running_pod()
        held = Held(here, stack)
        by_session = await held.another(pod, await here.cookie("owner"))
        by_key = await held.another(pod, await here.key("owner", Scope.WRITE))
        await held.another(pod, await here.cookie("admin"))

        suspended = {"suspended_at": sqlite_world.clock.now()}
        await _write(
            sqlite_world, update(UserRow).where(UserRow.id == sqlite_world.person("owner").id).values(suspended)
        )

        await held.ends(by_session, by_key, code="unauthenticated")


async def test_an_administrator_who_is_one_no_more_is_out_of_the_pods_of_others(sqlite_world: ApiWorld):
    async with served(sqlite_world) as here, AsyncExitStack() as stack:
        pod, own = await here.running_pod(), await here.running_pod("admin", "own")
        held = Held(here, stack)
        in_anothers = await held.another(pod, await here.cookie("admin"))
        await held.another(own, await here.cookie("admin"))
        await held.another(pod, await here.cookie("owner"))

        await _write(
            sqlite_world,
            update(UserRow).where(UserRow.id == sqlite_world.person("admin").id).values(role=Role.CLIENT),
        )

        await held.ends(in_anothers, code="not_found")


async def test_a_pod_that_shall_run_no_more_ends_what_runs_in_it(sqlite_world: ApiWorld):
    async with served(sqlite_world) as here, AsyncExitStack() as stack:
        stopped, deleted, stays = [await here.running_pod(name=name) for name in ("stopped", "deleted", "stays")]
        held = Held(here, stack)
        cookie = await here.cookie("owner")
        shells = [await held.another(pod, cookie) for pod in (stopped, deleted, stays)]
        owner = await sqlite_world.browser("owner")

        assert (await owner.post(f"/api/v1/pods/{stopped}/stop")).is_success
        assert (await owner.delete(f"/api/v1/pods/{deleted}")).is_success

        await held.ends(*shells[:2], code="not_running")


async def test_one_who_takes_nothing_is_out_as_well(sqlite_world: ApiWorld):
    async with served(sqlite_world) as here:
        pod = await here.running_pod()
        cookie = await here.cookie("owner")
        async with here.command(pod, cookie, "yes"):
            async with asyncio.timeout(20):
                while not _running(sqlite_world):
                    await asyncio.sleep(0.01)
            revoked = {"revoked_at": sqlite_world.clock.now()}
            await _write(
                sqlite_world, update(SessionRow).where(SessionRow.token_hash == _token(cookie)).values(revoked)
            )

            async with asyncio.timeout(SECONDS):
                while _running(sqlite_world):
                    await asyncio.sleep(0.01)
