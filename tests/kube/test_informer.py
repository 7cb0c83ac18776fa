"""A list-and-watch that loses nothing, whatever happens to the watch, and says when it does not know."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from neuropod.kit.clock import SystemClock
from neuropod.kube.errors import KubeUnavailableError
from neuropod.kube.informer import Informer
from neuropod.kube.kinds import PODS
from neuropod.kube.shapes import Metadata, Shape
from support.kube import Answer, status

HERE = "/api/v1/namespaces/here/pods/"


class Spec(Shape, frozen=True):
    node_name: str = ""


class PodShape(Shape, frozen=True):
    metadata: Metadata
    spec: Spec = Spec()


class Watched:
    """An informer that runs, and what it told."""

    def __init__(self, client, **options):
        self.told = []
        self.changed = asyncio.Event()
        self.informer = Informer(client, PODS, PodShape, clock=SystemClock(), on_change=self._on_change, **options)

    def _on_change(self, key, before, now):
        assert key == ((now or before).metadata.namespace, (now or before).metadata.name)
        assert self.informer.items.get(key) is now
        self.told.append((key[1], before and before.spec.node_name, now and now.spec.node_name))
        self.changed.set()

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def until_fresh(self, fresh):
        async with asyncio.timeout(20):
            while self.informer.fresh is not fresh:
                await asyncio.sleep(0.005)

    @property
    def names(self):
        return {name for _, name in self.informer.items}


@asynccontextmanager
async def watching(client, **options):
    watched = Watched(client, **options)
    task = asyncio.create_task(watched.informer.run())
    try:
        await watched.informer.synced(20)
        yield watched
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def spec(node):
    return {"spec": {"nodeName": node, "containers": [{"name": "not looked at"}]}}


async def test_what_is_there_is_known_and_each_change_is_told(api, client):
    await api.put(HERE + "one", spec("a"))

    async with watching(client) as watched:
        await api.put(HERE + "one", spec("b"))
        await api.put(HERE + "two", spec("c"))
        await api.remove(HERE + "one")
        await watched.until(lambda: watched.names == {"two"})

    assert watched.told == [("one", None, "a"), ("one", "a", "b"), ("two", None, "c"), ("one", "b", None)]


async def test_it_asks_for_one_namespace_labels_and_bookmarks(api, client):
    async with watching(client, namespace="here", labels="neuropod.io/installation=i"):
        pass

    listed, watch = api.requests[:2]
    assert listed.path == watch.path == "/api/v1/namespaces/here/pods"
    assert listed.param("labelSelector") == watch.param("labelSelector") == "neuropod.io/installation=i"
    assert watch.param("allowWatchBookmarks") == "true"
    assert watch.param("resourceVersion") == "100"
    assert 240 <= int(watch.param("timeoutSeconds")) <= 360


async def test_a_watch_that_ends_as_agreed_goes_on_where_it_was_and_stays_fresh(api, client):
    async with watching(client) as watched:
        await api.put(HERE + "one", spec("a"))
        await watched.until(lambda: watched.names == {"one"})
        seen = []
        watched.informer._on_change = lambda *change: seen.append(watched.informer.fresh)
        await api.tell_watches("end")
        await api.put(HERE + "two", spec("b"))
        async with asyncio.timeout(20):
            while not seen:
                await asyncio.sleep(0.005)

        assert seen == [True]
        assert watched.informer.fresh

    watches = [request for request in api.requests if request.param("watch")]
    assert [request.param("resourceVersion") for request in watches] == ["100", "101"]
    assert len([request for request in api.requests if not request.param("watch")]) == 1


async def test_a_bookmark_moves_on_where_the_next_watch_begins(api, client):
    async with watching(client):
        await api.put("/api/v1/namespaces/here/services/other", {})
        await api.tell_watches("bookmark")
        await api.tell_watches("end")
        async with asyncio.timeout(20):
            while len([request for request in api.requests if request.param("watch")]) < 2:
                await asyncio.sleep(0.005)

    assert api.requests[-1].param("resourceVersion") == "101"


async def test_a_cut_watch_is_not_fresh_until_all_was_read_again_and_loses_nothing(api, client):
    for name in ("stays", "changes", "goes", "replaced"):
        await api.put(HERE + name, spec("a"))
    blocked = asyncio.Event()

    async def later(request):
        if request.param("watch") is None and len(api.requests) > 2:
            await blocked.wait()

    api.faults.append(later)
    async with watching(client) as watched:
        watched.told.clear()
        await api.tell_watches("cut")
        await watched.until_fresh(False)
        assert "cut" in watched.informer.problem
        await api.put(HERE + "changes", spec("b"))
        await api.remove(HERE + "goes")
        await api.remove(HERE + "replaced")
        await api.put(HERE + "replaced", spec("new"))
        await api.put(HERE + "comes", spec("c"))
        assert watched.told == []
        assert watched.names == {"stays", "changes", "goes", "replaced"}
        blocked.set()
        await watched.until_fresh(True)

        assert watched.names == {"stays", "changes", "replaced", "comes"}
        assert watched.informer.problem == ""

    assert sorted(watched.told, key=lambda told: told[0]) == [
        ("changes", "a", "b"),
        ("comes", None, "c"),
        ("goes", "a", None),
        ("replaced", "a", None),
        ("replaced", None, "new"),
    ]


@pytest.mark.parametrize("how", ["event", "status"])
async def test_a_watch_from_too_long_ago_is_begun_anew_with_a_list(api, client, how):
    async with watching(client) as watched:
        await api.put(HERE + "one", spec("a"))
        await watched.until(lambda: watched.names == {"one"})
        api.objects.pop(HERE + "one")  # gone, and nobody was told: the history was compacted
        api.version += 10
        api.oldest = api.version
        await api.tell_watches("gone" if how == "event" else "end")
        await watched.until(lambda: not watched.names)
        await watched.until_fresh(True)


async def test_a_server_that_hangs_with_its_connection_alive_is_a_cut(api, client, monkeypatch):
    monkeypatch.setattr("neuropod.kube.informer._QUIET_SECONDS", 0.5)
    await api.put(HERE + "one", spec("a"))
    async with watching(client) as watched:
        await api.until_watching()
        await api.tell_watches("bookmark")
        api.objects.pop(HERE + "one")  # gone by another API server; this one never says so
        await watched.until_fresh(False)
        assert "silent" in watched.informer.problem
        await watched.until(lambda: not watched.names)


async def test_a_server_without_bookmarks_may_be_silent(api, client, monkeypatch):
    monkeypatch.setattr("neuropod.kube.informer._QUIET_SECONDS", 0.0)  # one that held would cut at once
    async with watching(client) as watched:
        await api.until_watching()
        await api.put(HERE + "one", spec("a"))
        await watched.until(lambda: watched.names)
        assert watched.informer.fresh
        assert len([request for request in api.requests if request.param("watch")]) == 1


async def test_an_error_on_the_watch_is_a_cut(api, client):
    async with watching(client) as watched:
        api.faults.append(lambda request: status(403, "Forbidden", "pods is forbidden"))
        await api.tell_watches("cut")
        async with asyncio.timeout(20):
            while "forbidden" not in watched.informer.problem:
                await asyncio.sleep(0.005)
        assert not watched.informer.fresh
        api.faults.clear()
        await watched.until_fresh(True)


async def test_a_server_that_was_away_is_watched_again(api, client, tmp_path):
    await api.put(HERE + "one", spec("a"))
    async with watching(client) as watched:
        await api.stop()
        await watched.until_fresh(False)
        await api.remove(HERE + "one")
        await api.put(HERE + "two", spec("b"))
        await api.start(tmp_path)
        await watched.until_fresh(True)

        assert watched.names == {"two"}


async def test_what_cannot_be_read_is_told_with_the_reason(api, client):
    api.faults.append(lambda request: status(403, "Forbidden", "pods is forbidden: no RBAC policy matched"))
    watched = Watched(client)
    task = asyncio.create_task(watched.informer.run())

    async with asyncio.timeout(20):
        while "forbidden" not in watched.informer.problem:
            await asyncio.sleep(0.005)
    with pytest.raises(KubeUnavailableError, match="pods cannot be watched: pods is forbidden: no RBAC policy matched"):
        await watched.informer.synced(0.5)

    api.faults.clear()
    await watched.informer.synced(20)
    task.cancel()


async def test_a_watch_that_tells_nonsense_is_read_anew(api, client):
    once = []

    async def nonsense(request, sender):
        if not once:
            once.append(1)
            await sender.send(b'{"type":"ADDED","object":{"metadata":{"name":5}}}\n')
            await asyncio.Event().wait()
        await api._watch(request, sender)

    def fault(request):
        api.streams = {"/api/v1/pods": nonsense} if request.param("watch") else {}

    api.faults.append(fault)
    await api.put(HERE + "one", spec("a"))
    async with watching(client) as watched:
        async with asyncio.timeout(20):
            while len(api.requests) < 4 or not watched.informer.fresh:
                await asyncio.sleep(0.005)
        assert watched.names == {"one"}


async def test_when_it_ends_it_knows_nothing_any_more(api, client):
    async with watching(client) as watched:
        assert watched.informer.fresh

    assert not watched.informer.fresh


async def test_events_that_are_cut_anywhere_are_put_together(api, client):
    await api.put(HERE + "one", spec("ä" * 100_000))
    async with watching(client) as watched:
        for number in range(200):
            await api.put(HERE + f"p{number}", spec("x" * number * 10))
        await watched.until(lambda: len(watched.names) == 201)

        assert watched.informer.items["here", "p199"].spec.node_name == "x" * 1990


async def test_a_list_that_is_not_understood_is_no_crash(api, client):
    api.fail_once(Answer(200, {"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {}}]}))

    async with watching(client) as watched:
        assert watched.names == set()
