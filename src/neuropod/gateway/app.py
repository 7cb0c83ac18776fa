"""The gateway put together, and how uvicorn serves it beside the ASGI app of the other hosts.

Made once per process: by server with a DatabaseFeed and a LocalDoorkeeper, by operate's `neuropod gateway` with
their remote halves. What is needed around it:

    gateway = Gateway(settings, addresses, installation, runtimes, doorkeeper, clock)
    feed = DatabaseFeed(gateway.table, database, news, pods, clock)
    tasks.start(feed.run(), …); tasks.start(news.run(), …); tasks.start(gateway.run(), …)
    uvicorn.Server(serving_config(asgi_app, gateway, settings, …))

There is no ASGI app for pod hosts: FrontProtocol serves them below ASGI (front.py says why).
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from uvicorn._types import ASGIApplication

from neuropod.gateway.askers import Askers
from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.connector import Connector, Connectors, Dials
from neuropod.gateway.front import FrontProtocol
from neuropod.gateway.gate import Doorkeeper, Gate
from neuropod.gateway.proxy import Parts
from neuropod.gateway.streams import OpenStreams
from neuropod.gateway.table import RouteTable
from neuropod.gateway.websockets import WebSocketProtocol
from neuropod.ids import InstallationId, PodId, RuntimeId
from neuropod.kit.clock import Clock
from neuropod.runtimes.contract import Connection
from neuropod.settings import Addresses, Settings

_KEEP_ALIVE_SECONDS = 75  # of an idle connection between two requests
_MOST_MESSAGE_BYTES = 1 << 20  # as wire.exec says
_SHUTDOWN_SECONDS = 5  # then what is still being answered is cut


class Gateway:
    """Carries requests for pod hosts to pods.

    With a `server_address` it is a gateway of its own: requests for all other hosts are carried there, as they are. The
    server then sees this machine's address as the client's, unless its `trusted_proxies` name it.
    """

    def __init__(
        self,
        settings: Settings,
        addresses: Addresses,
        installation: InstallationId,
        runtimes: Mapping[RuntimeId, Dials],
        doorkeeper: Doorkeeper,
        clock: Clock,
        *,
        server_address: tuple[str, int] | None = None,
    ) -> None:
        group = settings.gateway
        self.addresses = addresses
        self.table = RouteTable()
        self.gate = Gate(doorkeeper, clock, remember_seconds=group.decision_cache_seconds)
        self.connectors = Connectors(installation, runtimes, connect_timeout_seconds=group.connect_timeout_seconds)
        self.streams = OpenStreams(
            self.gate,
            self.table,
            clock,
            idle_seconds=group.idle_stream_seconds,
            quiet_seconds=settings.limits.quiet_stream_seconds,
        )
        self.table.listen(self.connectors.follow)
        self.streams.on_look(self.connectors.look)
        server = None
        if server_address is not None:
            dial = partial(_dial, server_address, _own_certificate(settings))
            server = Connector(dial, group.connect_timeout_seconds)
        self.parts = Parts(
            self.table,
            self.gate,
            self.connectors,
            self.streams,
            addresses,
            server,
            _askers(settings, doorkeeper.carrier_key, self.table, clock),
            installation,
        )
        self._is_trusted = _trust(settings.trusted_proxies)
        self._others = frozenset({addresses.console_host, addresses.api_host})
        self._domains = frozenset(addresses.by_domain)

    def is_pod_host(self, host: str) -> bool:
        """Tell whether a host name (lower case, no port) is the gateway's to answer, known or not."""
        return host not in self._others and _has_parent(host, self._domains)

    async def run(self) -> None:
        """Watch the open streams; never returns."""
        await self.streams.run(asyncio.get_running_loop().time)

    def take_used(self) -> set[PodId]:
        """Return the pods that were used through this gateway since this was asked last."""
        return self.streams.take_used(asyncio.get_running_loop().time())

    def protocol(self, **given: Any) -> asyncio.Protocol:
        """Make the protocol of a new connection, for uvicorn."""
        return FrontProtocol(self.parts, self.is_pod_host, self._is_trusted, **given)

    def end(self) -> None:
        """Cut everything that is open: the server ends."""
        self.streams.cut_all()
        self.connectors.end_all()


def _askers(settings: Settings, key: CarrierKey | None, table: RouteTable, clock: Clock) -> Askers | None:
    """Return what the gate knows of carriers that ask it; None where no cluster has such a carrier."""
    names = {urlsplit(cluster.gate_url).hostname for cluster in settings.kubernetes if cluster.gate_url is not None}
    hosts = frozenset(f"[{name}]" if ":" in name else name for name in names if name)
    return Askers(key, hosts, table, clock) if key is not None and hosts else None


def _own_certificate(settings: Settings) -> ssl.SSLContext | None:
    """Return how the server is recognised where it serves HTTPS: by its very certificate, whatever host it is for."""
    if settings.tls_cert_file is None:
        return None
    context = ssl.create_default_context(cafile=str(settings.tls_cert_file))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def _dial(address: tuple[str, int], certificate: ssl.SSLContext | None, _: int) -> Connection:
    async def attach(protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: protocol, *address, ssl=certificate)
        return transport

    return Connection(attach)


def _has_parent(host: str, domains: Collection[str]) -> bool:
    """Tell whether a host is anywhere below one of the domains."""
    _, dot, parent = host.partition(".")
    while dot:
        if parent in domains:
            return True
        _, dot, parent = parent.partition(".")
    return False


def _trust(networks: tuple[str, ...]) -> Callable[[str], bool]:
    trusted = [ipaddress.ip_network(network, strict=False) for network in networks]
    if not trusted:
        return lambda _: False

    @lru_cache(maxsize=1024)
    def is_trusted(address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in trusted)

    return is_trusted


def serving_config(app: ASGIApplication, gateway: Gateway, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves: pod hosts by the gateway, everything else by `app`.

    Nothing of uvicorn's logs a request (SECURITY 25) or cuts a stream; forwarded headers are the apps' own business.
    The caller opens the socket (`Server.serve(sockets=[…])`), since only it knows the port when that is 0.
    """
    return uvicorn.Config(
        app,
        http=partial(gateway.protocol),  # type: ignore[arg-type]  # called with keywords, as a class would be
        ws=WebSocketProtocol,  # of the other hosts: terminals (api.terminals)
        ws_max_size=_MOST_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # a GB of output is not worth a processor
        # Pings are sent, and keep the way open; an answer is not waited for: who takes nothing reads no pong either.
        ws_ping_timeout=None,
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )
