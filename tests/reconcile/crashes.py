"""What the crash tests share: wishes one after another, a death in between, and what must hold of the world afterwards."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from neuropod.db.audit import AuditRow
from neuropod.db.engine import Database
from neuropod.db.events import EventRow
from neuropod.ids import PodId
from neuropod.kit.errors import ConflictError, NotFoundError
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.records import AllocationRow, IncarnationRow, PodRow, PortRow
from neuropod.pods.room import BYTES_PER_GB
from neuropod.runtimes.contract import Device, Phase
from neuropod.runtimes.fake.world import FakeWorld, Script
from neuropod.words import Reason, Want
from reconcile.fates import Fate, dies, moment, stands_still
from reconcile.plant import Plant, Server

VERBS = ("start", "stop", "restart", "delete")
_OURS = {Reason.REQUESTED, Reason.REVISION}  # why incarnations end here: nothing crashes and nothing is lost


@dataclass(frozen=True, slots=True)
class Pace:
    """How the world behaves, and how much time passes between two wishes."""

    name: str
    script: Script
    between_seconds: float = 0.0


AT_ONCE = Pace("at once", Script())
SLOW = Pace("slow", Script(prepare_seconds=3, ready_seconds=2, stop_seconds=2), between_seconds=1)
DEAF = Pace("deaf", Script(stop_seconds=None), between_seconds=31)  # SIGTERM does nothing
PACES = (AT_ONCE, SLOW, DEAF)


class MortalPlant(Plant):
    """A plant whose world has moments around each verb, and which watches over what must hold at any time."""

    def __init__(self, database: Database, **settings: object) -> None:
        super().__init__(database, **settings)
        self.new_world(Script())

    def new_world(self, script: Script) -> None:
        self.world = FakeWorld(self.clock, devices=tuple(Device(f"GPU-{n}", "NVIDIA GeForce RTX 4090") for n in (1, 2)))
        self.world.default_script = script
        self.world.before = self._before
        self.world.after = self._after

    async def _before(self, verb: str) -> None:
        await moment(f"before {verb}")

    async def _after(self, verb: str) -> None:
        runs = Counter(workload.split(".")[0] for workload in self.running())
        assert not any(count > 1 for count in runs.values()), f"two workloads of one pod run: {self.running()}"
        await moment(f"after {verb}")

    async def empty(self, script: Script) -> None:
        """Begin anew on the same database."""
        await self.world.aclose()
        self.new_world(script)
        async with self.database.write() as session:
            for record in (AllocationRow, IncarnationRow, PortRow, PodRow, EventRow, AuditRow):
                await session.execute(delete(record))

    async def wish(self, server: Server, verb: str, name: str = "lab", gpu_type: str = "cpu") -> None:
        """Say a wish; one that cannot be had any more is refused, which is fine."""
        verbs = {
            "start": server.pods.start_pod,
            "stop": server.pods.stop_pod,
            "restart": server.pods.restart_pod,
            "delete": server.pods.delete_pod,
        }
        try:
            if verb == "launch":
                request = LaunchRequest(name=name, image="plain", volume=None, gpu_type=gpu_type)
                await self.ask(server.pods.launch_pod, request)
            else:
                await self.ask(verbs[verb], name)
        except (ConflictError, NotFoundError):
            if verb == "launch" and name == "lab":
                raise


async def dying_at(plant: MortalPlant, wishes: Sequence[str], pace: Pace, fate: Fate, *, hasty: bool) -> bool:
    """Say the wishes one after another, each with all that is due done by a server with a fate; then check the world.

    After the death another server takes over: at once, or with `hasty` only when all wishes are said. False: the work
    was done before the moment came.
    """
    await plant.empty(pace.script)
    doomed: Server | None = Server(plant)
    heir = Server(plant)
    try:
        for verb in ("launch", *wishes):
            await plant.wish(heir, verb)
            if doomed is not None:
                doomed = None if await dies(doomed, fate) else doomed
            elif not hasty:
                await takes_over(plant, heir)
            await plant.clock.advance(pace.between_seconds)
        await settle(plant, heir)
        await check(plant)
    except BaseException as error:
        error.add_note(f"{' '.join(wishes)}, {pace.name}, hasty={hasty}, died at {fate.at}: {fate.met}")
        raise
    finally:
        await leave(heir, doomed)
    return doomed is None


async def waking_after(plant: MortalPlant, wishes: Sequence[str], pace: Pace, fate: Fate) -> bool:
    """As `dying_at`, but the first server only stands still, and goes on when another has done everything."""
    await plant.empty(pace.script)
    stale, heir = Server(plant), Server(plant)
    life = None
    try:
        for verb in ("launch", *wishes):
            await plant.wish(heir, verb)
            if life is None:
                life = await stands_still(stale, fate)
            else:
                await takes_over(plant, heir)
            await plant.clock.advance(pace.between_seconds)
        if life is None:
            return False
        await settle(plant, heir)
        fate.woken.set()
        await life
        await settle(plant, stale, heir, resync=True)
        await check(plant)
    except BaseException as error:
        error.add_note(f"{' '.join(wishes)}, {pace.name}, stood still at {fate.at}: {fate.met}")
        raise
    finally:
        fate.woken.set()
        await leave(heir, stale)
    return True


async def takes_over(plant: Plant, heir: Server) -> None:
    await plant.clock.advance(plant.settings.reconcile.lease_seconds + 1)
    await heir.turn()


async def leave(*servers: Server | None) -> None:
    for server in servers:
        if server is not None:
            await server.aclose()


async def settle(plant: Plant, *servers: Server, resync: bool = False, rounds: int = 6) -> None:
    """Let time pass until leases have ended and everything due is done: by nudges and the schedule alone, or, where a
    late effect may have undone what is recorded, with the resync loop and its sweep.
    """
    for _ in range(rounds):
        await plant.clock.advance(plant.settings.reconcile.lease_seconds + 1)
        for server in servers:
            if resync:
                await server.resync.turn()
            await server.turn()
        async with plant.database.read() as session:
            waits = await session.scalar(select(PodRow.id).where(PodRow.due_at.is_not(None)).limit(1))
        if waits is None and not resync:
            return


async def check(plant: Plant) -> None:
    """The world equals the wishes: no orphan, no second workload, no lost pod, allocations exact."""
    async with plant.database.read() as session:
        pods = list(await session.scalars(select(PodRow)))
        incarnations = list(await session.scalars(select(IncarnationRow).order_by(IncarnationRow.number)))
        allocations = list(await session.scalars(select(AllocationRow)))
        events = list(await session.scalars(select(EventRow)))
    seen = [one.seen(plant.clock.now()) for one in plant.world.standing.values()]
    by_pod: dict[str, list[IncarnationRow]] = {pod.id: [] for pod in pods}
    for row in incarnations:
        by_pod[row.pod_id].append(row)

    for pod in pods:
        rows = by_pod[pod.id]
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        assert len(rows) <= pod.run_revision, "an incarnation that nobody asked for"
        ended = rows[:-1] if pod.want == Want.RUNNING and pod.waiting_reason is None else rows
        for row in ended:
            assert row.ended_at is not None
            assert row.removed_at is not None
            assert row.reason in _OURS, f"{row.reason}: a dead server passed for the pod's own end"
        assert (pod.lease_token, pod.failures, pod.last_error) == (None, 0, None)
        assert (pod.closed_at is not None) == (pod.want == Want.GONE)
        if pod.want == Want.RUNNING and pod.waiting_reason is None:
            _check_running(plant, pod, rows)
        told = Counter((event.kind, event.data.get("incarnation")) for event in events if event.pod_id == pod.id)
        twice = [key for key, n in told.items() if n > 1 and key[0] in {"pod.ready", "pod.ended", "pod.closed"}]
        assert twice == []

    runs = [pod for pod in pods if pod.want == Want.RUNNING and pod.waiting_reason is None]
    wanted = {(pod.id, len(by_pod[pod.id])) for pod in runs}
    assert sorted((one.id.pod, one.id.incarnation) for one in seen) == sorted(wanted)
    assert all(one.phase is Phase.READY for one in seen)
    _check_allocations(runs, by_pod, allocations)
    waiting = [pod for pod in pods if pod.want == Want.RUNNING and pod.waiting_reason is not None]
    free = len(plant.world.capacity.devices) - sum(row.device is not None for row in allocations)
    assert all(pod.gpus > free for pod in waiting), "a pod waits although there is room"
    gone = {PodId(pod.id) for pod in pods if pod.want == Want.GONE}
    assert not any(workload.pod in gone for workload in plant.world.kept_lines)


def _check_running(plant: Plant, pod: PodRow, rows: Sequence[IncarnationRow]) -> None:
    assert rows, "a pod that shall run and never did"
    newest = rows[-1]
    assert newest.ended_at is None
    assert newest.run_revision == pod.run_revision
    assert (newest.phase, newest.stop_sent_at) == (Phase.READY, None)
    (identity,) = [
        one.identity
        for workload, one in plant.world.standing.items()
        if (workload.pod, workload.incarnation) == (pod.id, newest.number)
    ]
    assert newest.identity == identity


def _check_allocations(
    pods: Sequence[PodRow], by_pod: dict[str, list[IncarnationRow]], allocations: Sequence[AllocationRow]
) -> None:
    expected = []
    for pod in pods:
        amounts = (pod.cpu_cores, pod.memory_gb * BYTES_PER_GB, pod.container_disk_gb * BYTES_PER_GB)
        expected.append((by_pod[pod.id][-1].id, pod.runtime_id, *amounts))
    given = [
        (row.incarnation_id, row.runtime_id, row.cpu_cores, row.memory_bytes, row.disk_bytes)
        for row in allocations
        if row.device is None
    ]
    assert sorted(given) == sorted(expected)
    devices = Counter(row.incarnation_id for row in allocations if row.device is not None)
    assert devices == Counter({by_pod[pod.id][-1].id: pod.gpus for pod in pods if pod.gpus})
