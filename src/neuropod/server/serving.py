"""Runs a server: loops, the public listener (API, pages, gateway), and the machine's 0600 socket.

Everything ends in order: no new requests, the streams, the loops with what they have under way, then the installation.
A part that dies takes the server down loudly; what it was doing is picked up by the next start.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import uvicorn

from neuropod.accounts.visitors import Visitors
from neuropod.api.app import build_api
from neuropod.api.feeding.feed import EventFeed
from neuropod.api.machine import EndAll, Machine, build_machine_app
from neuropod.api.parts import ApiParts, provider_of
from neuropod.db.notify import hear
from neuropod.gateway.app import Gateway, serving_config
from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.doorkeeper import LocalDoorkeeper
from neuropod.gateway.feed import DatabaseFeed
from neuropod.gateway.internal import InternalApp
from neuropod.gateway.traffic import Traffic
from neuropod.ids import RuntimeId
from neuropod.kit.clock import Clock
from neuropod.kit.tasks import FailureHook, TaskSet
from neuropod.pods.attachments.service import Volumes
from neuropod.pods.news import NewsReader
from neuropod.reconcile.carried import Origin
from neuropod.reconcile.devices import DevicesLoop
from neuropod.reconcile.down import end_workloads
from neuropod.reconcile.driver import Driver
from neuropod.reconcile.ingress import IngressLoop
from neuropod.reconcile.limits import LimitsLoop
from neuropod.reconcile.pods import PodsLoop
from neuropod.reconcile.presence import PresenceLoop, server_id
from neuropod.reconcile.resync import ResyncLoop
from neuropod.reconcile.runtimes import RuntimesLoop
from neuropod.reconcile.volumes import VolumesLoop
from neuropod.reconcile.world import World
from neuropod.runtimes.contract import Report
from neuropod.runtimes.registry import of_one_machine
from neuropod.server.installation import Installation, assembled, socket_path
from neuropod.server.listening import Listener, bound, machine_listener, refuse_plain_http, signals
from neuropod.settings import Addresses, Settings

_ANSWERED_SECONDS = 0.2  # after `neuropod down` has its answer the server ends


@dataclass(frozen=True, slots=True)
class Started:
    """What a server that has started tells its caller."""

    addresses: Addresses
    port: int
    sign_in_link: str  # works once
    cli_key: str  # for the command line of whoever started it
    reports: Mapping[RuntimeId, Report]
    unopened: Mapping[str, str]  # runtimes that are tried again, by name, and why they cannot be opened


async def serve(settings: Settings, *, ready: Callable[[Started], None], clock: Clock) -> bool:
    """Run a server until SIGINT or SIGTERM, or until `neuropod down`; `ready` is called once it answers.

    Return whether workloads run on: they do unless `neuropod down` ended them.

    Raises what `assembled` raises, OSError (the port is taken), PlainHttpError, SocketPathError, ServedElsewhereError
    (another server serves this machine), and ServerFailedError when a part of it died.
    """
    refuse_plain_http(settings)
    with bound(settings) as listener:
        port: int = listener.getsockname()[1]
        async with assembled(settings.model_copy(update={"port": port}), clock) as here:
            with machine_listener(socket_path(settings).absolute()) as for_machine:
                return await _serve(here, listener, for_machine, ready)


class ServerFailedError(Exception):
    """A part of the server died; its error is the cause."""


async def _serve(
    here: Installation, listener: socket.socket, for_machine: socket.socket, ready: Callable[[Started], None]
) -> bool:
    settings, clock = here.settings, here.clock
    addresses = settings.addresses(settings.port)
    failures = FailureHook()
    tasks = TaskSet(failures)
    told_to_end = asyncio.Event()
    all_ended = False
    gateway = Gateway(settings, addresses, here.row.installation_id, here.runtimes, _doorkeeper(here, addresses), clock)
    news = NewsReader(here.database, here.pods, clock)
    route_feed = DatabaseFeed(gateway.table, here.database, news, here.pods, clock)  # hears of what happens first
    parts = ApiParts(
        settings=settings,
        addresses=addresses,
        database=here.database,
        accounts=here.accounts,
        pods=here.pods,
        runtimes=here.runtimes,
        board=here.board,
        metrics=here.metrics,
        clock=clock,
        box=here.box,
        routes=gateway.table,
        feed=feed_of(here, news, addresses),
        note_use=gateway.streams.note_use,
        provider=provider_of(settings, addresses, clock),
    )
    traffic = Traffic(gateway.take_used)
    world = _world(here)
    presence = PresenceLoop(world, here.pods.presence, server_id(settings.data_dir))
    await presence.arrive([runtime_id for runtime_id in here.runtimes if of_one_machine(runtime_id)])
    driver = _driver(here, world, presence, failures, traffic, gateway)

    async def end_all() -> int:
        nonlocal all_ended
        await driver.aclose()
        ended = await end_workloads(here.runtimes.values(), clock, grace_seconds=settings.reconcile.stop_grace_seconds)
        all_ended = True
        asyncio.get_running_loop().call_later(_ANSWERED_SECONDS, told_to_end.set)  # after the answer to who asked
        return ended

    public = Listener(serving_config(cast("Any", build_api(parts)), gateway, settings))
    machine = Listener(_machine_config(parts, end_all, gateway, here, traffic))
    async with signals(told_to_end):
        tasks.start(route_feed.run(), name="route feed")
        tasks.start(gateway.run(), name="open streams")
        tasks.start(parts.feed.measured_by(here.metrics).run(), name="event feed")
        tasks.start(news.run(), name="news")
        if not here.database.is_sqlite:
            tasks.start(hear(here.database, clock), name="notifications")
        driver.start()
        serving = [
            asyncio.create_task(public.serve(sockets=[listener]), name="listener"),
            asyncio.create_task(machine.serve(sockets=[for_machine]), name="machine listener"),
        ]
        ready(await _started(here, parts))
        ended = asyncio.create_task(told_to_end.wait())
        failed = asyncio.create_task(failures.wait())
        try:
            await asyncio.wait({ended, failed, *serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            public.should_exit = machine.should_exit = True
            gateway.end()
            parts.feed.end()
            await asyncio.gather(*serving, return_exceptions=True)
            await driver.aclose()
            await tasks.aclose()
            ended.cancel()
            failed.cancel()
    if failures.first is not None:
        name, error = failures.first
        raise ServerFailedError(f"{name} died: {error!r}") from error
    return not all_ended


def _doorkeeper(here: Installation, addresses: Addresses) -> LocalDoorkeeper:
    return LocalDoorkeeper(
        here.box,
        Visitors(here.database, here.accounts),
        here.database.write,
        here.clock,
        addresses,
        pass_seconds=here.settings.gateway.pass_seconds,
    )


def feed_of(here: Installation, news: NewsReader, addresses: Addresses) -> EventFeed:
    """Return what hands the events out to the API's followers."""
    return EventFeed(news, here.accounts, here.pods, addresses, here.settings.events, here.clock, epoch=here.row.epoch)


def _world(here: Installation) -> World:
    return World(
        settings=here.settings.reconcile,
        database=here.database,
        pods=here.pods,
        accounts=here.accounts,
        runtimes=here.runtimes,
        metrics=here.metrics,
        clock=here.clock,
        sweeping_allowed=here.row.epoch <= here.row.confirmed_epoch,
        events=here.settings.events,
    )


def _driver(
    here: Installation, world: World, presence: PresenceLoop, failures: FailureHook, traffic: Traffic, gateway: Gateway
) -> Driver:
    return Driver(
        [
            presence,  # the first here ends last
            PodsLoop(world, failures),
            RuntimesLoop(world),
            ResyncLoop(world),
            DevicesLoop(world),
            VolumesLoop(world, Volumes(here.settings, here.clock, here.runtimes)),
            LimitsLoop(world, here.settings.limits, traffic),
            IngressLoop(
                world,
                gateway.table,
                here.settings.kubernetes,
                gateway.addresses,
                Origin(here.row.installation_id, CarrierKey.of_installation(here.box)),
                failures,
            ),
        ],
        database=here.database,
        board=here.board,
        metrics=here.metrics,
        clock=here.clock,
        on_failure=failures,
    )


async def _started(here: Installation, parts: ApiParts) -> Started:
    link = await Machine(parts).sign_in_link()
    async with here.database.write() as session:
        key = await here.accounts.keys.make_machine_key(session, here.first_administrator)
    return Started(
        parts.addresses, here.settings.port, link.url, key.key.reveal(), here.reports, here.runtimes.unopened
    )


def _machine_config(
    parts: ApiParts, end_all: EndAll, gateway: Gateway, here: Installation, traffic: Traffic
) -> uvicorn.Config:
    """Return how the 0600 socket is served: what a gateway alone asks, and what the machine's commands ask."""
    internal = InternalApp(
        here.row.installation_id, parts.addresses, gateway.table, _doorkeeper(here, parts.addresses), traffic
    )
    machine = build_machine_app(parts, end_all)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        chosen: Any = internal if scope.get("path", "").startswith("/internal/") else machine
        await chosen(scope, receive, send)

    return uvicorn.Config(app, lifespan="off", access_log=False, log_config=None, timeout_graceful_shutdown=2)
