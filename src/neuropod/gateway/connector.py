"""Connections to pods: one connector per incarnation, so that no connection ever serves another pod (SECURITY 3).

A connector dials only through Runtime.connect, which reaches that very incarnation or nothing, and keeps idle
connections for the next request to the same port. When the route's incarnation is another or none, the connector ends:
idle connections close, those at work are not used again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

from neuropod.gateway.routes import Change, Route
from neuropod.gateway.upstream import Upstream
from neuropod.ids import InstallationId, PodId, RuntimeId
from neuropod.runtimes.contract import Connection, RuntimeUnavailableError, WorkloadId

_MOST_OPEN = 1000  # connections to one incarnation: a slow pod must not use up the server's descriptors
_MOST_IDLE = 64
_IDLE_SECONDS = 4.0  # below the 5 s after which common servers close an idle connection
_FRESH_SECONDS = 1.0  # so long a connection is trusted with a request that must not be sent twice


class Dials(Protocol):
    """The part of a runtime that the gateway needs."""

    async def connect(self, workload_id: WorkloadId, port: int) -> Connection:
        """See runtimes.contract.Runtime.connect."""
        ...


class BusyError(Exception):
    """The incarnation has as many connections as it may have."""


class Connector:
    """The connections to one incarnation; `connect` opens a byte stream to a port of it."""

    def __init__(self, connect: Callable[[int], Awaitable[Connection]], connect_timeout_seconds: float) -> None:
        self._connect = connect
        self._connect_timeout_seconds = connect_timeout_seconds
        self._idle: dict[int, list[Upstream]] = {}
        self._open = 0
        self._ended = False

    def take_idle(self, port: int, now: float, *, repeatable: bool) -> Upstream | None:
        """Return the connection to that port that was used last; a request that is not repeatable gets a fresh one."""
        idle = self._idle.get(port)
        longest = _IDLE_SECONDS if repeatable else _FRESH_SECONDS
        while idle:
            upstream = idle.pop()
            if not upstream.closed and now - upstream.idle_since < longest:
                return upstream
            upstream.close()
        return None

    async def dial(self, port: int) -> Upstream:
        """Open a connection. Raises NotReadyError, RuntimeUnavailableError, TimeoutError, BusyError."""
        if self._open >= _MOST_OPEN:
            raise BusyError
        self._open += 1
        upstream = Upstream(lambda free, reusable: self._freed(free, port, reusable=reusable))
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                connection = await self._connect(port)
                await connection.attach(upstream)
        except BaseException:
            self._forget(upstream, port)
            raise
        return upstream

    def _freed(self, upstream: Upstream, port: int, *, reusable: bool) -> None:
        if upstream.closed:
            self._forget(upstream, port)
            return
        idle = self._idle.setdefault(port, [])
        if reusable and not self._ended and len(idle) < _MOST_IDLE:
            upstream.idle_since = asyncio.get_running_loop().time()
            idle.append(upstream)
        else:
            upstream.close()  # connection_lost brings it here again

    def _forget(self, upstream: Upstream, port: int) -> None:
        idle = self._idle.get(port, [])
        if upstream in idle:
            idle.remove(upstream)
        if not upstream.forgotten:
            upstream.forgotten = True
            self._open -= 1

    def close_idle(self, now: float) -> None:
        """Close what has been idle for too long."""
        for idle in list(self._idle.values()):
            for upstream in [u for u in idle if now - u.idle_since >= _IDLE_SECONDS]:
                upstream.close()

    def end(self) -> None:
        """Close what is idle, and what is at work once it is free."""
        self._ended = True
        for idle in list(self._idle.values()):
            for upstream in list(idle):
                upstream.close()


class Connectors:
    """The connectors of all incarnations that requests came for; follows the route table."""

    def __init__(
        self, installation: InstallationId, runtimes: Mapping[RuntimeId, Dials], *, connect_timeout_seconds: float
    ) -> None:
        self._installation = installation
        self._runtimes = runtimes
        self._connect_timeout_seconds = connect_timeout_seconds
        self._connectors: dict[PodId, tuple[int, Connector]] = {}
        self._pods: dict[str, PodId] = {}  # by host, to know whose routes are gone

    def of(self, route: Route, incarnation: int) -> Connector:
        """Return the connector of the route's ready incarnation. Raises RuntimeUnavailableError."""
        found = self._connectors.get(route.pod_id)
        if found is not None and found[0] == incarnation:
            return found[1]
        runtime = self._runtimes.get(route.runtime_id)
        if runtime is None:
            raise RuntimeUnavailableError("this gateway does not serve the pod's runtime")
        if found is not None:
            found[1].end()
        workload_id = WorkloadId(self._installation, route.pod_id, incarnation)
        connector = Connector(partial(runtime.connect, workload_id), self._connect_timeout_seconds)
        self._connectors[route.pod_id] = (incarnation, connector)
        return connector

    def follow(self, change: Change) -> None:
        """End the connectors of incarnations that are not served any more."""
        for host in change.gone:
            if (pod_id := self._pods.pop(host, None)) is not None:
                self._end_unless(pod_id, None)
        for route in change.set:
            self._pods[route.host] = route.pod_id
            self._end_unless(route.pod_id, route.incarnation)

    def _end_unless(self, pod_id: PodId, incarnation: int | None) -> None:
        found = self._connectors.get(pod_id)
        if found is not None and found[0] != incarnation:
            del self._connectors[pod_id]
            found[1].end()

    def look(self, now: float) -> None:
        """Close connections that have been idle for too long."""
        for _, connector in self._connectors.values():
            connector.close_idle(now)

    def end_all(self) -> None:
        """End all of them: the gateway ends."""
        for _, connector in self._connectors.values():
            connector.end()
        self._connectors.clear()
