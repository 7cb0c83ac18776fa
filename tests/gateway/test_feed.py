"""Routes from the database to the table, and from one process to another."""

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from sqlalchemy import delete
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from neuropod.db.engine import Database, Topic
from neuropod.db.events import record_event
from neuropod.gateway import feed
from neuropod.gateway.app import Gateway, serving_config
from neuropod.gateway.feed import DatabaseFeed
from neuropod.gateway.gate import Credential
from neuropod.gateway.internal import InternalApp
from neuropod.gateway.remote import RemoteDoorkeeper, ServerSocket, SocketFeed
from neuropod.gateway.routes import Route, change_between
from neuropod.gateway.table import RouteTable
from neuropod.ids import InstallationId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id
from neuropod.kit.secrets import SecretBox
from neuropod.pods.news import NewsReader
from neuropod.pods.records import IncarnationRow, PortRow
from neuropod.pods.service import Pods
from neuropod.runtimes.contract import Phase
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import Settings
from neuropod.words import Access, Reason, Status, Want
from support.gateway import RUNTIME, Recorder, answering, parse, serving, until
from support.rows import NOW, pod_row, user_row

INSTALLATION = InstallationId("npd_test")


def _pods(runtimes=("fake:one",)):
    return Pods(
        Settings(),
        SecretBox(SecretBox.new_key()),
        SystemClock(),
        Runtimes.of(dict.fromkeys(runtimes, object())),
        INSTALLATION,
    )


async def _ready_pod(database, *, told=False, **values):
    """Write a pod with a ready incarnation and two ports (`told`: with its event), and return its rows."""
    owner = user_row()
    pod = pod_row(owner, **values)
    incarnation = IncarnationRow(
        id=new_id("inc"), pod_id=pod.id, number=3, run_revision=1, price_micros_per_hour=0, opened_at=NOW,
        phase=Phase.READY, reason=Reason.READY, started_at=NOW, ready_at=NOW,
    )  # fmt: skip
    async with database.write() as session:
        session.add(owner)
        await session.flush()
        session.add(pod)
        await session.flush()
        session.add(incarnation)
        for port, access in ((8888, Access.PRIVATE), (3000, Access.PUBLIC)):
            session.add(PortRow(id=new_id("prt"), pod_id=pod.id, port=port, name="x", access=access))
        session.nudge(Topic.ROUTES)
        if told:
            await session.flush()
            await record_event(session, "pod.launched", "launched", at=NOW, owner_id=owner.id, pod_id=pod.id)
    return owner, pod, incarnation


def _feed(table, database, pods=None):
    pods = pods or _pods()
    news = NewsReader(database, pods, SystemClock())
    return DatabaseFeed(table, database, news, pods, SystemClock())


@asynccontextmanager
async def _following(feed):
    tasks = [asyncio.create_task(one.run()) for one in (feed, feed._news)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_every_port_of_a_ready_pod_has_a_route(database):
    table = RouteTable()
    owner, pod, _ = await _ready_pod(database)

    await _feed(table, database).load()

    host = f"lab-{owner.hash}-8888.neuropod-pods.localhost"
    assert table.get(host) == Route(
        host, pod.id, "lab", owner.id, "fake:one", 3, 8888, Access.PRIVATE, Status.RUNNING, Reason.READY, "Running."
    )
    assert table.get(host.replace("8888", "3000")).access is Access.PUBLIC
    assert len(table.routes) == 2


async def test_a_pod_whose_incarnation_has_ended_keeps_its_routes_and_takes_no_requests(database):
    table = RouteTable()
    _, _, incarnation = await _ready_pod(database, want=Want.STOPPED)
    async with database.write() as session:
        (await session.get(IncarnationRow, incarnation.id)).ended_at = NOW

    await _feed(table, database).load()

    assert [(route.incarnation, route.status) for route in table.routes.values()] == [(None, Status.STOPPED)] * 2


async def test_a_commit_that_nudges_is_served_at_once(database):
    table = RouteTable()
    async with _following(_feed(table, database)):
        await until(lambda: table.loaded, "the first load")
        assert table.routes == {}

        _, pod, _ = await _ready_pod(database)
        await until(lambda: table.routes, "the route")  # within ten seconds; unasked it would be a minute

        async with database.write() as session:
            (await session.get(type(pod), pod.id)).closed_at = NOW
            session.nudge(Topic.ROUTES)
        await until(lambda: not table.routes, "the route to go")


class Counting:
    """Pods, and what was asked of them; None: all."""

    def __init__(self):
        self.pods, self.asked = _pods(), []

    async def views_for_routes(self, session, pod_ids=None):
        self.asked.append(pod_ids)
        return await self.pods.views_for_routes(session, pod_ids)


async def test_what_happened_to_a_pod_is_served_before_all_are_read_again(database, monkeypatch):
    monkeypatch.setattr(feed, "_TOLD_SECONDS", 2.0)
    table, pods = RouteTable(), Counting()
    await _ready_pod(database)
    async with _following(_feed(table, database, pods)):
        await until(lambda: table.loaded, "the first load")
        _, pod, _ = await _ready_pod(database, told=True)
        await until(lambda: len(table.routes) == 4, "the second pod's routes")
        assert pods.asked == [None, [pod.id]]
        await until(lambda: pods.asked[2:] == [None], "all to be read once more")


async def test_what_goes_with_an_event_is_served_no_more_before_all_are_read_again(database):
    table, pods = RouteTable(), Counting()
    owner, pod, _ = await _ready_pod(database)
    async with _following(_feed(table, database, pods)):
        await until(lambda: len(table.routes) == 2, "the first load")
        for left in (1, 0):
            async with database.write() as session:
                if left:
                    await session.execute(delete(PortRow).where(PortRow.pod_id == pod.id, PortRow.port == 3000))
                else:
                    (await session.get(type(pod), pod.id)).closed_at = NOW
                session.nudge(Topic.ROUTES)
                await session.flush()
                await record_event(session, "pod.edited", "edited", at=NOW, owner_id=owner.id, pod_id=pod.id)
            await until(lambda left=left: len(table.routes) == left, "the routes to go")
        assert pods.asked == [None, [pod.id], [pod.id]]


async def test_a_database_that_does_not_answer_leaves_the_routes_as_they_are(sqlite_url):
    class Broken:
        fail = False

        async def views_for_routes(self, *_):
            if self.fail:
                raise OSError("no database")
            return []

    database, pods, table = Database(sqlite_url), Broken(), RouteTable()
    async with _following(_feed(table, database, pods)):
        await until(lambda: table.loaded, "the first load")
        pods.fail = True
        async with database.write() as session:
            session.nudge(Topic.ROUTES)
        await asyncio.sleep(0.1)
        assert table.loaded
    await database.aclose()


def test_a_change_holds_what_is_new_different_or_gone():
    def route(host, **values):
        facts = {
            "pod_id": "pod_1", "pod_name": "lab", "owner_id": "usr_1", "runtime_id": "fake:one", "incarnation": 1, "port": 1,
            "access": Access.PRIVATE, "status": Status.RUNNING, "reason": Reason.READY, "message": "",
        }  # fmt: skip
        return Route(host=host, **(facts | values))

    served = {"same": route("same"), "old": route("old"), "moved": route("moved")}
    wanted = {"same": route("same"), "moved": route("moved", incarnation=2), "new": route("new")}

    change = change_between(served, wanted)

    assert [r.host for r in change.set] == ["moved", "new"]
    assert change.gone == ("old",)
    assert not change_between(wanted, wanted)
    assert Route.from_json(route("new").to_json()) == route("new")


# ---- a gateway of its own


@asynccontextmanager
async def _internal(served, path: Path):
    """Serve what a server tells, on its Unix socket."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        app = InternalApp(INSTALLATION, served.gateway.addresses, served.gateway.table, served.doorkeeper)
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=0)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))
        await until(lambda: server.started, "the socket")
        try:
            yield
        finally:
            server.should_exit = True
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await task


@asynccontextmanager
async def _gateway_alone(served, path: Path):
    """Run a gateway that knows only the socket; it reaches pods through the same runtime, other hosts at the server."""
    server_socket = ServerSocket(path)
    hello = await server_socket.hello()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        gateway = Gateway(
            Settings(), hello.addresses, hello.installation, {RUNTIME: served.runtime}, RemoteDoorkeeper(server_socket),
            SystemClock(), server_address=("127.0.0.1", served.port),
        )  # fmt: skip
        feed = SocketFeed(gateway.table, server_socket, SystemClock())
        server = uvicorn.Server(serving_config(None, gateway, Settings()))
        tasks = [asyncio.create_task(job) for job in (server._serve([listener]), feed.run(), gateway.run())]
        try:
            await until(lambda: server.started and gateway.table.loaded, "the gateway")
            yield gateway, listener.getsockname()[1]
        finally:
            gateway.end()
            server.should_exit = True
            await tasks[0]
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks[1:], return_exceptions=True)
            await server_socket.aclose()


async def _ask(port, served, route, *headers, key="key-of-the-owner"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(served.head(route, "GET / HTTP/1.1", *headers, "Connection: close", key=key))
    answer = parse(await reader.read())
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_gateway_alone_is_told_how_carriers_are_known(tmp_path):
    async with serving() as served, _internal(served, tmp_path / "sock"):
        server_socket = ServerSocket(tmp_path / "sock")

        hello = await server_socket.hello()
        await server_socket.aclose()

        assert hello.installation == INSTALLATION
        assert hello.carrier_key.key == served.doorkeeper.carrier_key.key


async def test_a_gateway_of_its_own_serves_what_the_server_serves_and_asks_it_who_may_pass(tmp_path):
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"hello"))
        stranger = served.key("another-key", user_id="usr_other")
        async with _internal(served, tmp_path / "s"), _gateway_alone(served, tmp_path / "s") as (gateway, port):
            assert (await _ask(port, served, route)).content == b"hello"
            assert (await _ask(port, served, route, key=stranger)).status == 403
            assert (await _ask(port, served, route, key=None)).status == 401
            hop = await _ask(port, served, route, "Accept: text/html", key=None)
            assert hop.status == 303

            late = await served.pod(answering(b"late"), "late")
            await until(lambda: gateway.table.get(late.host), "the new route")
            assert (await _ask(port, served, late)).content == b"late"
            served.withdraw(late)
            await until(lambda: not gateway.table.get(late.host), "the route to go")
            assert (await _ask(port, served, late)).status == 404


async def test_a_gateway_of_its_own_carries_other_hosts_to_the_server_as_they_are(tmp_path):
    async with serving() as served:
        async with _internal(served, tmp_path / "s"), _gateway_alone(served, tmp_path / "s") as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"POST /api/v1/x?y=z HTTP/1.1\r\nHost: app.neuropod.localhost\r\nCookie: __Host-neuropod-session=s\r\n"
                b"Connection: close\r\nContent-Length: 4\r\n\r\nbody"
            )
            answer = parse(await reader.read())
            writer.close()
            await writer.wait_closed()
            url = f"ws://app.neuropod.localhost:{port}/"
            async with connect(url, host="127.0.0.1", port=port, proxy=None) as connection:
                greeting = await connection.recv()

        (request,) = served.asgi_requests
        assert answer.status == 200
        assert answer["cache-control"] is None
        assert request["path"] == "/api/v1/x"
        assert request["body"] == b"body"
        assert dict(request["headers"])[b"cookie"] == b"__Host-neuropod-session=s"
        assert greeting == "hello from the console"


async def test_while_the_server_is_away_streams_and_known_visitors_go_on_and_nobody_new_gets_in(tmp_path):
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"hello"))

        async def echo(connection):
            async for message in connection:
                await connection.send(message)

        sockets = await serve(echo, "127.0.0.1", 0)
        chat = served.route_to(sockets.sockets[0].getsockname(), "chat")
        path = tmp_path / "s"
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(sockets)
            server = contextlib.AsyncExitStack()
            await server.enter_async_context(_internal(served, path))
            gateway, port = await stack.enter_async_context(_gateway_alone(served, path))
            assert (await _ask(port, served, route)).status == 200
            open_socket = await stack.enter_async_context(
                connect(
                    f"ws://{chat.host}:{port}/",
                    host="127.0.0.1",
                    port=port,
                    proxy=None,
                    additional_headers={"X-Neuropod-Key": "key-of-the-owner"},
                )
            )

            await server.aclose()
            gateway.gate.doubt()
            await gateway.streams.cut_revoked()

            await open_socket.send("still there")
            assert await open_socket.recv() == "still there"
            assert (await _ask(port, served, route)).status == 200
            served.key("new-key")
            assert (await _ask(port, served, route, key="new-key")).status == 503

            late = await served.pod(answering(b"late"), "late")
            async with _internal(served, path):
                await until(lambda: gateway.table.get(late.host), "the feed to follow again")
                assert (await _ask(port, served, late, key="new-key")).content == b"late"
                await open_socket.send("and still")
                assert await open_socket.recv() == "and still"


async def test_until_the_routes_are_known_hosts_are_a_503_and_not_a_404():
    async with serving() as served:
        served.gateway.table.loaded = False
        head = b"GET / HTTP/1.1\r\nHost: lab-aaaaaaaa-1.neuropod-pods.localhost\r\nConnection: close\r\n\r\n"

        before = parse(await served.raw(head))
        served.gateway.table.replace({})
        after = parse(await served.raw(head))

        assert (before.status, after.status) == (503, 404)


async def test_a_pass_is_known_across_processes_with_its_end(tmp_path):
    async with serving() as served:
        route = await served.pod(Recorder())
        value = served.signed_in(route).partition("=")[2]
        credential = Credential(pass_value=value, host=route.host)
        async with _internal(served, tmp_path / "s"):
            server = ServerSocket(tmp_path / "s")

            assert await RemoteDoorkeeper(server).identify(credential) == await served.doorkeeper.identify(credential)
            assert await RemoteDoorkeeper(server).identify(Credential(pass_value="forged", host=route.host)) is None
            await server.aclose()
