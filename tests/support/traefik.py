"""A real Traefik on this machine, with routes of the test's from a file.

`traefik(folder, dynamic)` yields the port it listens on; `dynamic` is the content of its file provider. In front of a
gateway that is asked by forwardAuth: `asking(served, routes)` returns that content, from the same builders that make the
Middlewares of a cluster.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuropod.gateway.carriers import traefik as builders
from neuropod.gateway.carriers.style import Carrier, GateAddress
from neuropod.gateway.routes import Route
from neuropod.settings import ClusterSettings
from neuropod.words import Access
from support.gateway import GatewayInTest, serving
from support.ports import free_port


@asynccontextmanager
async def traefik(folder: Path, dynamic: dict[str, Any], *flags: str, port: int | None = None) -> AsyncIterator[int]:
    """Run Traefik until the block ends."""
    port = free_port() if port is None else port
    routes = folder / "routes.json"
    routers = dynamic["http"]["routers"]
    routers["started"] = {"rule": "Path(`/traefik-has-started`)", "service": "noop@internal", "entryPoints": ["web"]}
    routes.write_text(json.dumps(dynamic))  # JSON is YAML
    routes.rename(folder / "routes.yml")
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "traefik"), f"--entryPoints.web.address=127.0.0.1:{port}",
        f"--providers.file.filename={folder / 'routes.yml'}", "--log.level=ERROR", "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false", *flags, cwd=folder, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while not await _has_started(port):
                await asyncio.sleep(0.05)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def _has_started(port: int) -> bool:
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /traefik-has-started HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer.startswith(b"HTTP/1.1 418")  # what `noop` answers
    return False


def carrier_of(served: Any) -> Carrier:
    """Return the carrier whose gate is a gateway in test."""
    url = f"http://127.0.0.1:{served.port}"
    gate = GateAddress(url, ("127.0.0.1",), served.port)
    return Carrier("ingress", "npd_test", "traefik", gate, served.doorkeeper.carrier_key)


def asking(served: Any, routes: Sequence[Route], *, gated: bool = True) -> dict[str, Any]:
    """Return what Traefik is told of these routes: to ask the gateway in test, then to go straight to the pods.

    A route without a ready incarnation leads to the gateway, as its Service would.
    """
    carrier = carrier_of(served)
    http: dict[str, Any] = {"routers": {}, "services": {}, "middlewares": {}}
    for name, content in builders.shared(gated=True).items():
        http["middlewares"][name] = content["spec"]
    gateway = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{served.port}"}]}}
    http["services"]["gateway"] = gateway
    for number, route in enumerate(routes):
        spec = builders.gate(carrier, route.host)["spec"]
        if gated:
            http["middlewares"][f"gate-{number}"] = spec
        answers = "neuropod-public-answers" if route.access is Access.PUBLIC else "neuropod-private-answers"
        http["routers"][f"pod-{number}"] = {
            "rule": f"Host(`{route.host}`) && PathPrefix(`/`)",
            "service": f"pod-{number}",
            "middlewares": [f"gate-{number}", answers],
            "entryPoints": ["web"],
        }
        http["routers"][f"own-{number}"] = {
            "rule": f"Host(`{route.host}`) && PathPrefix(`/.neuropod`)",
            "service": "gateway",
            "entryPoints": ["web"],
        }
        address = served.runtime.listening[route.pod_id, route.incarnation or 1, route.port]
        pod = {"loadBalancer": {"servers": [{"url": f"http://{address[0]}:{address[1]}"}]}}
        http["services"][f"pod-{number}"] = gateway if route.incarnation is None else pod
    return {"http": http}


@asynccontextmanager
async def asked_gate(port: int | None = None, *args: Any, **settings: Any) -> AsyncIterator[GatewayInTest]:
    """Serve a gateway whose gate carriers ask; browsers reach pods at `port`."""
    cluster = ClusterSettings(name="lab", kubeconfig=Path("kc"), carrier="ingress", gate_url="http://127.0.0.1:1")
    if port is not None:
        settings["pods_url"] = f"http://neuropod-pods.localhost:{port}"
    async with serving(*args, kubernetes=(cluster,), **settings) as served:
        yield served


@asynccontextmanager
async def through_traefik(
    folder: Path, served: GatewayInTest, port: int, *routes: Route, gated: bool = True
) -> AsyncIterator[GatewayInTest]:
    """Yield the same gateway in test, talked to through Traefik, which goes straight to the pods."""
    content = asking(served, routes, gated=gated)
    async with traefik(folder, content, "--entryPoints.web.http.aliasHeadersStrategy=delete", port=port):
        yield replace(served, port=port)
