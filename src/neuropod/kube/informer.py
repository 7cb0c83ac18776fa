"""What is there of one kind, kept by a list and a watch: the memory that the runtime and the carriers look into.

Made by the runtime and the carriers, one per kind; server runs `run` as a task. What a change means is theirs.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
import structlog

from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import GoneError, KubeError, KubeUnavailableError, refusal
from neuropod.kube.kinds import Kind
from neuropod.kube.lines import LineStream
from neuropod.kube.shapes import Readable, Shape
from neuropod.kube.statuses import Status

Key: TypeAlias = tuple[str, str]  # namespace ("" for what has none), name
ShapeT = TypeVar("ShapeT", bound=Readable)
OnChange: TypeAlias = Callable[[Key, ShapeT | None, ShapeT | None], None]

# A watch ends by itself after a while, so that one that hangs unseen does not hang for ever; varied, so that not all
# are opened again at once. In that moment nothing is missed: the next goes on from the same resourceVersion.
_WATCH_SECONDS = 290
_WATCH_VARIES_SECONDS = 60
_AT_ONCE_SECONDS = 2.0  # so soon the next one has to stand, else the one before was cut after all
_SILENCE_SECONDS = 30.0  # how much later than asked for a watch may end
# A server that writes bookmarks does so every minute, and leaves one out at times. One that falls silent hangs, however
# alive its connection is: in a cluster with several API servers the world goes on without it.
_QUIET_SECONDS = 190.0
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 20.0
_LONGEST_EVENT = 16 * 1024 * 1024

log = structlog.get_logger(__name__)


class _Event(Shape, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class _Marked(Shape, frozen=True):
    resource_version: str = ""


class _Bookmark(Shape, frozen=True):
    """How far the watch has come, without news."""

    metadata: _Marked = _Marked()


_EVENTS = msgspec.json.Decoder(_Event)
_BOOKMARKS = msgspec.json.Decoder(_Bookmark)
_STATUSES = msgspec.json.Decoder(Status)


class Informer(Generic[ShapeT]):
    """One list-and-watch of one kind, decoded partially.

    `on_change(key, before, now)` is called for each difference as it is learnt, also for those that a cut watch missed;
    None is "not there". An object replaced under its name (another UID) is first gone, then there. It must not raise
    and not block. Nothing is lost over a cut: the kind is listed again and compared.
    """

    def __init__(
        self,
        client: KubeClient,
        kind: Kind,
        shape: type[ShapeT],
        *,
        clock: Clock,
        labels: str | None = None,
        namespace: str | None = None,
        on_change: OnChange[ShapeT] | None = None,
    ) -> None:
        self.kind = kind
        self._client = client
        self._shape = shape
        self._clock = clock
        self._labels = labels
        self._namespace = namespace
        self._on_change = on_change
        self._decoder: msgspec.json.Decoder[ShapeT] = msgspec.json.Decoder(shape)
        self._items: dict[Key, ShapeT] = {}
        self._shown = MappingProxyType(self._items)
        self._version = ""  # from which the next watch goes on; empty: all has to be listed first
        self._marked = False  # this watch has bookmarks
        self._fresh = asyncio.Event()
        self._heard_at = float("-inf")
        self._problem = "it was not read yet"

    @property
    def items(self) -> Mapping[Key, ShapeT]:
        """What is known, live: do not iterate over it across an await. While not `fresh` it may be old."""
        return self._shown

    @property
    def fresh(self) -> bool:
        """Whether a watch stands, so that `items` is the truth but for the network's latency.

        False from the moment the watch is cut until all was read again (SECURITY 3). A watch that ended as agreed and
        goes on at once was not cut.
        """
        return self._fresh.is_set()

    @property
    def silent_seconds(self) -> float:
        """How long ago anything was told: so old `items` is at most, since a watch tells of its kind in order."""
        return self._clock.monotonic() - self._heard_at

    @property
    def problem(self) -> str:
        """Why it is not fresh, as a sentence for people; empty while it is."""
        return "" if self.fresh else self._problem

    async def synced(self, timeout_seconds: float) -> None:
        """Return once it is fresh. Raises KubeUnavailableError with the problem after the time-out."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._fresh.wait()
        except TimeoutError:
            raise KubeUnavailableError(f"{self.kind.plural} cannot be watched: {self._problem}") from None

    async def run(self) -> None:
        """List and watch until cancelled."""
        failures = 0
        try:
            while True:
                try:
                    if not self._version:
                        await self._list()
                    await self._watch()
                    failures = 0
                except GoneError:
                    # The server forgot what came since (compaction, a restored etcd): list again, at once.
                    self._cut("the watch was too old")
                except (KubeError, KubeUnavailableError) as error:
                    stood = self.fresh
                    self._cut(str(error))
                    failures = 1 if stood else failures + 1
                    log.info("watch cut", kind=self.kind.plural, error=str(error), failures=failures)
                    await self._clock.sleep(_wait_seconds(failures))
        finally:
            self._cut("it is not watched any more")

    def _cut(self, problem: str) -> None:
        self._fresh.clear()
        self._problem = problem
        self._version = ""

    async def _list(self) -> None:
        asked_at = self._clock.monotonic()
        listed, version = await self._client.list_at(self._shape, self.kind, self._namespace, labels=self._labels)
        present = {_key(obj): obj for obj in listed}
        for key in [key for key in self._items if key not in present]:
            self._put(key, None)
        for key, obj in present.items():
            known = self._items.get(key)
            if known is None or known.metadata.resource_version != obj.metadata.resource_version:
                self._put(key, obj)
        self._version = version
        self._heard_at = asked_at

    async def _watch(self) -> None:
        """Watch until the server ends it, as it was asked to. Raises GoneError, KubeError, KubeUnavailableError."""
        seconds = _WATCH_SECONDS + random.randrange(_WATCH_VARIES_SECONDS)  # noqa: S311 - spread, not secret
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }
        if self._labels:
            params["labelSelector"] = self._labels
        try:
            async with asyncio.timeout(_AT_ONCE_SECONDS if self.fresh else None):
                stream = await self._client.open_lines(self.kind.path(self._namespace), params)
        except TimeoutError:
            raise KubeUnavailableError("the next watch did not begin at once") from None
        stream.allow(_LONGEST_EVENT)
        self._fresh.set()
        try:
            async with asyncio.timeout(seconds + _SILENCE_SECONDS):
                await self._follow(stream)
        except TimeoutError:
            raise KubeUnavailableError("the watch did not end when it should have") from None
        finally:
            stream.close()

    async def _follow(self, stream: LineStream) -> None:
        self._marked = False
        while True:
            try:
                async with asyncio.timeout(_QUIET_SECONDS if self._marked else None):
                    lines = await stream.read()
            except TimeoutError:
                raise KubeUnavailableError(f"the watch was silent for {_QUIET_SECONDS:.0f} s") from None
            if lines is None:
                return
            for line in lines:
                if line:
                    self._take(line)

    def _take(self, line: bytes) -> None:
        self._heard_at = self._clock.monotonic()
        try:
            event = _EVENTS.decode(line)
            if event.type == "BOOKMARK":
                self._marked = True
                self._version = _BOOKMARKS.decode(event.object).metadata.resource_version
                return
            if event.type == "ERROR":
                status = _STATUSES.decode(event.object)
                raise refusal(status.code, status.reason, status.message)
            obj = self._decoder.decode(event.object)
        except msgspec.DecodeError as error:
            raise KubeUnavailableError(f"the watch told what is no {self.kind.kind}: {error}") from None
        self._version = obj.metadata.resource_version
        self._put(_key(obj), None if event.type == "DELETED" else obj)

    def _put(self, key: Key, obj: ShapeT | None) -> None:
        known = self._items.get(key)
        if known is not None and obj is not None and known.metadata.uid != obj.metadata.uid:
            self._put(key, None)
            known = None
        if obj is not None:
            self._items[key] = obj
        elif known is not None:
            del self._items[key]
        else:
            return
        if self._on_change is not None:
            self._on_change(key, known, obj)


def _key(obj: Any) -> Key:
    return obj.metadata.namespace, obj.metadata.name


def _wait_seconds(failures: int) -> float:
    longest = min(_FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 10), _LONGEST_WAIT_SECONDS)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secret
