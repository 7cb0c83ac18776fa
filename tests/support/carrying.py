"""Ports on a real cluster behind one of the three carriers, with a gateway and an ingress loop of the test's.

The loop is the server's account, with the rights of deploy/; the test itself is an administrator.

`carrying(carrier)` gives a `Carrying`: `pod` runs a Pod there and makes its route, `ready` tells the loop that it is
ready, `through` talks to it as a visitor's client does, by whatever carries. The controllers are real ones, started for
the test, and see the test's namespace alone. A cluster is what KUBECONFIG names.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from neuropod.gateway.routes import Route
from neuropod.ids import InstallationId, PodId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kit.tasks import FailureHook
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ForbiddenError
from neuropod.kube.kinds import CUSTOM_RESOURCE_DEFINITIONS, INGRESS_CLASSES, MIDDLEWARES, NAMESPACES, PODS
from neuropod.kube.kubeconfig import from_kubeconfig
from neuropod.observability.metrics import Metrics
from neuropod.reconcile.carried import Origin
from neuropod.reconcile.ingress import IngressLoop
from neuropod.reconcile.world import World
from neuropod.runtimes.kubernetes import fences
from neuropod.runtimes.kubernetes.fences import Tenant
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import ClusterSettings
from support.cluster_account import ACCOUNT, NAMESPACE, account_client, admin_kubeconfig
from support.gateway import RUNTIME, GatewayInTest, serving
from support.ports import free_port

CARRIERS = ("gateway", "ingress", "nginx")
_ROOT = Path(__file__).parent.parent.parent
_CLASSES = {
    "ingress": ("traefik", "traefik.io/ingress-controller"),
    "nginx": ("neuropod-nginx", "k8s.io/ingress-nginx"),
}


def own_address(server: str) -> str:
    """Return the address of this machine that the cluster reaches: the one that the API server is asked from."""
    parts = urlsplit(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((parts.hostname, parts.port or 443))
        address: str = probe.getsockname()[0]
        return address


@dataclass
class _OnCluster:
    client: KubeClient


@dataclass
class Carrying:
    """A user's ports on the cluster."""

    carrier: str
    client: KubeClient
    served: GatewayInTest  # the gateway itself
    through: GatewayInTest  # what visitors' clients talk to
    owner: UserId
    namespace: str
    controller: "Controller | None"
    gate: "_Gate"

    async def stop_gate(self) -> None:
        """Let the gate be gone for the controller."""
        await self.gate.aclose()

    async def pod(self, name: str = "lab", **values: Any) -> Route:
        """Run a Pod and wait for it; its route is ready, unless `values` say otherwise. `spec` is its container's."""
        port = values.setdefault("port", 8080)
        pod_id = PodId(new_id("pod"))
        spec = {"image": "neuropod.test/http:1", "env": [{"name": "PORT", "value": str(port)}]} | values.pop("spec", {})
        await self._create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "labels": {"neuropod.io/pod": pod_id, "neuropod.io/incarnation": "1"},
                },
                "spec": {
                    "containers": [
                        {
                            "name": "main",
                            "imagePullPolicy": "IfNotPresent",
                            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                            **spec,
                        }
                    ],
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 0,
                },
            }
        )
        address = await self._ready_address(name)
        return self.served.route_to((address, port), name, owner_id=self.owner, pod_id=pod_id, **values)

    async def _create(self, pod: dict[str, Any]) -> None:
        """Create it, once its new namespace has the ServiceAccount that a controller makes there."""
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.client.create(pod)
                except ForbiddenError as error:
                    assert "serviceaccount" in error.message, error
                    await asyncio.sleep(0.1)
                else:
                    return

    async def _ready_address(self, name: str) -> str:
        async with asyncio.timeout(90):
            while True:
                pod = await self.client.get(PODS, name, self.namespace)
                status = (pod or {}).get("status", {})
                conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
                if conditions.get("Ready") == "True":
                    return str(status["podIP"])
                await asyncio.sleep(0.1)

    async def until_carried(self, route: Route, *, path: str = "/echo") -> None:
        """Wait until the carrier has followed: its owner gets a 200, straight from the pod, and the gate its own."""
        key = self.served.key(user_id=self.owner)

        async def is_carried() -> bool:
            dials = self.served.runtime.dials
            answer = await self.through.ask(route, f"GET {path} HTTP/1.1", key=key)
            straight = self.carrier == "gateway" or self.served.runtime.dials == dials
            return answer.status == 200 and straight and await self._reaches_entrance(route)

        await self.until(is_carried, f"{route.host} to be carried")

    async def _reaches_entrance(self, route: Route) -> bool:
        """Tell whether the gate's own paths lead to the gateway: it alone says 400 to a form without a ticket."""
        answer = await self.through.ask(route, "POST /.neuropod/enter HTTP/1.1", "Content-Length: 0", key=None)
        return answer.status == 400

    async def until(self, look: Any, what: str, seconds: float = 60) -> None:
        """Wait until an asynchronous question is answered with yes; one that is not answered in time is asked again."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            with contextlib.suppress(TimeoutError):
                if await look():
                    return
            await asyncio.sleep(0.1)
        raise AssertionError(f"waited in vain for {what}")


class _Gate:
    """Where controllers ask the gate: a relay to the gateway in test, which can be gone."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def open(self, port: int) -> None:
        """Relay to the gateway at `port`."""

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._relays.add(task)
            try:
                there, back = await asyncio.open_connection(self.address, port)
                try:
                    await asyncio.wait(
                        [asyncio.create_task(_copy(reader, back)), asyncio.create_task(_copy(there, writer))],
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                finally:
                    back.transport.abort()
            except OSError:  # the gateway has ended
                return
            finally:
                writer.transport.abort()
                self._relays.discard(task)

        self._server = await asyncio.start_server(relay, self.address, self.port)

    async def aclose(self) -> None:
        """Listen no more and cut what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._relays):
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@dataclass
class Controller:
    """A real ingress controller."""

    process: asyncio.subprocess.Process
    port: int


@asynccontextmanager
async def controller_of(
    carrier: str, folder: Path, address: str, namespace: str | None = None
) -> AsyncIterator[Controller]:
    """Run a real controller of a carrier's kind, for one namespace or (None) for all."""
    providers = ["kubernetesingress", "kubernetescrd"] if carrier == "ingress" else ["kubernetesingressnginx"]
    port = free_port()
    arguments = [
        f"--entryPoints.web.address={address}:{port}", "--entryPoints.web.http.aliasHeadersStrategy=delete",
        "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false", "--log.level=ERROR", "--ping=true",
        "--ping.entryPoint=web",
    ]  # fmt: skip
    for provider in providers:
        arguments.append(f"--providers.{provider}=true")
        key = "watchNamespace" if provider == "kubernetesingressnginx" else "namespaces"
        arguments += [] if namespace is None else [f"--providers.{provider}.{key}={namespace}"]
    class_flag = providers[0]
    arguments.append(f"--providers.{class_flag}.ingressclass={_CLASSES[carrier][0]}")
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "traefik"), *arguments, cwd=folder, env=dict(os.environ),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(90):
            while True:
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_connection(address, port)
                    writer.write(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = await reader.read()
                    writer.close()
                    if answer.startswith(b"HTTP/1.1 200"):
                        break
                await asyncio.sleep(0.05)
        yield Controller(process, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def prepare(client: KubeClient) -> None:
    """Let the cluster know the classes and Traefik's kinds."""
    for name, controller in _CLASSES.values():
        if await client.get(INGRESS_CLASSES, name) is None:
            await client.apply(
                {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "IngressClass",
                    "metadata": {"name": name},
                    "spec": {"controller": controller},
                }
            )
    if await client.get(CUSTOM_RESOURCE_DEFINITIONS, f"{MIDDLEWARES.plural}.traefik.io") is None:
        for obj in yaml.safe_load_all((_ROOT / "tools/cluster/objects/traefik-crds.yaml").read_text()):
            await client.apply(obj)


@asynccontextmanager
async def carrying(carrier: str, folder: Path, *serving_args: Any) -> AsyncIterator[Carrying]:
    """Carry the ports of a new user by one of the carriers until the block ends; then nothing of it is left."""
    access = from_kubeconfig(admin_kubeconfig())
    address = own_address(access.server)
    owner = UserId(new_id("usr"))
    namespace = f"neuropod-{user_hash(owner)}"
    installation = InstallationId(new_id("npd"))
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(KubeClient(access, SystemClock()))
        await prepare(client)
        tenant = Tenant(installation, owner, user_hash(owner))
        server = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}
        for obj in (fences.namespace(tenant), fences.role_binding(tenant, server, "neuropod-pods")):
            await client.apply(obj)
        stack.push_async_callback(client.delete, NAMESPACES, namespace)
        controller = None
        settings: dict[str, Any] = {"host": address, "installation": installation}
        if carrier != "gateway":
            controller = await stack.enter_async_context(controller_of(carrier, folder, address, namespace))
            settings["kubernetes"] = (_cluster(carrier, f"http://{address}:1"),)
            settings["pods_url"] = f"http://neuropod-pods.localhost:{controller.port}"
        served = await stack.enter_async_context(serving(*serving_args, **settings))
        through = served if controller is None else replace(served, port=controller.port)
        account = await stack.enter_async_context(account_client())
        gate = _Gate(address)
        await gate.open(served.port)
        stack.push_async_callback(gate.aclose)
        loop = _loop(account, served, _cluster(carrier, f"http://{address}:{gate.port}"), installation)
        stack.push_async_callback(loop.aclose)
        turning = asyncio.create_task(_turn(loop))
        stack.callback(turning.cancel)
        yield Carrying(carrier, client, served, through, owner, namespace, controller, gate)


def _cluster(carrier: str, gate_url: str) -> ClusterSettings:
    more = {} if carrier == "gateway" else {"gate_url": gate_url}
    return ClusterSettings(name="test", kubeconfig=Path(os.environ["KUBECONFIG"]), carrier=carrier, **more)  # type: ignore[arg-type]


def _loop(
    client: KubeClient, served: GatewayInTest, cluster: ClusterSettings, installation: InstallationId
) -> IngressLoop:
    runtimes = Runtimes.of({RUNTIME: _OnCluster(client)}, {RUNTIME: cluster.name})  # type: ignore[dict-item]
    world = World(
        settings=served.settings.reconcile, database=None, pods=None, accounts=None, runtimes=runtimes,  # type: ignore[arg-type]
        metrics=Metrics(), clock=SystemClock(), sweeping_allowed=True,
    )  # fmt: skip
    origin = Origin(installation, served.doorkeeper.carrier_key)
    return IngressLoop(world, served.gateway.table, (cluster,), served.gateway.addresses, origin, FailureHook())


async def _turn(loop: IngressLoop) -> None:
    while True:
        turn = await loop.turn()
        await loop.wakeup.sleep(min(turn.again_in_seconds, 5))
