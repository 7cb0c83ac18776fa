"""A list-and-watch on a real cluster as the server's account, over a restart of its API server."""

import asyncio
import json
import os
import socket

import pytest

from neuropod.kit.clock import SystemClock
from neuropod.kube.errors import ForbiddenError, KubeUnavailableError
from neuropod.kube.informer import Informer
from neuropod.kube.kinds import SERVICES
from neuropod.kube.shapes import Metadata, Shape
from support.cluster_account import account_client
from support.cluster_namespace import users_namespace

SOCKET = os.environ.get("NEUROPOD_CLUSTER_SOCKET")


class ServiceShape(Shape, frozen=True):
    metadata: Metadata


def order(*words: str) -> None:
    """Send an order to the supervisor of our own cluster (tools/cluster/orders.py)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET)
        connection.sendall(json.dumps(words).encode() + b"\n")
        with connection.makefile("rb") as stream:
            answer = json.loads(stream.readline())
    assert "error" not in answer, answer


@pytest.fixture
async def kube():
    async with account_client() as made:
        yield made


@pytest.fixture
async def namespace():
    async with users_namespace() as name:
        yield name


class Watched:
    def __init__(self, kube, namespace):
        self.told = []
        self.fresh = []
        self.informer = Informer(
            kube, SERVICES, ServiceShape, clock=SystemClock(), namespace=namespace, on_change=self._on_change
        )

    def _on_change(self, key, before, now):
        self.told.append((key[1], before is not None, now is not None))

    async def until(self, condition):
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def watched(kube, namespace):
    watched = Watched(kube, namespace)
    task = asyncio.create_task(watched.informer.run())
    await watched.informer.synced(30)
    yield watched
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def service(namespace, name, **labels):
    """The smallest object of a kind that the server watches and writes."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
    }


async def test_each_change_is_told(kube, namespace, watched):
    await kube.apply(service(namespace, "a"))
    await kube.apply(service(namespace, "a", x="1"))
    await kube.delete(SERVICES, "a", namespace)
    await watched.until(lambda: ("a", True, False) in watched.told)

    assert [change for change in watched.told if change[0] == "a"] == [
        ("a", False, True),
        ("a", True, True),
        ("a", True, False),
    ]


async def test_a_watch_from_before_what_the_server_remembers_is_begun_anew(kube, namespace, watched):
    await kube.apply(service(namespace, "a"))
    await watched.until(lambda: (namespace, "a") in watched.informer.items)

    old = Watched(kube, namespace)
    old.informer._version = "1"
    task = asyncio.create_task(old.informer.run())
    await old.until(lambda: (namespace, "a") in old.informer.items and old.informer.fresh)
    task.cancel()

    assert old.informer._version != "1"


@pytest.mark.skipif(not SOCKET, reason="needs the API server of our own cluster, to kill it")
async def test_nothing_is_lost_over_a_killed_api_server(kube, namespace, watched):
    for name in ("stays", "goes"):
        await kube.apply(service(namespace, name))
    await watched.until(lambda: (namespace, "goes") in watched.informer.items)

    await asyncio.to_thread(order, "kill", "kube-apiserver")
    await watched.until(lambda: not watched.informer.fresh)
    assert watched.informer.problem
    with pytest.raises(KubeUnavailableError):
        await kube.list(SERVICES, namespace)
    await asyncio.to_thread(order, "start", "kube-apiserver")
    async with asyncio.timeout(60):
        while True:  # the API server of a moment ago may still be warming up
            try:
                await kube.delete(SERVICES, "goes", namespace)
                await kube.apply(service(namespace, "comes"))
                break
            except (KubeUnavailableError, ForbiddenError):  # it reads who may do what a moment after it is there
                await asyncio.sleep(0.2)
    await watched.until(lambda: watched.informer.fresh and (namespace, "comes") in watched.informer.items)

    assert {(namespace, "stays"), (namespace, "comes")} <= watched.informer.items.keys()
    assert (namespace, "goes") not in watched.informer.items
    assert [change for change in watched.told if change[0] == "goes"] == [("goes", False, True), ("goes", True, False)]
    assert [change for change in watched.told if change[0] == "stays"] == [("stays", False, True)]
