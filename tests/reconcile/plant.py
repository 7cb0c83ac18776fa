"""A small Neuropod without a network: a database, a fake world, the use-cases, and loops that a test turns by hand."""

from collections.abc import Awaitable, Callable

from neuropod.accounts.access import ALL_BUT_PORTS, Actor
from neuropod.accounts.service import Accounts
from neuropod.catalogue.service import load_starters
from neuropod.db.engine import Database
from neuropod.ids import InstallationId, UserId
from neuropod.kit.secrets import SecretBox
from neuropod.kit.tasks import FailureHook
from neuropod.observability.metrics import Metrics
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.service import Pods
from neuropod.pods.views import PodView
from neuropod.reconcile.pods import PodsLoop
from neuropod.reconcile.resync import ResyncLoop
from neuropod.reconcile.world import World
from neuropod.runtimes.contract import Phase
from neuropod.runtimes.fake.runtime import FakeRuntime
from neuropod.runtimes.fake.world import FakeWorld
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import Settings
from neuropod.words import Role, Status
from support.clocks import ManualClock
from support.rows import user_row

INSTALLATION = InstallationId("npd_test")


class Server:
    """One server's loops on a shared database and world; `turn` does all that is due now."""

    def __init__(self, plant: "Plant", *, allowed: bool = True) -> None:
        self.runtime = FakeRuntime(INSTALLATION, plant.world)
        runtimes = Runtimes.of({self.runtime.id: self.runtime})
        self.pods = Pods(plant.settings, plant.box, plant.clock, runtimes, INSTALLATION)
        self.failures = FailureHook()
        world = World(
            settings=plant.settings.reconcile,
            database=plant.database,
            pods=self.pods,
            accounts=plant.accounts,
            runtimes=runtimes,
            metrics=Metrics(),
            clock=plant.clock,
            sweeping_allowed=allowed,
        )
        self.loop = PodsLoop(world, self.failures)
        self.resync = ResyncLoop(world)

    async def turn(self) -> None:
        """Turn the pods loop until nothing is due and no worker is busy."""
        while True:
            turn = await self.loop.turn()
            busy = list(self.loop._busy.values())
            for task in busy:
                await task
            if self.failures.first is not None:
                raise self.failures.first[1]
            if not busy and turn.report.get("claimed", 0) == 0:
                return

    async def aclose(self) -> None:
        await self.loop.aclose()


class Plant:
    """What servers share."""

    def __init__(self, database: Database, **settings: object) -> None:
        self.database = database
        self.settings = Settings(**settings)  # type: ignore[arg-type]
        self.clock = ManualClock()
        self.world = FakeWorld(self.clock)
        self.box = SecretBox(SecretBox.new_key())
        self.accounts = Accounts(self.settings, self.clock)
        self.actor: Actor = None  # type: ignore[assignment]

    async def set_up(self) -> None:
        owner = user_row()
        async with self.database.write() as session:
            await load_starters(session)
            session.add(owner)
        self.actor = Actor(UserId(owner.id), Role.CLIENT, ALL_BUT_PORTS, "session")

    async def ask(self, verb: Callable[..., Awaitable[PodView]], *args: object) -> PodView:
        """Run a use-case as the owner, in a transaction of its own."""
        async with self.database.write() as session:
            return await verb(session, *args, actor=self.actor)

    async def launch(self, server: Server, name: str = "lab") -> PodView:
        return await self.ask(server.pods.launch_pod, LaunchRequest(name=name, image="plain", volume=None))

    async def show(self, server: Server, pod: str = "lab") -> PodView:
        async with self.database.read() as session:
            return await server.pods.show_pod(session, pod, actor=self.actor)

    async def status(self, server: Server, pod: str = "lab") -> Status:
        return (await self.show(server, pod)).shown.status

    def running(self) -> list[str]:
        """The workloads of the world that have not ended."""
        now = self.clock.now()
        return sorted(
            str(one.workload.id) for one in self.world.standing.values() if one.seen(now).phase is not Phase.EXITED
        )
