"""A list-and-watch on a real cluster, over a restart of its API server."""

import asyncio
import json
import os
import socket

import pytest

from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id
from neuropod.kube.errors import KubeUnavailableError
from neuropod.kube.informer import Informer
from neuropod.kube.kinds import CONFIG_MAPS, NAMESPACES
from neuropod.kube.shapes import Metadata, Shape
from support.cluster_kube import client

SOCKET = os.environ.get("NEUROPOD_CLUSTER_SOCKET")


class MapShape(Shape, frozen=True):
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
    async with client() as made:
        yield made


@pytest.fixture
async def namespace(kube):
    name = f"kube-{new_id('ns')[-10:].lower()}"
    await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    await kube.delete(NAMESPACES, name)


class Watched:
    def __init__(self, kube, namespace):
        self.told = []
        self.fresh = []
        self.informer = Informer(
            kube, CONFIG_MAPS, MapShape, clock=SystemClock(), namespace=namespace, on_change=self._on_change
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


def config_map(namespace, name, **labels):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
    }


async def test_each_change_is_told(kube, namespace, watched):
    await kube.apply(config_map(namespace, "a"))
    await kube.apply(config_map(namespace, "a", x="1"))
    await kube.delete(CONFIG_MAPS, "a", namespace)
    await watched.until(lambda: ("a", True, False) in watched.told)

    assert [change for change in watched.told if change[0] == "a"] == [
        ("a", False, True),
        ("a", True, True),
        ("a", True, False),
    ]


async def test_a_watch_from_before_what_the_server_remembers_is_begun_anew(kube, namespace, watched):
    await kube.apply(config_map(namespace, "a"))
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
        await kube.apply(config_map(namespace, name))
    await watched.until(lambda: (namespace, "goes") in watched.informer.items)

    await asyncio.to_thread(order, "kill", "kube-apiserver")
    await watched.until(lambda: not watched.informer.fresh)
    assert watched.informer.problem
    with pytest.raises(KubeUnavailableError):
        await kube.get(CONFIG_MAPS, "stays", namespace)
    await asyncio.to_thread(order, "start", "kube-apiserver")
    async with asyncio.timeout(60):
        while True:  # the API server of a moment ago may still be warming up
            try:
                await kube.delete(CONFIG_MAPS, "goes", namespace)
                await kube.apply(config_map(namespace, "comes"))
                break
            except KubeUnavailableError:
                await asyncio.sleep(0.2)
    await watched.until(lambda: watched.informer.fresh and (namespace, "comes") in watched.informer.items)

    assert {(namespace, "stays"), (namespace, "comes")} <= watched.informer.items.keys()
    assert (namespace, "goes") not in watched.informer.items
    assert [change for change in watched.told if change[0] == "goes"] == [("goes", False, True), ("goes", True, False)]
    assert [change for change in watched.told if change[0] == "stays"] == [("stays", False, True)]
