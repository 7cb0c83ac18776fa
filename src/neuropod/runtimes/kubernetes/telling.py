"""The events about Pods and claims that do not start: asked for when something is to be explained, never watched.

Called by `standing`. An API server finds the events of one object by reading all of its namespace, so all are taken at
once, and serve whoever else waits there in the next moment: in a burst everybody asks.
"""

import asyncio
from collections.abc import Iterable, Sequence
from weakref import WeakValueDictionary

from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import EVENTS
from neuropod.runtimes.kubernetes.shapes import EventShape

_SECONDS = 2.0
_NAMESPACES = 100
# Steps of every start and end, most of what a namespace has for an hour; none of them explains why something waits.
_COMMON = ("Scheduled", "Started", "Killing")
_BUT_COMMON = ",".join(f"reason!={reason}" for reason in _COMMON)
_CLAIM = "PersistentVolumeClaim"


class _Told:
    """The events of a namespace, by what they are about."""

    def __init__(self, events: Iterable[EventShape], at: float) -> None:
        self.at = at
        self.by_uid: dict[str, list[EventShape]] = {}
        self.by_claim: dict[str, list[EventShape]] = {}
        for event in events:
            about = event.involved_object
            self.by_uid.setdefault(about.uid, []).append(event)
            if about.kind == _CLAIM:
                self.by_claim.setdefault(about.name, []).append(event)


class Events:
    """The events of users' namespaces, those aside that come with every start and end."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def of_pod(self, namespace: str, uid: str) -> Sequence[EventShape]:
        """Return what was told of a Pod. Raises what the client raises."""
        return (await self._all(namespace)).by_uid.get(uid, ())

    async def of_claim(self, namespace: str, name: str) -> Sequence[EventShape]:
        """Return what was told of a claim. Raises what the client raises."""
        return (await self._all(namespace)).by_claim.get(name, ())

    async def _all(self, namespace: str) -> _Told:
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            told = self._told.get(namespace)
            if told is None or self._clock.monotonic() - told.at > _SECONDS:
                listed, _ = await self._client.list_at(EventShape, EVENTS, namespace, fields=_BUT_COMMON)
                self._told.pop(namespace, None)
                told = self._told[namespace] = _Told(listed, self._clock.monotonic())
                if len(self._told) > _NAMESPACES:
                    del self._told[next(iter(self._told))]
            return told
