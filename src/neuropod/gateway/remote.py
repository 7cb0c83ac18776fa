"""A gateway's end of `/internal/…`: its route feed and its doorkeeper when it runs as a process of its own.

Used by operate's `neuropod gateway`. It has no database and no key; it asks the server over its 0600 Unix socket. While
the server is away the table stays as it was, so open streams and known passes go on (gate.py), and the feed follows
again, from a new snapshot, as soon as the server is back.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import structlog

from neuropod.accounts.visitors import Visitor
from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.gate import Credential, DoorkeeperUnavailableError, Entry, Hop, Known
from neuropod.gateway.internal import BEAT_SECONDS, read_line
from neuropod.gateway.routes import Route
from neuropod.gateway.table import RouteTable
from neuropod.ids import ApiKeyId, InstallationId, PodId, SessionId, UserId
from neuropod.kit.clock import Clock
from neuropod.settings import Addresses
from neuropod.words import Role

_ANSWER_SECONDS = 2.0  # well below the five in which a revocation must hold
_RETRY_SECONDS = 0.2
_LONGEST_RETRY_SECONDS = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hello:
    """What a server says of itself; `carrier_key`: how the gate and carriers on clusters know each other."""

    installation: InstallationId
    addresses: Addresses
    carrier_key: CarrierKey | None


class ServerSocket:
    """Requests to a server by its Unix socket."""

    def __init__(self, path: Path) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path), limits=limits),
            base_url="http://server",
            timeout=httpx.Timeout(_ANSWER_SECONDS, read=_ANSWER_SECONDS),
            trust_env=False,
        )

    async def hello(self) -> Hello:
        """Return who the server is. Raises DoorkeeperUnavailableError."""
        content = await self._answer(self._client.build_request("GET", "/internal/hello"))
        key = content["carrier_key"]
        return Hello(
            InstallationId(content["installation"]),
            Addresses(**content["addresses"]),
            None if key is None else CarrierKey(base64.b64decode(key)),
        )

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask the doorkeeper of the server. Raises DoorkeeperUnavailableError."""
        return await self._answer(self._client.build_request("POST", "/internal/gate", json=question))

    async def tell_traffic(self, pods: Iterable[PodId]) -> None:
        """Tell the server which pods were used. Raises DoorkeeperUnavailableError."""
        await self._answer(self._client.build_request("POST", "/internal/traffic", json={"pods": sorted(pods)}))

    async def _answer(self, request: httpx.Request) -> dict[str, Any]:
        try:
            response = await self._client.send(request)
            response.raise_for_status()
            content: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise DoorkeeperUnavailableError(f"the server does not answer: {error!r}") from error
        return content

    def stream_of_routes(self) -> Any:
        """Open the stream of routes."""
        timeout = httpx.Timeout(_ANSWER_SECONDS, read=3 * BEAT_SECONDS)
        return self._client.stream("GET", "/internal/routes", timeout=timeout)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


class RemoteDoorkeeper:
    """Asks the server's doorkeeper."""

    def __init__(self, server: ServerSocket, carrier_key: CarrierKey | None = None) -> None:
        self._server = server
        self.carrier_key = carrier_key  # as the server said

    async def identify(self, credential: Credential) -> Known | None:
        """Return who shows this. Raises DoorkeeperUnavailableError."""
        question = {"key": credential.key, "pass": credential.pass_value, "host": credential.host}
        found = (await self._server.ask({"op": "identify"} | question))["known"]
        if found is None:
            return None
        session_id, key_id, ends_at = found["session_id"], found["key_id"], found["ends_at"]
        visitor = Visitor(
            UserId(found["user_id"]),
            Role(found["role"]),
            None if session_id is None else SessionId(session_id),
            None if key_id is None else ApiKeyId(key_id),
        )
        return Known(visitor, None if ends_at is None else datetime.fromisoformat(ends_at))

    async def begin(self, host: str, target: str) -> Hop:
        """Begin a hop. Raises DoorkeeperUnavailableError."""
        answer = await self._server.ask({"op": "begin", "host": host, "target": target})
        return Hop(answer["reference"], answer["set_cookie"])

    async def enter(self, host: str, ticket: str, cookie: bytes) -> Entry | None:
        """Redeem a ticket. Raises DoorkeeperUnavailableError."""
        question = {"op": "enter", "host": host, "ticket": ticket, "cookie": cookie.decode("latin-1")}
        found = (await self._server.ask(question))["entry"]
        return None if found is None else Entry(found["target"], tuple(found["set_cookies"]))


class SocketFeed:
    """Follows the server's routes; `run` is its loop."""

    def __init__(self, table: RouteTable, server: ServerSocket, clock: Clock) -> None:
        self._table = table
        self._server = server
        self._clock = clock
        self.connected = False

    async def run(self) -> None:
        """Follow until cancelled."""
        retry_seconds = _RETRY_SECONDS
        while True:
            try:
                await self._follow()
                retry_seconds = _RETRY_SECONDS
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                if self.connected:
                    retry_seconds = _RETRY_SECONDS
                    log.warning("the server is away; what is known is still served", error=repr(error))
            self.connected = False
            await self._clock.sleep(retry_seconds)
            retry_seconds = min(2 * retry_seconds, _LONGEST_RETRY_SECONDS)

    async def _follow(self) -> None:
        snapshot: dict[str, Route] | None = {}
        async with self._server.stream_of_routes() as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                change, loaded = read_line(line)
                if snapshot is None:
                    if change is not None:
                        self._table.apply(change)
                    continue
                if change is not None:
                    for host in change.gone:
                        snapshot.pop(host, None)
                    snapshot |= {route.host: route for route in change.set}
                if loaded:
                    self._table.replace(snapshot)
                    snapshot = None
                    self.connected = True
