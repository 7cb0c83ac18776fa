"""What stands on the cluster against what a server's rows say: the wishes hold when both are the same.

`PodsMade` follows every Pod of the tests' cluster as its administrator, in a thread of its own, so that a second one for
the same incarnation is found however short it was there. What is there at the end is asked of kubectl.
"""

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from neuropod.kit.clock import SystemClock
from neuropod.kube.informer import Informer, Key
from neuropod.kube.kinds import PODS
from neuropod.runtimes.kubernetes.shapes import PodShape
from support.cluster_account import admin_client
from support.cluster_pods import BUSYBOX
from support.kubectl import kubectl
from support.servers import Server, wait_for

POD, INCARNATION = "neuropod.io/pod", "neuropod.io/incarnation"
# A pod of these is ready at once, ends at once when it is told to, and needs next to nothing.
SLEEPER: dict[str, Any] = {
    "image": BUSYBOX,
    "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"],
    "env": {"TOLD": "by its Secret"},
    "gpu_type": "cpu",
    "container_disk_gb": 1,
    "volume": None,
}


class PodsMade:
    """The UIDs of Pods that were ever there, by pod and number of the incarnation; use `pods_made`."""

    def __init__(self) -> None:
        self.uids: defaultdict[tuple[str, int], set[str]] = defaultdict(set)

    def changed(self, _: Key, __: PodShape | None, now: PodShape | None) -> None:
        if now is not None:
            labels = now.metadata.labels
            self.uids[labels[POD], int(labels[INCARNATION])].add(now.metadata.uid)

    def of(self, pod_id: str) -> dict[int, int]:
        """Return how many Pods there were for each incarnation of a pod."""
        return {number: len(uids) for (pod, number), uids in self.uids.items() if pod == pod_id}

    def doubled(self) -> dict[tuple[str, int], set[str]]:
        """Return the incarnations for which more than one Pod was made."""
        return {run: uids for run, uids in self.uids.items() if len(uids) > 1}


@contextmanager
def pods_made() -> Iterator[PodsMade]:
    """Follow the cluster's Pods of pods."""
    made = PodsMade()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def follow() -> None:
        async with admin_client() as client:
            await Informer(client, PODS, PodShape, clock=SystemClock(), labels=POD, on_change=made.changed).run()

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(follow())

    async def end(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait([task])

    following = asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(end(following), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def namespace_of_admin(server: Server) -> str:
    """Return the namespace of the only user of a test's server."""
    (user,) = server.api.get("/users").json()["items"]
    return f"neuropod-{user['hash']}"


def objects_in(namespace: str, kind: str, selector: str = "neuropod.io/pod") -> list[dict[str, Any]]:
    """Return the objects of pods in a namespace, as they are now."""
    text = kubectl("-n", namespace, "get", kind, "-l", selector, "-o", "json")
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return found


def pods_of(server: Server) -> dict[str, dict[str, Any]]:
    """Return all pods by name, as the API shows them."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        params = {"limit": 100} | ({"cursor": cursor} if cursor else {})
        page = server.api.get("/pods", params=params).json()
        found += page["items"]
        cursor = page.get("next_cursor")
        if not cursor:
            return {pod["name"]: pod for pod in found}


def await_wishes(server: Server, wanted: dict[str, str], seconds: float = 120) -> dict[str, dict[str, Any]]:
    """Wait until each pod is as wanted (`running`, `stopped`, `gone`); return those that are not gone."""
    standing = {name: want for name, want in wanted.items() if want != "gone"}

    def off() -> dict[str, Any]:
        pods = pods_of(server)
        shown = {name: pod["status"] for name, pod in pods.items()}
        return {
            name: (want, shown.get(name, "gone"), pods.get(name, {}).get("reason"))
            for name, want in {**dict.fromkeys(shown, "gone"), **standing}.items()
            if shown.get(name, "gone") != want
        }

    try:
        wait_for(lambda: not off(), "the wishes to hold", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {off()}\n{server.log.read_text()[-3000:]}") from error
    return pods_of(server)


def await_clean(server: Server, namespace: str, seconds: float = 60) -> None:
    """Wait until exactly one Pod stands for each pod that runs, each with its one Secret, and nothing else does."""
    running = {
        (pod["id"], str(pod["incarnation"]["number"])) for pod in pods_of(server).values() if pod["status"] == "running"
    }

    def there(kind: str) -> list[tuple[str, str]]:
        labels = [one["metadata"]["labels"] for one in objects_in(namespace, kind)]
        return sorted((one[POD], one.get(INCARNATION, "")) for one in labels)

    def differing() -> dict[str, Any]:
        kinds = {kind: there(kind) for kind in ("pods", "secrets")}
        found: dict[str, Any] = {kind: told for kind, told in kinds.items() if told != sorted(running)}
        services = {pod for pod, _ in there("services")} - {pod["id"] for pod in pods_of(server).values()}
        return found | ({"services": services} if services else {})

    try:
        wait_for(lambda: not differing(), "only what is wanted to be there", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {differing()}, running {sorted(running)}") from error
