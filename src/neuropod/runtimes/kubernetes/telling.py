"""The events about Pods and claims that do not start: asked for when something is to be explained, never watched.

Called by `standing`. An API server finds the events of one object by reading all of its namespace, so all are taken at
once, and serve whoever else waits there in the next moment: in a burst everybody asks.
"""

import asyncio
from collections.abc import Sequence
from weakref import WeakValueDictionary

from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import EVENTS
from neuropod.runtimes.kubernetes.shapes import EventShape

_SECONDS = 2.0
_NAMESPACES = 100


class Events:
    """The events of users' namespaces."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._listed: dict[str, tuple[float, list[EventShape]]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def of_pod(self, namespace: str, uid: str) -> Sequence[EventShape]:
        """Return what was told of a Pod. Raises what the client raises."""
        return [one for one in await self._all(namespace) if one.involved_object.uid == uid]

    async def of_claim(self, namespace: str, name: str) -> Sequence[EventShape]:
        """Return what was told of a claim. Raises what the client raises."""
        return [
            one
            for one in await self._all(namespace)
            if one.involved_object.kind == "PersistentVolumeClaim" and one.involved_object.name == name
        ]

    async def _all(self, namespace: str) -> list[EventShape]:
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            at, listed = self._listed.get(namespace, (float("-inf"), []))
            if self._clock.monotonic() - at > _SECONDS:
                listed, _ = await self._client.list_at(EventShape, EVENTS, namespace)
                self._listed.pop(namespace, None)
                self._listed[namespace] = self._clock.monotonic(), listed
                if len(self._listed) > _NAMESPACES:
                    del self._listed[next(iter(self._listed))]
            return listed
