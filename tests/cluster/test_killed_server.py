"""The server is killed at random moments of 50 launches and of their ends: each wish holds, exactly once.

The cluster has room for less than half of them at a time, so the others wait in line, and move up over kills too.
For a while there is no scheduler, so that Pods are pending, have no node and no address, and nobody knows more of them
than that they are there. That is where a hub that asks Pods for their address loses or doubles them.
"""

import random
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import pytest
import pytest_asyncio

from support.cluster_orders import needs_throwaway, order
from support.cluster_server import QUICK, cluster, isolates, server_on, small_type
from support.cluster_wishes import (
    SLEEPER,
    PodsMade,
    await_clean,
    await_wishes,
    namespace_of_admin,
    objects_in,
    pods_made,
    pods_of,
)
from support.seeds import SEED
from support.servers import Server, wait_for

pytestmark = [needs_throwaway, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

LAUNCHES, KILLS_WITHOUT_ADDRESSES = 50, 5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[PodsMade]:
    with pods_made() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    quick = QUICK | {"reconcile__lease_seconds": "10"}
    data_dir = tmp_path_factory.mktemp("killed") / "data"
    async with server_on(data_dir, cluster(cpu_overcommit=50), **quick) as server:
        small_type(server)
        isolates(server)
        yield server


def _kill_and_start(server: Server) -> None:
    server.kill()
    server.start()


def _with(server: Server, status: str) -> list[dict[str, Any]]:
    return [pod for pod in pods_of(server).values() if pod["status"] == status]


async def test_fifty_launches_and_their_ends_survive_kills_at_any_moment(server: Server, made: PodsMade):
    random_ = random.Random(SEED)
    names = [f"p{number:02}" for number in range(LAUNCHES)]
    rest = iter(names)
    with ExitStack() as stack:
        order("stop", "kube-scheduler")
        stack.callback(order, "start", "kube-scheduler")
        for _ in range(KILLS_WITHOUT_ADDRESSES):
            for name in islice(rest, LAUNCHES // KILLS_WITHOUT_ADDRESSES):
                server.create(name, **SLEEPER)
            time.sleep(random_.uniform(0, 1.5))  # the moment of the kill is the test's random input
            _kill_and_start(server)
        namespace = namespace_of_admin(server)
        ids = {name: pod["id"] for name, pod in pods_of(server).items()}

        def waiting() -> int:
            """How many wait, once nobody's turn is undecided: who does not wait in line has its Pod."""
            number = len(_with(server, "waiting"))
            return number if number + len(objects_in(namespace, "pods")) == LAUNCHES else 0

        opened = LAUNCHES - wait_for(waiting, "the cluster to be full, and a Pod for each that has room", 120)
        _kill_and_start(server)
        pending = objects_in(namespace, "pods")

    ran: set[str] = set()
    while len(ran) < LAUNCHES:
        running = wait_for(lambda: _with(server, "running"), "pods to run", 90)
        ran |= {pod["name"] for pod in running}
        assert {pod["incarnation"]["number"] for pod in running} == {1}
        for pod in running:
            server.api.delete(f"/pods/{pod['id']}").raise_for_status()
        time.sleep(random_.uniform(0, 1.5))
        _kill_and_start(server)
    await_wishes(server, {}, 120)
    await_clean(server, namespace)

    assert set(ids) == ran == set(names)
    assert {one["status"]["phase"] for one in pending} == {"Pending"}
    assert not any(one["status"].get("podIP") or one["spec"].get("nodeName") for one in pending)
    assert len(pending) == opened
    assert {name: made.of(pod_id) for name, pod_id in ids.items()} == {name: {1: 1} for name in names}


async def test_stops_restarts_and_deletes_survive_them_too(server: Server, made: PodsMade):
    random_ = random.Random(SEED + 1)
    names = [f"q{number:02}" for number in range(12)]
    wanted = dict.fromkeys(names, "running")
    for name in names:
        server.create(name, **SLEEPER)
    await_wishes(server, wanted)
    for name in random_.choices(names, k=16):
        verb = random_.choice(["stop", "start", "restart", "delete"])
        if wanted[name] == "gone":
            continue
        if verb == "delete":
            server.api.delete(f"/pods/{name}").raise_for_status()
        else:
            server.verb(name, verb)
        wanted[name] = {"stop": "stopped", "delete": "gone"}.get(verb, "running")
        if random_.random() < 0.4:
            time.sleep(random_.uniform(0, 1))
            _kill_and_start(server)

    pods = await_wishes(server, wanted, 120)
    await_clean(server, namespace_of_admin(server))

    assert not made.doubled()
    for pod in pods.values():
        server.api.delete(f"/pods/{pod['id']}").raise_for_status()
    _kill_and_start(server)
    await_wishes(server, {}, 120)
    await_clean(server, namespace_of_admin(server))
