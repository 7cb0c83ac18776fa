"""The ingress loop against an API server: objects are as routes want them, and nobody else's are touched."""

import asyncio
import dataclasses
from contextlib import asynccontextmanager

import pytest

from neuropod.db.engine import Topic
from neuropod.db.installation import InstallationRow, confirm_epoch
from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.carriers.reaching import GateUnreachableError, reach_gate
from neuropod.gateway.carriers.style import GateAddress
from neuropod.gateway.routes import Change, Route
from neuropod.gateway.table import RouteTable
from neuropod.ids import RuntimeId
from neuropod.kit.clock import SystemClock
from neuropod.kit.tasks import FailureHook
from neuropod.kube.client import KubeClient
from neuropod.observability.health import Board
from neuropod.observability.metrics import Metrics
from neuropod.reconcile import carried
from neuropod.reconcile.carried import Origin
from neuropod.reconcile.driver import Driver
from neuropod.reconcile.ingress import IngressLoop
from neuropod.reconcile.world import World
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import ClusterSettings, Settings
from neuropod.words import Access, Reason, Status
from reconcile.plant import INSTALLATION
from support.clocks import ManualClock
from support.gateway import until
from support.kube import fake_api, status

ID = RuntimeId("kubernetes:one")
HOST = "lab-abcdefgh-8888.neuropod-pods.localhost"
NS = "neuropod-abcdefgh"
PORT = "lab-abcdefgh-8888"
READY = Route(HOST, "pod_1", "lab", "usr_1", ID, 3, 8888, Access.PRIVATE, Status.RUNNING, Reason.READY, "Running.")
STOPPED = dataclasses.replace(READY, incarnation=None, status=Status.STOPPED)
GATE = GateAddress("http://10.0.0.7:8080", ("10.0.0.7",), 8080)
KEY = CarrierKey(b"k" * 32)
SERVICE = f"/api/v1/namespaces/{NS}/services/{PORT}-service"
INGRESS = f"/apis/networking.k8s.io/v1/namespaces/{NS}/ingresses/{PORT}-ingress"
OWN = f"/apis/networking.k8s.io/v1/namespaces/{NS}/ingresses/{PORT}-gate"
MIDDLEWARE = f"/apis/traefik.io/v1alpha1/namespaces/{NS}/middlewares/{PORT}-gate"
SLICE = f"/apis/discovery.k8s.io/v1/namespaces/{NS}/endpointslices/{PORT}-gate"
OF_PORT = {SERVICE, INGRESS, OWN, MIDDLEWARE}


class _Cluster:
    """A runtime that is a cluster, as the loop sees it."""

    def __init__(self, client):
        self.client = client


class _Gate:
    """What a `gate_url` leads to."""

    def __init__(self):
        self.found = GATE
        self.asked = 0

    async def reach(self, url, key, installation):
        self.asked += 1
        if self.found is None:
            raise GateUnreachableError("nothing of ours answers at gate_url")
        return self.found


class _Ingress:
    """The loop of one server on a cluster."""

    def __init__(self, api, client, database, clock, carrier, *, allowed=True):
        self.api = api
        self.table = RouteTable()
        self.clock = clock
        self.failures = FailureHook()
        more = {} if carrier == "gateway" else {"gate_url": GATE.url}
        cluster = ClusterSettings(name="lab", kubeconfig="kc", carrier=carrier, **more)
        settings = Settings(kubernetes=(cluster,))
        world = World(
            settings=settings.reconcile, database=database, pods=None, accounts=None,
            runtimes=Runtimes.of({ID: _Cluster(client)}, {ID: "lab"}), metrics=Metrics(), clock=clock,
            sweeping_allowed=allowed,
        )  # fmt: skip
        self.loop = IngressLoop(
            world, self.table, settings.kubernetes, settings.addresses(80), Origin(INSTALLATION, KEY), self.failures
        )

    def serve(self, *routes):
        self.table.replace({route.host: route for route in routes})

    async def turn(self):
        """Turn once, and let the watches tell what came of it."""
        turn = await self.loop.turn()
        assert self.failures.first is None, self.failures.first
        await self.followed()
        return turn

    async def settle(self):
        """Turn until a turn changes nothing."""
        async with asyncio.timeout(20):
            while True:
                turn = await self.turn()
                if not turn.report["applied"] and not turn.report["removed"]:
                    return turn

    async def followed(self):
        """Wait until the watches know what the server has."""
        for cluster in self.loop._carried.values():
            for informer in cluster._informers:
                there = {path for path in self.api.objects if path.split("/")[-2] == informer.kind.plural}
                await until(lambda there=there, informer=informer: _versions(self.api, there) == {
                    (one.metadata.name, one.metadata.resource_version) for one in informer.items.values()
                }, "the watch to follow")  # fmt: skip

    def owner_of(self, namespace):
        """Return whose namespace it is, as far as the loop knows."""
        (cluster,) = self.loop._carried.values()
        home = cluster._homes.items.get(("", namespace))
        return None if home is None else home.metadata.annotations["neuropod.io/user-id"]

    def paths(self):
        """The objects of the four kinds that stand in the cluster."""
        kinds = {"services", "ingresses", "endpointslices", "middlewares"}
        return {path for path in self.api.objects if path.split("/")[-2] in kinds}


def _versions(api, paths):
    found = (api.objects[path]["metadata"] for path in paths)
    return {(metadata["name"], metadata["resourceVersion"]) for metadata in found}


@pytest.fixture
def gate(monkeypatch):
    made = _Gate()
    monkeypatch.setattr(carried, "reach_gate", made.reach)
    return made


@pytest.fixture
async def api(tmp_path):
    async with fake_api(tmp_path) as server:
        yield server


async def _home(api, *, owner="usr_1", name=NS):
    labels = {"neuropod.io/installation": INSTALLATION}
    return await api.put(
        f"/api/v1/namespaces/{name}", {"metadata": {"labels": labels, "annotations": {"neuropod.io/user-id": owner}}}
    )


@asynccontextmanager
async def _ingress(api, database, carrier="ingress", **more):
    async with KubeClient(api.access(), SystemClock()) as client:
        made = _Ingress(api, client, database, ManualClock(), carrier, **more)
        try:
            yield made
        finally:
            await made.loop.aclose()


async def test_a_port_gets_its_objects_and_then_nothing_is_written(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(READY)

        first = await ingress.turn()
        written = len(api.requests)
        again = await ingress.turn()

        assert first.report["applied"] == len(ingress.paths())
        assert ingress.paths() >= OF_PORT
        assert SLICE not in api.objects
        assert again.report["applied"] == 0
        assert again.again_in_seconds == 300
        assert not [request for request in api.requests[written:] if request.method != "GET"]
        assert {request.param("fieldManager") for request in api.requests if request.method == "PATCH"} == {"neuropod"}


async def test_nothing_is_asked_while_nothing_changes(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(READY)
        await ingress.settle()
        asked, gates = len(api.requests), gate.asked

        for _ in range(5):
            await ingress.turn()

        assert (len(api.requests), gate.asked) == (asked, gates)


async def test_a_pod_that_stops_leads_to_the_gateway_and_back_when_it_is_ready(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(READY)
        await ingress.settle()

        ingress.serve(STOPPED)
        await ingress.settle()
        assert api.objects[SERVICE]["spec"]["selector"]["neuropod.io/incarnation"] == "0"
        assert api.objects[SLICE]["endpoints"][0]["addresses"] == ["10.0.0.7"]

        ingress.serve(dataclasses.replace(READY, incarnation=4))
        await ingress.settle()
        assert api.objects[SERVICE]["spec"]["selector"]["neuropod.io/incarnation"] == "4"
        assert SLICE not in api.objects


async def test_what_somebody_changed_or_removed_is_put_back(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(READY)
        await ingress.settle()
        wanted = {path: api.objects[path] for path in ingress.paths()}

        changed = {**api.objects[INGRESS], "metadata": {**api.objects[INGRESS]["metadata"], "annotations": {}}}
        await api.put(INGRESS, changed)
        await api.remove(MIDDLEWARE)
        await until(ingress.loop.wakeup._event.is_set, "the watch to nudge the loop")
        await ingress.followed()
        await ingress.settle()

        def said(obj):
            return {key: value for key, value in obj["metadata"].items() if key in {"labels", "annotations"}}

        assert {path: said(api.objects[path]) for path in wanted} == {path: said(obj) for path, obj in wanted.items()}
        assert api.objects[MIDDLEWARE]["spec"] == wanted[MIDDLEWARE]["spec"]


async def test_at_forget_all_of_the_pod_goes_and_another_pod_keeps_what_is_shared(api, gate, plant):
    await _home(api)
    other = dataclasses.replace(READY, host=HOST.replace("lab", "two"), pod_id="pod_2", pod_name="two")
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(READY, other)
        await ingress.settle()

        ingress.serve(other)
        await ingress.settle()
        assert not [path for path in ingress.paths() if "/lab-" in path]
        assert [path for path in ingress.paths() if path.endswith("/neuropod-gate")]

        ingress.serve()
        await ingress.settle()
        assert ingress.paths() == set()


async def test_what_belongs_to_nobody_goes_after_a_grace(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as before:
        before.serve(READY)
        await before.settle()
    async with _ingress(api, plant.database) as ingress:
        stray = await api.put(
            f"/apis/networking.k8s.io/v1/namespaces/{NS}/ingresses/stray",
            {"metadata": {"labels": {"neuropod.io/installation": INSTALLATION}}, "spec": {"rules": []}},
        )
        ingress.serve(READY)
        turn = await ingress.settle()
        assert stray["metadata"]["name"] in {path.rpartition("/")[2] for path in ingress.paths()}

        await ingress.clock.advance(turn.again_in_seconds)
        await ingress.settle()

        assert turn.again_in_seconds == 60
        assert "stray" not in {path.rpartition("/")[2] for path in ingress.paths()}
        assert ingress.paths() >= OF_PORT


async def test_a_sweep_of_too_much_halts_with_an_alarm(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as before:
        before.serve(READY)
        await before.settle()
    async with _ingress(api, plant.database) as ingress:
        ingress.serve()
        await ingress.settle()
        await ingress.clock.advance(60)

        turn = await ingress.turn()

        assert not turn.ok
        assert "has halted" in turn.message
        assert ingress.paths() >= OF_PORT


async def test_after_a_restore_nothing_unknown_is_swept(api, gate, plant):
    await _home(api)
    stray = f"/api/v1/namespaces/{NS}/services/stray"
    await api.put(stray, {"metadata": {"labels": {"neuropod.io/installation": INSTALLATION}}, "spec": {}})
    async with plant.database.write() as session:
        session.add(InstallationRow(id=INSTALLATION, epoch=1, key_fingerprint="", created_at=plant.clock.now()))
    async with _ingress(api, plant.database, allowed=False) as ingress:
        ingress.serve(READY)
        await ingress.settle()
        await ingress.clock.advance(600)
        await ingress.settle()

        assert stray in api.objects

        async with plant.database.write() as session:
            await confirm_epoch(session)
        await ingress.settle()
        assert stray not in api.objects


async def test_objects_are_made_in_the_users_own_namespace_alone(api, gate, plant):
    """SECURITY 16: a namespace of that name which is somebody else's, or is not there yet."""
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(READY)
        await ingress.settle()
        assert ingress.paths() == set()

        await _home(api, owner="usr_other")
        await until(lambda: ingress.owner_of(NS) == "usr_other", "the watch of namespaces")
        await ingress.settle()
        assert ingress.paths() == set()

        await _home(api)
        await until(lambda: ingress.owner_of(NS) == "usr_1", "the watch of namespaces")
        await ingress.settle()
        assert ingress.paths() >= OF_PORT


async def test_a_carrier_that_cannot_gate_carries_public_ports_alone(api, gate, plant):
    """SECURITY 11."""
    await _home(api)
    public = dataclasses.replace(READY, host=HOST.replace("8888", "3000"), port=3000, access=Access.PUBLIC)
    gate.found = None
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(READY, public)
        first = await ingress.turn()
        assert (first.report["applied"], first.ok, bool(first.message)) == (
            0,
            True,
            True,
        )  # it may be this very server that starts

        await ingress.clock.advance(30)
        turn = await ingress.settle()
        ingresses = {path.rpartition("/")[2] for path in ingress.paths() if "/ingresses/" in path}
        assert ingresses == {f"{PORT.replace('8888', '3000')}-ingress"}
        assert "only public ports are carried" in turn.message

        gate.found = GATE
        turn = await ingress.settle()
        assert ingress.paths() >= OF_PORT
        assert not turn.message


async def test_a_gate_that_goes_away_later_changes_nothing_in_the_cluster(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(READY)
        await ingress.settle()
        paths = ingress.paths()
        gate.found = None
        await ingress.clock.advance(300)

        turn = await ingress.settle()

        assert turn.ok
        assert turn.message
        assert ingress.paths() == paths


async def test_a_gateway_that_moved_is_followed(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(STOPPED)
        await ingress.settle()
        gate.found = GateAddress(GATE.url, ("10.0.0.8",), 8080)
        await ingress.clock.advance(300)

        await ingress.settle()

        assert api.objects[SLICE]["endpoints"][0]["addresses"] == ["10.0.0.8"]


async def test_a_cluster_that_gives_no_answer_is_tried_again(api, gate, plant, tmp_path):
    await _home(api)
    async with _ingress(api, plant.database) as ingress:
        ingress.serve(READY)
        await ingress.settle()
        api.faults.append(lambda request: status(503, "ServiceUnavailable") if request.method == "PATCH" else None)
        ingress.serve(STOPPED)
        turn = await ingress.turn()
        assert turn.ok
        assert turn.message
        assert turn.again_in_seconds == 5

        api.faults.clear()
        assert not (await ingress.settle()).message
        assert SLICE in api.objects


async def test_one_object_that_is_refused_stops_no_other_and_is_tried_again_later(api, gate, plant):
    await _home(api)

    def refuse(request):
        return status(403, "Forbidden", "no") if request.method == "PATCH" and "/middlewares/" in request.path else None

    async with _ingress(api, plant.database) as ingress:
        api.faults.append(refuse)
        ingress.serve(READY)
        turn = await ingress.turn()
        assert {SERVICE, INGRESS, OWN} <= ingress.paths()
        assert turn.ok
        assert turn.message
        assert "was refused" in turn.message
        assert (await ingress.turn()).report["applied"] == 0

        api.faults.clear()
        await ingress.clock.advance(turn.again_in_seconds)
        assert not (await ingress.settle()).message
        assert MIDDLEWARE in api.objects


async def test_what_was_refused_and_is_made_by_another_is_forgotten(api, gate, plant):
    await _home(api)

    def refuse(request):
        return status(403, "Forbidden", "no") if request.method == "PATCH" and request.path == MIDDLEWARE else None

    async with _ingress(api, plant.database) as ingress, _ingress(api, plant.database) as other:
        api.faults.append(refuse)
        ingress.serve(READY)
        assert (await ingress.turn()).message
        api.faults.clear()
        other.serve(READY)
        await other.settle()
        await ingress.followed()

        turn = await ingress.turn()

        assert (turn.report["applied"], turn.message, turn.again_in_seconds) == (0, "", 300)


async def test_with_our_own_gateway_nothing_is_made_and_what_an_earlier_carrier_left_goes(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as before:
        before.serve(READY)
        await before.settle()
    async with _ingress(api, plant.database, "gateway") as ingress:
        ingress.serve(READY)
        turn = await ingress.settle()
        assert ingress.paths() >= OF_PORT

        await ingress.clock.advance(turn.again_in_seconds)
        turn = await ingress.settle()

        assert ingress.paths() == set()
        assert turn.again_in_seconds == 3600


async def test_from_traefik_to_the_nginx_class(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as before:
        before.serve(READY)
        await before.settle()
    async with _ingress(api, plant.database, "nginx") as ingress:
        ingress.serve(READY)
        turn = await ingress.settle()
        await ingress.clock.advance(turn.again_in_seconds)
        await ingress.settle()

        assert api.objects[INGRESS]["spec"]["ingressClassName"] == "neuropod-nginx"
        assert not [path for path in ingress.paths() if "/middlewares/" in path]


async def test_two_servers_want_the_same(api, gate, plant):
    await _home(api)
    async with _ingress(api, plant.database) as one, _ingress(api, plant.database) as two:
        for server in (one, two):
            server.serve(READY)
        await asyncio.gather(one.loop.turn(), two.loop.turn())
        await one.followed()
        await two.followed()
        one.serve(STOPPED)
        two.serve(STOPPED)
        await asyncio.gather(one.loop.turn(), two.loop.turn())
        await one.followed()
        await two.followed()
        assert (await one.turn()).report["applied"] == (await two.turn()).report["applied"] == 0

        one.serve()
        two.serve()
        await asyncio.gather(one.loop.turn(), two.loop.turn())
        assert one.paths() == set()


async def test_a_loop_without_clusters_sleeps(plant):
    table = RouteTable()
    world = World(
        settings=Settings().reconcile, database=plant.database, pods=None, accounts=None, runtimes=Runtimes(),
        metrics=Metrics(), clock=plant.clock, sweeping_allowed=True,
    )  # fmt: skip
    loop = IngressLoop(world, table, (), Settings().addresses(80), Origin(INSTALLATION, KEY), FailureHook())

    table.apply(Change((READY,), ()))

    assert (await loop.turn()).again_in_seconds == 3600
    assert not loop.wakeup._event.is_set()


@pytest.mark.parametrize(("carrier", "woken"), [("gateway", False), ("ingress", True)])
async def test_routes_wake_the_loop_only_where_an_ingress_carries(api, plant, carrier, woken):
    async with _ingress(api, plant.database, carrier) as one:
        one.table.apply(Change((READY,), ()))

        assert one.loop.wakeup._event.is_set() is woken


async def test_a_cluster_that_opens_later_is_met_at_once(api, plant):
    async with _ingress(api, plant.database, "gateway") as one:
        runtimes = one.loop._world.runtimes
        opened, runtimes._opened = runtimes._opened, {}
        one.serve(READY)
        board = Board(one.clock)
        driver = Driver(
            [one.loop], database=plant.database, board=board, metrics=Metrics(), clock=one.clock,
            on_failure=one.failures,
        )  # fmt: skip
        driver.start()
        await until(lambda: all(part.ok for part in board.parts()), "the first turn")
        await one.clock.advance(0.2)  # the pause after it

        runtimes._opened = opened
        assert not one.loop._carried
        plant.database.tell(frozenset({Topic.RUNTIMES}))

        await until(lambda: all(part.details["cause"] == "nudge" for part in board.parts()), "the next turn")
        assert one.loop._carried
        await one.clock.advance(0.2)
        await driver.aclose()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1", "each Pod's own"),
        ("http://[::1]:1", "each Pod's own"),
        ("http://no.such.host.invalid:1", "has no address"),
    ],
)
async def test_a_gate_url_that_cannot_be_one_is_told(url, why):
    with pytest.raises(GateUnreachableError, match=why):
        await reach_gate(url, KEY, INSTALLATION)
