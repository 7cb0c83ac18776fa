"""The gateway as a process of its own: no database; routes and decisions from the server's 0600 socket.

A restart of the server cuts nothing here: open streams and known passes go on, and the feed follows again.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from neuropod.gateway.app import Gateway, serving_config
from neuropod.gateway.remote import RemoteDoorkeeper, ServerSocket, SocketFeed
from neuropod.gateway.traffic import TrafficReport
from neuropod.kit.clock import Clock
from neuropod.kit.tasks import FailureHook, TaskSet
from neuropod.runtimes.opened import Runtimes
from neuropod.server.installation import opened_runtimes, socket_path
from neuropod.server.listening import Listener, bound, signals
from neuropod.server.serving import ServerFailedError
from neuropod.settings import Settings

_AGAIN_SECONDS = 15.0


async def serve_gateway(settings: Settings, *, host: str, port: int, clock: Clock) -> None:
    """Run the gateway alone until SIGINT or SIGTERM: no database; routes and decisions from the server's socket.

    Raises OSError (the port is taken) and DoorkeeperUnavailableError when no server runs at its start.
    """
    server = ServerSocket(socket_path(settings).absolute())
    failures = FailureHook()
    tasks = TaskSet(failures)
    told_to_end = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.aclose)
        hello = await server.hello()
        listener = stack.enter_context(bound(settings.model_copy(update={"host": host, "port": port})))
        runtimes = await opened_runtimes(settings, hello.installation, clock, stack)
        gateway = Gateway(
            settings,
            hello.addresses,
            hello.installation,
            runtimes,
            RemoteDoorkeeper(server, hello.carrier_key),
            clock,
            server_address=(settings.host, settings.port),
        )
        stack.push_async_callback(tasks.aclose)
        await stack.enter_async_context(signals(told_to_end))
        tasks.start(SocketFeed(gateway.table, server, clock).run(), name="route feed")
        tasks.start(gateway.run(), name="open streams")
        tasks.start(_open_missing(runtimes, clock), name="runtimes")
        tasks.start(TrafficReport(gateway.take_used, server, clock).run(), name="traffic report")
        public = Listener(serving_config(_nothing_else, gateway, settings))
        serving = asyncio.create_task(public.serve(sockets=[listener]))
        waits = [asyncio.create_task(told_to_end.wait()), asyncio.create_task(failures.wait())]
        await asyncio.wait({serving, *waits}, return_when=asyncio.FIRST_COMPLETED)
        public.should_exit = True
        gateway.end()
        await serving
        for wait in waits:
            wait.cancel()
    if failures.first is not None:
        name, error = failures.first
        raise ServerFailedError(f"{name} died: {error!r}") from error


async def _open_missing(runtimes: Runtimes, clock: Clock) -> None:
    """Try again what could not be opened, until all are open."""
    while runtimes.unopened:
        await clock.sleep(_AGAIN_SECONDS)
        await runtimes.open_missing()


async def _nothing_else(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - the signature is ASGI's
    """Answer what the gateway leaves to an app: health checks."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok\n"})
