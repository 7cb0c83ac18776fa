"""The API with three people, starters and a fake runtime, called without a network: `ApiWorld`, fixture `world`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from neuropod.accounts.access import ALL_BUT_PORTS, MACHINE, Actor
from neuropod.accounts.passwords import Passwords
from neuropod.accounts.records import ApiKeyRow, UserRow
from neuropod.accounts.service import Accounts
from neuropod.accounts.signing_in import Browser
from neuropod.api.app import build_api
from neuropod.api.callers import cookie_name
from neuropod.api.feeding.feed import EventFeed
from neuropod.api.parts import ApiParts
from neuropod.catalogue.service import load_starters as load_gpu_types
from neuropod.db.engine import Database
from neuropod.db.installation import InstallationRow
from neuropod.gateway.routes import wanted_routes
from neuropod.gateway.table import RouteTable
from neuropod.ids import InstallationId, PodId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id
from neuropod.kit.secrets import SecretBox, token_hash
from neuropod.observability.health import Board
from neuropod.observability.metrics import Metrics
from neuropod.pods.lifecycle import Policy, Wait
from neuropod.pods.news import NewsReader
from neuropod.pods.runs.store import Claimed, claim_pods
from neuropod.pods.service import Pods
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.runtimes.fake.world import FakeWorld
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import Settings
from neuropod.templates.service import load_starters as load_templates
from neuropod.words import Role, Scope
from support.alone import open_incarnation
from support.clocks import ManualClock
from support.workloads import workload_of

INSTALLATION = InstallationId("npd_test")
PASSWORD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class ApiWorld:
    database: Database
    settings: Settings
    clock: ManualClock
    parts: ApiParts
    news: NewsReader
    fake: FakeWorld
    runtime: FakeRuntime
    people: dict[str, UserRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.app = build_api(self.parts)
        self.console = self.parts.addresses.console_origin

    # Who asks

    def person(self, name: str) -> UserRow:
        return self.people[name]

    def actor(self, name: str) -> Actor:
        user = self.people[name]
        return Actor(user_id=UserId(user.id), role=Role(user.role), scopes=ALL_BUT_PORTS, via="session")

    async def session_token(self, name: str) -> str:
        async with self.database.write() as session:
            link = await self.parts.accounts.sign_ins.make_link(session, self.people[name], actor=MACHINE)
            made = await self.parts.accounts.sign_ins.use_link(
                session, link.token.reveal(), browser=Browser("192.0.2.9", "tests")
            )
        return made.token.reveal()

    async def key(self, name: str, *scopes: Scope) -> str:
        key = f"npk_{new_id('test')}"
        async with self.database.write() as session:
            session.add(
                ApiKeyRow(
                    id=new_id("key"), user_id=self.people[name].id, name="tests", token_hash=token_hash(key),
                    prefix=key[:6], scopes=sorted(scopes or {Scope.READ, Scope.WRITE}), created_at=self.clock.now(),
                )
            )  # fmt: skip
        return key

    def http(self, host: str | None = None, **headers: str) -> httpx.AsyncClient:
        """A client of nobody, at the console's host by default."""
        transport = httpx.ASGITransport(self.app, client=("198.51.100.7", 4000))
        return httpx.AsyncClient(transport=transport, base_url=host or self.console, headers=headers)

    async def browser(self, name: str) -> httpx.AsyncClient:
        """A client with somebody's session, which behaves like a page of the console."""
        token = await self.session_token(name)
        return self.http(cookie=f"{cookie_name(self.parts.addresses)}={token}", origin=self.console)

    async def program(self, name: str, *scopes: Scope) -> httpx.AsyncClient:
        """A client with somebody's key."""
        return self.http("http://127.0.0.1:8080", authorization=f"Bearer {await self.key(name, *scopes)}")

    # What happens to pods

    async def run(self, pod_id: str) -> None:
        """Let the pod's next incarnation stand on the fake runtime."""
        claimed = await self.open(pod_id)
        assert claimed.facts.incarnation is not None
        workload = await workload_of(self.database, self.parts.pods, pod_id, claimed.facts.incarnation.number)
        await self.runtime.ensure(workload)

    async def open(self, pod_id: str) -> Claimed:
        opened = await self._try_open(pod_id)
        assert isinstance(opened, Claimed)
        return opened

    async def let_wait(self, pod_id: str) -> None:
        """Let a pod for which there is no room stand in its queue."""
        assert isinstance(await self._try_open(pod_id), Wait)

    async def _try_open(self, pod_id: str) -> Any:
        capacity = await self.runtime.capacity()
        async with self.database.write() as session:
            claimed = {
                one.lease.pod_id: one
                for one in await claim_pods(
                    session, capacities={self.runtime.id: capacity}, nudged=[PodId(pod_id)], policy=Policy(),
                    now=self.clock.now(), lease_seconds=30, limit=100,
                )
            }  # fmt: skip
            return await open_incarnation(session, claimed[PodId(pod_id)], capacity, now=self.clock.now())

    async def load_routes(self) -> None:
        async with self.database.read() as session:
            self.parts.routes.replace(wanted_routes(await self.parts.pods.views_for_routes(session)))


POD: dict[str, Any] = {"name": "lab", "template": "jupyterlab"}


@asynccontextmanager
async def api_world(database: Database, **values: Any) -> AsyncIterator[ApiWorld]:
    clock = ManualClock()
    settings = Settings(_env_file=None, **values)
    box = SecretBox(SecretBox.new_key())
    fake = FakeWorld(clock)
    runtime = FakeRuntime(INSTALLATION, fake)
    accounts = Accounts(settings, clock, Passwords(CHEAP))
    runtimes = Runtimes.of({runtime.id: runtime})
    pods = Pods(settings, box, clock, runtimes, INSTALLATION)
    news = NewsReader(database, pods, SystemClock())
    parts = ApiParts(
        settings=settings,
        addresses=settings.addresses(settings.port),
        database=database,
        accounts=accounts,
        pods=pods,
        runtimes=runtimes,
        board=Board(clock),
        metrics=Metrics(),
        clock=clock,
        box=box,
        routes=RouteTable(),
        feed=EventFeed(news, accounts, pods, settings.addresses(settings.port), settings.events, SystemClock()),
    )
    world = ApiWorld(database, settings, clock, parts, news, fake, runtime)
    async with database.write() as session:
        session.add(InstallationRow(id=INSTALLATION, key_fingerprint=box.fingerprint, created_at=clock.now()))
        await load_gpu_types(session)
        await load_templates(session, now=clock.now())
        for name, role in (("admin", Role.ADMIN), ("owner", Role.CLIENT), ("outsider", Role.CLIENT)):
            user = await accounts.create_user(session, email=f"{name}@example.org", role=role, actor=MACHINE)
            user.password_hash = CHEAP.hash(PASSWORD)
            world.people[name] = user
    yield world
    accounts.passwords.close()
    await fake.aclose()


@pytest.fixture
async def world(database: Database) -> AsyncIterator[ApiWorld]:
    """The API on SQLite and on PostgreSQL."""
    async with api_world(database) as made:
        yield made


@pytest.fixture
async def sqlite_world(sqlite_url: str) -> AsyncIterator[ApiWorld]:
    """The API on SQLite alone: for what does not depend on the database."""
    database = Database(sqlite_url)
    async with api_world(database) as made:
        yield made
    await database.aclose()
