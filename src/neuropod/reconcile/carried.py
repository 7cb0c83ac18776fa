"""One cluster's ports and who carries traffic to them: wanted objects against those that stand there.

Made by reconcile.ingress for each runtime that is a cluster. Where an ingress controller carries, its objects are
watched; where our own gateway does nothing is wanted, and what an earlier carrier left is looked for now and then.
What is applied may be applied by several servers at once. What carries our installation and nobody wants goes: at once
if this server wanted it before (its pod or port is gone), else after a grace and with the care of every sweep.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from neuropod.gateway.carriers.difference import APPLY_ORDER, REMOVE_ORDER, Applied, Standing, difference, in_order
from neuropod.gateway.carriers.names import INSTALLATION, OURS, SLICE_OWNER, USER_ID, port_names
from neuropod.gateway.carriers.objects import Ref, objects_of_port, objects_of_user
from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.carriers.reaching import GateUnreachableError, reach_gate
from neuropod.gateway.carriers.style import Carrier, GateAddress
from neuropod.gateway.routes import Route
from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import Clock
from neuropod.kit.tasks import TaskSet
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ForbiddenError, KubeError, KubeUnavailableError, NotFoundError
from neuropod.kube.informer import Informer
from neuropod.kube.kinds import ENDPOINT_SLICES, MIDDLEWARES, NAMESPACES, Kind
from neuropod.kube.objects import Object, selector
from neuropod.kube.shapes import Metadata, Shape
from neuropod.reconcile.resync import too_many
from neuropod.settings import ClusterSettings, PodsAddress

log = structlog.get_logger(__name__)

_SYNC_SECONDS = 10.0
_AWAY_SECONDS = 5.0  # until the next try while the cluster or the gate gives no answer, or refuses something
# What is refused is tried again soon, then less often: in a user's new namespace our rights are a moment late.
_REFUSED_SECONDS = 0.5
_REFUSED_LONGEST_SECONDS = 60.0
_GATE_SECONDS = 300.0  # how often its addresses are asked for again
_LEFTOVERS_SECONDS = 3600.0
# The gate may be this very server, which begins to listen a moment after its loops: nothing is touched meanwhile.
_PATIENCE_SECONDS = 30.0
_PATIENCE_TURN_SECONDS = 0.5
_AT_ONCE = 8  # requests to the API server


class Home(Shape, frozen=True):
    """A user's namespace: its labels and annotations say whose."""

    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose objects they are: this installation's, by its key."""

    installation: InstallationId
    key: CarrierKey


@dataclass(frozen=True, slots=True)
class Care:
    """How carefully is swept."""

    allowed: bool  # the installation's epoch is confirmed
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An object that the cluster did not take: which, how often, until when it is not tried again, and why."""

    wanted: Object
    count: int
    until: float
    why: str


@dataclass(frozen=True, slots=True)
class CarriedTurn:
    """How a turn went, and when the next is due without a nudge."""

    again_in_seconds: float
    applied: int = 0
    removed: int = 0
    message: str = ""  # what an operator should know
    alarm: str = ""  # what is wrong with this server's own work


class CarriedCluster:
    """One cluster. `nudge` is called when something of ours changed there."""

    def __init__(
        self,
        settings: ClusterSettings,
        client: KubeClient,
        origin: Origin,
        pods: PodsAddress,
        clock: Clock,
        tasks: TaskSet,
        nudge: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._client = client
        self._origin = origin
        self._pods = pods
        self._clock = clock
        self._nudge = nudge
        self._gate: GateAddress | None = None
        self._gate_asked: float | None = None
        self._applied = Applied()
        self._wanted_before: set[Ref] = set()
        self._unowned: dict[Ref, datetime] = {}  # what this server never wanted, since when
        self._refused: dict[Ref, _Refusal] = {}
        self._built: dict[str, tuple[tuple[Any, ...], dict[Ref, Object]]] = {}  # by host
        self._left_over: dict[Ref, Standing] = {}
        self._looked: float | None = None
        self._patient_until = clock.monotonic() + _PATIENCE_SECONDS
        self._informers = [self._informer(kind, Standing) for kind in APPLY_ORDER if self._makes(kind)]
        self._homes = None if settings.carrier == "gateway" else self._informer(NAMESPACES, Home)
        for informer in (*self._informers, *([] if self._homes is None else [self._homes])):
            tasks.start(informer.run(), name=f"watch of {informer.kind.plural} for the carrier of {settings.name}")

    def _makes(self, kind: Kind) -> bool:
        """Tell whether the carrier has objects of a kind."""
        carrier = self._settings.carrier
        return carrier != "gateway" and (kind is not MIDDLEWARES or carrier == "ingress")

    def _labels(self, kind: Kind) -> str:
        """Return the selector of what is ours; the cluster's own EndpointSlices have the labels of their Service."""
        ours: dict[str, str | None] = {INSTALLATION: self._origin.installation}
        return selector(ours | {SLICE_OWNER: OURS} if kind is ENDPOINT_SLICES else ours)

    def _informer(self, kind: Kind, shape: Any) -> Informer[Any]:
        return Informer(
            self._client, kind, shape, clock=self._clock, labels=self._labels(kind), on_change=self._changed
        )

    def _changed(self, _key: Any, _before: Any, _now: Any) -> None:
        self._nudge()

    async def turn(self, routes: Iterable[Route], care: Care) -> CarriedTurn:
        """Let the objects be as the routes want them, as far as can be now."""
        try:
            carrier, trouble = await self._carrier()
            if trouble and self._gate is None and self._clock.monotonic() < self._patient_until:
                return CarriedTurn(_PATIENCE_TURN_SECONDS, message=trouble)
            await self._synced()
            standing = await self._standing()
            wanted = {} if carrier is None else self._wanted(carrier, routes)
            found = difference(wanted, standing, self._applied)
            applied = await self._apply(wanted, found.apply)
            removed, alarm = await self._remove(found.unwanted, standing, care)
        except KubeUnavailableError as error:
            return CarriedTurn(_AWAY_SECONDS, message=f"the cluster {self._settings.name} gives no answer: {error}")
        self._wanted_before |= wanted.keys()
        refused = [refusal.why for refusal in self._refused.values()]
        message = "; ".join(filter(None, (trouble, *refused[:3])))
        return CarriedTurn(self._again_in(bool(trouble), care), applied, removed, message, alarm)

    def _again_in(self, troubled: bool, care: Care) -> float:
        if troubled:
            return _AWAY_SECONDS
        if self._refused:
            now = self._clock.monotonic()
            return max(min(refusal.until for refusal in self._refused.values()) - now, 0.0)
        if self._unowned and care.allowed:
            return care.grace_seconds
        return _LEFTOVERS_SECONDS if self._settings.carrier == "gateway" else _GATE_SECONDS

    # what is wanted

    async def _carrier(self) -> tuple[Carrier | None, str]:
        """Return the carrier, None for our own gateway, and what is wrong with its gate."""
        settings = self._settings
        if settings.carrier == "gateway":
            return None, ""
        trouble = ""
        now = self._clock.monotonic()
        if self._gate is None or self._gate_asked is None or now - self._gate_asked >= _GATE_SECONDS:
            try:
                gate = await reach_gate(settings.gate_url or "", self._origin.key, self._origin.installation)
            except GateUnreachableError as error:
                trouble = f"{settings.name}: {error}" + ("" if self._gate else "; only public ports are carried")
            else:
                self._gate_asked = now
                if gate != self._gate:
                    self._built.clear()
                self._gate = gate
        return (
            Carrier(
                kind=settings.carrier,
                installation=self._origin.installation,
                ingress_class=settings.effective_ingress_class,
                gate=self._gate,
                key=self._origin.key,
                tls_secret=settings.ingress_tls_secret,
            ),
            trouble,
        )

    def _wanted(self, carrier: Carrier, routes: Iterable[Route]) -> dict[Ref, Object]:
        """Return what is wanted in the namespaces that are there; what is not there yet is made with its first pod."""
        wanted: dict[Ref, Object] = {}
        users: dict[str, Route] = {}
        built: dict[str, tuple[tuple[Any, ...], dict[Ref, Object]]] = {}
        for route in routes:
            namespace = port_names(route).namespace
            if not self._is_home(namespace, route.owner_id):
                continue
            what = (route.pod_id, route.incarnation, route.port, route.access, carrier.gate is None)
            known = self._built.get(route.host)
            objects = known[1] if known and known[0] == what else objects_of_port(carrier, route, self._pods)
            built[route.host] = (what, objects)
            wanted |= objects
            if objects:
                users.setdefault(namespace, route)
        self._built = built
        for route in users.values():
            wanted |= objects_of_user(carrier, route)
        return wanted

    def _is_home(self, namespace: str, owner: UserId) -> bool:
        """Tell whether the user's namespace is there, theirs, and to stay (SECURITY 16)."""
        home = None if self._homes is None else self._homes.items.get(("", namespace))
        return (
            home is not None
            and home.metadata.deletion_timestamp is None
            and home.metadata.annotations.get(USER_ID) == owner
        )

    # what stands

    async def _synced(self) -> None:
        for informer in (*self._informers, *([] if self._homes is None else [self._homes])):
            await informer.synced(_SYNC_SECONDS)

    async def _standing(self) -> Mapping[Ref, Standing]:
        now = self._clock.monotonic()
        if self._looked is None or self._left_over or now - self._looked >= _LEFTOVERS_SECONDS:
            self._left_over = await self._look_for_leftovers()
            self._looked = now
        standing = dict(self._left_over)
        for informer in self._informers:
            for (namespace, name), found in informer.items.items():
                standing[Ref(informer.kind, namespace, name)] = found
        return standing

    async def _look_for_leftovers(self) -> dict[Ref, Standing]:
        """List what this carrier never makes and an earlier one may have."""
        watched = {informer.kind for informer in self._informers}
        found: dict[Ref, Standing] = {}
        for kind in APPLY_ORDER:
            if kind in watched:
                continue
            try:
                listed, _ = await self._client.list_at(Standing, kind, labels=self._labels(kind))
            except (NotFoundError, ForbiddenError) as error:  # a kind that no carrier of ours could have made there
                log.debug("not looked for", kind=kind.plural, cluster=self._settings.name, error=str(error))
                continue
            found |= {Ref(kind, one.metadata.namespace, one.metadata.name): one for one in listed}
        return found

    # acts

    async def _apply(self, wanted: Mapping[Ref, Object], refs: Sequence[Ref]) -> int:
        now = self._clock.monotonic()
        missing = set(refs)
        self._refused = {  # without those that stand now, by another server or by hand
            ref: refusal for ref, refusal in self._refused.items() if ref in missing and wanted[ref] == refusal.wanted
        }
        todo = [ref for ref in refs if ref not in self._refused or self._refused[ref].until <= now]
        for kind in dict.fromkeys(ref.kind for ref in todo):  # one kind after the other, in their order
            await self._at_once(self._apply_one, [(ref, wanted[ref]) for ref in todo if ref.kind is kind])
        return sum(ref not in self._refused for ref in todo)

    async def _apply_one(self, ref: Ref, obj: Object) -> None:
        try:
            made = await self._client.apply(obj)
        except KubeError as error:
            self._note_refusal(ref, obj, f"{ref.kind.kind} {ref.namespace}/{ref.name} was refused: {error}")
        else:
            self._refused.pop(ref, None)
            self._applied.note(ref, obj, made["metadata"]["resourceVersion"])

    def _note_refusal(self, ref: Ref, obj: Object, why: str) -> None:
        before = self._refused.get(ref)
        count = 1 if before is None else before.count + 1
        if before is None or before.why != why:
            log.warning("an object of a port cannot be made", cluster=self._settings.name, error=why)
        wait_seconds = min(_REFUSED_SECONDS * 2 ** (count - 1), _REFUSED_LONGEST_SECONDS)
        self._refused[ref] = _Refusal(obj, count, self._clock.monotonic() + wait_seconds, why)

    async def _remove(self, unwanted: Iterable[Ref], standing: Mapping[Ref, Standing], care: Care) -> tuple[int, str]:
        """Remove what nobody wants, and return how many, and an alarm if it would be too much."""
        now = self._clock.now()
        there = [ref for ref in unwanted if standing[ref].metadata.deletion_timestamp is None]
        foreign = [ref for ref in there if ref not in self._wanted_before]
        self._unowned = {ref: self._unowned.get(ref, now) for ref in foreign}
        ripe = [ref for ref, since in self._unowned.items() if (now - since).total_seconds() >= care.grace_seconds]
        alarm = ""
        if not care.allowed:
            ripe = []
        elif too_many(sum(self._makes(ref.kind) for ref in ripe), len(standing)):
            alarm = f"the sweep would remove {len(ripe)} of {len(standing)} objects of ports and has halted"
            ripe = []
        goes = {*ripe, *(ref for ref in there if ref in self._wanted_before)}
        for kind in REMOVE_ORDER:
            of_kind = [ref for ref in in_order(goes, REMOVE_ORDER) if ref.kind is kind]
            await self._at_once(self._remove_one, [(ref, standing[ref].metadata.uid) for ref in of_kind])
        return len(goes), alarm

    async def _remove_one(self, ref: Ref, uid: str) -> None:
        try:
            await self._client.delete(ref.kind, ref.name, ref.namespace, uid=uid)
        except KubeError as error:  # another of that name stands there now: the next turn looks at it
            log.warning("an object of a port cannot be removed", cluster=self._settings.name, error=str(error))
        self._applied.forget(ref)
        self._left_over.pop(ref, None)

    async def _at_once(self, act: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> None:
        limit = asyncio.Semaphore(_AT_ONCE)

        async def limited(*given: Any) -> None:
            async with limit:
                await act(*given)

        results = await asyncio.gather(*(limited(*given) for given in arguments), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
