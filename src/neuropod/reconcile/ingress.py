"""The ingress loop: where an ingress controller carries traffic to ports, its objects are as the routes want them.

It reads the route table of this server's gateway (gateway.feed fills it) and what the clusters' watches say, and writes
objects of clusters, no rows. It is nudged by both; losing a nudge costs time only, since each turn compares everything.
Several servers may run it at once: applying is idempotent, and they want the same.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from neuropod.db.engine import Topic
from neuropod.db.installation import epochs
from neuropod.gateway.routes import Change
from neuropod.gateway.table import RouteTable
from neuropod.ids import RuntimeId
from neuropod.kit.tasks import FailureHook, TaskSet
from neuropod.kit.wakeups import Wakeup
from neuropod.kube.client import KubeClient
from neuropod.reconcile.carried import Care, CarriedCluster, Origin
from neuropod.reconcile.driver import Turn
from neuropod.reconcile.world import World
from neuropod.settings import Addresses, ClusterSettings

_NOTHING_SECONDS = 3600.0
_NOT_LOADED_SECONDS = 1.0
_PAUSE_SECONDS = 0.1  # changes that come together are carried out together


@runtime_checkable
class OnCluster(Protocol):
    """A runtime that is a cluster."""

    @property
    def client(self) -> KubeClient:
        """Its API."""
        ...


class IngressLoop:
    """Implements driver.Loop."""

    name = "ingress"
    topics = frozenset({Topic.RUNTIMES})

    def __init__(
        self,
        world: World,
        table: RouteTable,
        clusters: Sequence[ClusterSettings],
        addresses: Addresses,
        origin: Origin,
        on_failure: FailureHook,
    ) -> None:
        self.wakeup = Wakeup()
        self._world = world
        self._table = table
        self._clusters = {cluster.name: cluster for cluster in clusters}
        self._carries = any(cluster.carrier != "gateway" for cluster in clusters)  # our own gateway follows by itself
        self._addresses = addresses
        self._origin = origin
        self._tasks = TaskSet(on_failure)
        self._carried: dict[RuntimeId, CarriedCluster] = {}
        self._allowed = world.sweeping_allowed
        table.listen(self._changed)

    def _changed(self, change: Change) -> None:
        if change and self._carries:
            self.wakeup.nudge()

    async def turn(self) -> Turn:
        if not self._clusters:
            return Turn(_NOTHING_SECONDS)
        if not self._table.loaded:
            return Turn(_NOT_LOADED_SECONDS)
        self._meet_clusters()
        care = Care(await self._may_sweep(), self._world.settings.sweep_grace_seconds)
        again, applied, removed, messages, alarms = _NOTHING_SECONDS, 0, 0, [], []
        for runtime_id, cluster in self._carried.items():
            routes = [route for route in self._table.routes.values() if route.runtime_id == runtime_id]
            done = await cluster.turn(routes, care)
            again = min(again, done.again_in_seconds)
            applied += done.applied
            removed += done.removed
            messages += [told for told in (done.alarm, done.message) if told]
            alarms += [done.alarm] if done.alarm else []
        report = {"clusters": len(self._carried), "applied": applied, "removed": removed}
        # A gate or a cluster that gives no answer is told and makes no server unready: it may be the gate itself.
        return Turn(again, report, ok=not alarms, message="; ".join(messages), pause_seconds=_PAUSE_SECONDS)

    def _meet_clusters(self) -> None:
        """Begin with clusters that were opened since."""
        runtimes = self._world.runtimes
        for runtime_id, runtime in runtimes.items():
            settings = self._clusters.get(runtimes.name_of(runtime_id) or "")
            if runtime_id in self._carried or settings is None or not isinstance(runtime, OnCluster):
                continue
            pods = self._addresses.pods_address(settings.name)
            self._carried[runtime_id] = CarriedCluster(
                settings, runtime.client, self._origin, pods, self._world.clock, self._tasks, self.wakeup.nudge
            )

    async def _may_sweep(self) -> bool:
        """Tell whether the installation's epoch is confirmed; once it is, it stays so."""
        if not self._allowed:
            async with self._world.database.read() as session:
                epoch, confirmed = await epochs(session)
            self._allowed = epoch <= confirmed
        return self._allowed

    async def aclose(self) -> None:
        """Watch no more; objects stay."""
        await self._tasks.aclose()
