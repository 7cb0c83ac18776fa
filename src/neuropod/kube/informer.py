"""What is there of one kind, kept by a list and a watch: the memory that the runtime and the carriers look into.

Made by the runtime and the carriers, one per kind; server runs `run` as a task. What a change means is theirs.
"""

from collections.abc import Callable, Mapping
from typing import Generic, TypeAlias, TypeVar

from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import Kind
from neuropod.kube.shapes import Readable

Key: TypeAlias = tuple[str, str]  # namespace ("" for what has none), name
ShapeT = TypeVar("ShapeT", bound=Readable)
OnChange: TypeAlias = Callable[[Key, "ShapeT | None", "ShapeT | None"], None]


class Informer(Generic[ShapeT]):
    """One list-and-watch of one kind, decoded partially.

    `on_change(key, before, now)` is called in the loop's own turn for each difference, also for those that a cut watch
    missed; None is "not there". An object replaced under its name (another UID) is first gone, then there. It must not
    raise and not block. Nothing is lost over a cut: the kind is listed again and compared.
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
        raise NotImplementedError

    @property
    def items(self) -> Mapping[Key, ShapeT]:
        """What is known, live: do not keep it across an await. While not `fresh` it may be old."""
        raise NotImplementedError

    @property
    def fresh(self) -> bool:
        """Whether a watch stands, so that `items` is the truth but for the network's latency.

        False from the moment the watch is cut until all was read again (SECURITY 3).
        """
        raise NotImplementedError

    @property
    def problem(self) -> str:
        """Why it is not fresh, as a sentence for people; empty while it is."""
        raise NotImplementedError

    async def run(self) -> None:
        """List and watch until cancelled."""
        raise NotImplementedError

    async def synced(self, timeout_seconds: float) -> None:
        """Return once it is fresh. Raises KubeUnavailableError with the problem after the time-out."""
        raise NotImplementedError
