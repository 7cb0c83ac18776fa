"""A database with people, starters and the use-cases of pods over a runtime that is only a name and what it can do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuropod.accounts.access import ALL_BUT_PORTS, Actor
from neuropod.accounts.records import UserRow
from neuropod.catalogue.service import load_starters as load_gpu_types
from neuropod.db.engine import Database
from neuropod.ids import InstallationId, PodId, RuntimeId, UserId
from neuropod.kit.secrets import SecretBox
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.lifecycle import Policy
from neuropod.pods.quoting import Quote
from neuropod.pods.runs.store import Claimed, claim_pods, release
from neuropod.pods.service import Pods
from neuropod.pods.views import PodView
from neuropod.runtimes.contract import Capability, Capacity, Phase, Seen, WorkloadId
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import Settings
from neuropod.templates.service import load_starters as load_templates
from neuropod.words import Reason, Role, Scope
from support.alone import open_incarnation, record_pass
from support.clocks import ManualClock
from support.rows import user_row

INSTALLATION = InstallationId("npd_test")
RUNTIME = RuntimeId("stand-in:one")
BIG = Capacity(cpu_cores=1000, memory_bytes=10**15, disk_bytes=10**15)


@dataclass
class StandIn:
    """As much of a runtime as use-cases read: who it is and what it can do."""

    id: RuntimeId = RUNTIME
    capabilities: frozenset[Capability] = frozenset(
        {Capability.IMAGES, Capability.RECIPES, Capability.TENANT_ISOLATION}
    )


def actor_of(user: UserRow, *, scopes: frozenset[Scope] = ALL_BUT_PORTS, via: Any = "session") -> Actor:
    return Actor(user_id=UserId(user.id), role=Role(user.role), scopes=scopes, via=via)


@dataclass
class World:
    database: Database
    clock: ManualClock
    pods: Pods
    alice: UserRow
    bob: UserRow
    admin: UserRow
    capacities: dict[RuntimeId, Capacity] = field(default_factory=lambda: {RUNTIME: BIG})
    policy: Policy = field(default_factory=Policy)

    async def launch(self, name: str = "lab", owner: UserRow | None = None, **values: Any) -> PodView:
        request = LaunchRequest(**({"name": name, "image": "plain", "volume": None} | values))
        async with self.database.write() as session:
            return await self.pods.launch_pod(
                session, request, actor=actor_of(owner or self.alice), capacities=self.capacities
            )

    async def run(self, name: str = "lab", **values: Any) -> PodView:
        """Launch a pod and let it become ready."""
        pod = await self.launch(name, **values)
        opened = await self.open(pod)
        async with self.database.write() as session:
            await record_pass(session, opened, seen(pod.id, Phase.READY), now=self.clock.now(), due_at=None)
        return await self.show(pod.id)

    async def act(self, verb: str, pod: PodView, *args: Any, actor: Actor | None = None, **values: Any) -> PodView:
        """Call a use-case by its name, as alice unless another actor is given."""
        async with self.database.write() as session:
            return await getattr(self.pods, verb)(session, pod.id, *args, actor=actor or actor_of(self.alice), **values)

    async def quote(self, name: str = "lab", owner: UserRow | None = None, **values: Any) -> Quote:
        request = LaunchRequest(**({"name": name, "image": "plain", "volume": None} | values))
        async with self.database.read() as session:
            return await self.pods.quote_pod(
                session, request, capacities=self.capacities, actor=actor_of(owner or self.alice)
            )

    async def show(self, pod: str, actor: Actor | None = None) -> PodView:
        async with self.database.read() as session:
            return await self.pods.show_pod(session, pod, actor=actor or actor_of(self.admin))

    async def claim(self, limit: int = 50, **values: Any) -> Sequence[Claimed]:
        async with self.database.write() as session:
            return await claim_pods(
                session,
                capacities=self.capacities,
                policy=self.policy,
                now=self.clock.now(),
                lease_seconds=30,
                limit=limit,
                **values,
            )

    async def claim_one(self, pod: PodView) -> Claimed:
        """Claim that pod whatever its due time, and leave the others as they were."""
        claimed = {one.lease.pod_id: one for one in await self.claim(nudged=[pod.id])}
        wanted = claimed.pop(pod.id)
        for other in claimed.values():
            async with self.database.write() as session:
                await release(session, other, now=self.clock.now(), due_at=self.clock.now())
        return wanted

    async def open(self, pod: PodView) -> Claimed:
        """Claim the pod and open its next incarnation; fails when there is no room."""
        opened = await self.try_open(await self.claim_one(pod))
        assert isinstance(opened, Claimed)
        return opened

    async def try_open(self, claimed: Claimed) -> Any:
        async with self.database.write() as session:
            return await open_incarnation(
                session, claimed, self.capacities[claimed.facts.runtime_id], now=self.clock.now()
            )


def seen(pod_id: PodId, phase: Phase, reason: Reason = Reason.READY, incarnation: int = 1, **values: Any) -> Seen:
    return Seen(
        id=WorkloadId(INSTALLATION, pod_id, incarnation), identity="boot 1", phase=phase, reason=reason, **values
    )


async def make_world(database: Database, *, runtimes: Mapping[RuntimeId, Any] | None = None, **settings: Any) -> World:
    clock = ManualClock()
    pods = Pods(
        Settings(**settings),
        SecretBox(SecretBox.new_key()),
        clock,
        runtimes
        if isinstance(runtimes, Runtimes)
        else Runtimes.of({RUNTIME: StandIn()} if runtimes is None else runtimes),
        INSTALLATION,
    )
    alice, bob, admin = user_row(), user_row(), user_row(role=Role.ADMIN)
    async with database.write() as session:
        session.add_all([alice, bob, admin])
        await load_gpu_types(session)
        await load_templates(session, now=clock.now())
    return World(database, clock, pods, alice, bob, admin)
