"""The presence loop: says that this server is there and what it serves, and hears it of the others. PostgreSQL only.

One small write per `presence_seconds`; a lease is three of them. A server that ends says so at once, one that dies is
taken out by whichever notices first. Either way the owners of its pods are told, once, since their status changes
(`unreachable`, and back). On SQLite there is one server, and nothing is written.

A runtime that is one machine's alone has one server: a second one would find none of the first one's pods and start
them anew. `arrive` refuses it before any loop runs.
"""

import hashlib
import socket
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from neuropod import __version__
from neuropod.db.engine import Session, Topic
from neuropod.db.servers import ServerRow, all_servers, arrive_alone, take_out, write_server
from neuropod.ids import RuntimeId
from neuropod.kit.wakeups import Wakeup
from neuropod.pods.presence import Presence
from neuropod.pods.resync.store import open_pods_of, tell_of_pods
from neuropod.reconcile.driver import Turn
from neuropod.reconcile.world import World

log = structlog.get_logger(__name__)

_LEASES = 3  # renewals that may fail before the others take a server for dead
_ALONE_SECONDS = 3600.0
_GONE = "No server is connected to the machine or cluster that it belongs to; it is left as it is."
RUNTIME_IS_BACK = "A server is connected to its machine or cluster again."


class ServedElsewhereError(Exception):
    """Another server that is alive serves a runtime that one server alone may serve; the sentence names it."""


def server_id(data_dir: Path) -> str:
    """Return the id of the server on this boot of this machine and this data directory, of which there is one.

    The next start there has the same one, so that a server that was killed is not taken for somebody else.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    here = f"{socket.gethostname()} {boot.read_text() if boot.exists() else ''} {data_dir.resolve()}"
    return f"srv_{hashlib.sha256(here.encode()).hexdigest()[:26]}"


class PresenceLoop:
    """Implements driver.Loop."""

    name = "presence"
    topics = frozenset({Topic.SERVERS, Topic.RUNTIMES})

    def __init__(self, world: World, presence: Presence, server: str) -> None:
        self.wakeup = Wakeup()
        self._world = world
        self._presence = presence
        self._id = server
        self._servers = 1
        self._started_at = world.clock.now()
        self._renewed_at: float | None = None
        self._said: frozenset[RuntimeId] = frozenset()  # what this server has said that it serves
        self._count = world.metrics.gauge("servers", "Servers that share this database, this one too.")
        self._count.set(1)

    async def arrive(self, alone: Collection[RuntimeId]) -> None:
        """Say that this server is there, before its loops start. `alone`: of its runtimes, those of one server only.

        Where another server serves one of those, wait until it is known to be alive (it renews its lease) or dead (the
        lease ends). Raises ServedElsewhereError.
        """
        world = self._world
        if world.database.is_sqlite:
            return
        known: dict[str, datetime] = {}
        while True:
            now = world.clock.now()
            async with world.database.write() as session:
                await arrive_alone(session)
                rivals = [row for row in await all_servers(session) if self._is_rival(row, alone, now)]
                if not rivals:
                    own = await self._renew(session)
                    break
            for row in rivals:
                if row.lease_until > known.get(row.id, row.lease_until):
                    raise ServedElsewhereError(_twice(row, alone))
                if row.id not in known:
                    log.info("another server serves the same machine: is it alive?", server=row.name, id=row.id)
                known[row.id] = row.lease_until
            await world.clock.sleep(1)
        self._said, self._renewed_at = own, world.clock.monotonic()

    def _is_rival(self, row: ServerRow, alone: Collection[RuntimeId], now: datetime) -> bool:
        return row.id != self._id and row.lease_until > now and not set(alone).isdisjoint(map(str, row.runtimes))

    async def turn(self) -> Turn:
        if self._world.database.is_sqlite:
            return Turn(_ALONE_SECONDS, {"servers": 1})
        every = self._world.settings.presence_seconds
        monotonic = self._world.clock.monotonic()
        if self._renewed_at is None or monotonic - self._renewed_at >= every * 0.9 or self._presence.own != self._said:
            async with self._world.database.write() as session:
                own = await self._renew(session)
            self._said = own
            self._renewed_at = monotonic
        await self._learn()
        left = every - (monotonic - self._renewed_at)
        return Turn(max(left, 0.0), {"servers": self._servers})

    async def _renew(self, session: Session) -> frozenset[RuntimeId]:
        """Renew the lease, and tell of what has come and gone; return what is said now to be served by this server."""
        world, own = self._world, self._presence.own
        now = world.clock.now()
        before = _served(await all_servers(session))
        gone = await take_out(session, ended_before=now)
        lease = timedelta(seconds=_LEASES * world.settings.presence_seconds)
        await write_server(
            session,
            {
                "id": self._id,
                "name": socket.gethostname(),
                "version": __version__,
                "started_at": self._started_at,
                "runtimes": sorted(own),
                "lease_until": now + lease,
            },
        )
        opened = own - self._said
        lost, back = set(gone) - _served(await all_servers(session)), opened - before
        if self._renewed_at is None or lost or opened:
            session.nudge(Topic.SERVERS)
            session.nudge(Topic.ROUTES)
        pods = [
            (await open_pods_of(session, ids), message) for ids, message in ((lost, _GONE), (back, RUNTIME_IS_BACK))
        ]
        for pod_ids, message in pods:
            await tell_of_pods(session, pod_ids, message, now=now)
        return own

    async def _learn(self) -> None:
        async with self._world.database.read() as session:
            rows = await all_servers(session)
        self._presence.learn((row.runtimes, row.lease_until) for row in rows)
        self._servers = len(rows)
        self._count.set(len(rows))

    async def aclose(self) -> None:
        """Say that this server ends; what no other serves is unreachable from now on."""
        if self._renewed_at is None:
            return
        world, now = self._world, self._world.clock.now()
        async with world.database.write() as session:
            gone = await take_out(session, server_id=self._id, ended_before=now)
            lost = set(gone) - _served(await all_servers(session))
            session.nudge(Topic.SERVERS)
            session.nudge(Topic.ROUTES)
            await tell_of_pods(session, await open_pods_of(session, lost), _GONE, now=now)
        self._renewed_at = None


def _served(rows: Sequence[ServerRow]) -> set[RuntimeId]:
    return {RuntimeId(str(runtime)) for row in rows for runtime in row.runtimes}


def _twice(row: ServerRow, alone: Collection[RuntimeId]) -> str:
    served = ", ".join(sorted(set(alone) & set(map(RuntimeId, map(str, row.runtimes)))))
    return (
        f"the server on {row.name} ({row.id}) serves {served} already, from another data directory or as a copy of "
        "this machine: give each its own NEUROPOD_LOCAL__MACHINE_ID, or let this one run no pods "
        "(NEUROPOD_LOCAL__ENABLED=false)"
    )
