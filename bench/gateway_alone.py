"""A gateway whose one pod is bench/upstream.py, with the real check against a real database.

Run as a process: `python -m bench.gateway_alone PORT UPSTREAM_PORT FOLDER`; prints `HOST KEY` when it serves.
"""

import asyncio
import sys
from pathlib import Path

import uvicorn
import uvloop

from neuropod.accounts.records import ApiKeyRow
from neuropod.accounts.service import Accounts
from neuropod.accounts.visitors import Visitors
from neuropod.db.engine import Database
from neuropod.db.migrate import upgrade
from neuropod.gateway.app import Gateway, serving_config
from neuropod.gateway.doorkeeper import LocalDoorkeeper
from neuropod.gateway.routes import Change, Route
from neuropod.ids import InstallationId, PodId, RuntimeId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.secrets import SecretBox, token_hash
from neuropod.runtimes.contract import Connection, WorkloadId
from neuropod.settings import Settings
from neuropod.words import Access, Reason, Scope, Status
from support.rows import user_row

KEY = "a-key-for-the-bench-0123456789abcdef"


class Loopback:
    """The way to the upstream."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def connect(self, workload_id: WorkloadId, port: int) -> Connection:
        async def attach(protocol: asyncio.BaseProtocol) -> asyncio.Transport:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(lambda: protocol, "127.0.0.1", self.port)
            return transport

        return Connection(attach)


async def main(port: int, upstream_port: int, folder: Path) -> None:
    clock = SystemClock()
    settings = Settings(port=port)
    database = Database(f"sqlite:///{folder / 'gateway.sqlite3'}")
    await upgrade(database)
    owner = user_row()
    async with database.write() as session:
        session.add(owner)
        await session.flush()
        session.add(
            ApiKeyRow(
                id="key_bench",
                user_id=owner.id,
                name="bench",
                token_hash=token_hash(KEY),
                prefix="a",
                scopes=[Scope.PORTS],
                created_at=clock.now(),
            )
        )
    doorkeeper = LocalDoorkeeper(
        SecretBox(SecretBox.new_key()),
        Visitors(database, Accounts(settings, clock)),
        database.write,
        clock,
        settings.addresses(port),
        pass_seconds=3600,
    )
    runtime_id = RuntimeId("fake:bench")
    gateway = Gateway(
        settings,
        settings.addresses(port),
        InstallationId("npd_bench"),
        {runtime_id: Loopback(upstream_port)},
        doorkeeper,
        clock,
    )
    host = f"lab-{owner.hash}-8888.neuropod-pods.localhost"
    route = Route(
        host,
        PodId("pod_bench"),
        "lab",
        UserId(owner.id),
        runtime_id,
        1,
        8888,
        Access.PRIVATE,
        Status.RUNNING,
        Reason.READY,
        "",
    )
    gateway.table.loaded = True
    gateway.table.apply(Change((route,), ()))

    async def nothing(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = uvicorn.Server(serving_config(nothing, gateway, settings))
    server.config.host, server.config.port = "127.0.0.1", port
    watching = asyncio.create_task(gateway.run())
    print(host, KEY, flush=True)
    await server.serve()
    watching.cancel()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
