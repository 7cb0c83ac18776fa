"""The verbs of the Kubernetes API, on one cluster with one identity: get, list, apply, create, patch, delete, streams.

Made once per cluster by whoever opens a runtime; used by the runtime, the carriers and informers. What is sent again
after a failure is only what may come twice: reads, deletes with a UID, server-side apply, and what surely never left.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from neuropod.kit.clock import Clock
from neuropod.kube.access import Access
from neuropod.kube.channels import ChannelSocket
from neuropod.kube.forwarding import PortForward
from neuropod.kube.kinds import Kind
from neuropod.kube.objects import Object, Objects

ShapeT = TypeVar("ShapeT", bound=msgspec.Struct)


class KubeClient:
    """Raises the errors of kube.errors; KubeUnavailableError where nothing is known.

    A call may be cancelled at any time. None takes longer than `timeout_seconds` in all, retries included; streams
    are bound by their start alone.
    """

    def __init__(
        self, access: Access, clock: Clock, *, timeout_seconds: float = 10, field_manager: str = "neuropod"
    ) -> None:
        self.access = access
        self.field_manager = field_manager

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections, also those of streams; may be repeated."""
        raise NotImplementedError

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """Return the object, live; None when it is not there."""
        raise NotImplementedError

    async def get_as(self, shape: type[ShapeT], kind: Kind, name: str, namespace: str | None = None) -> ShapeT | None:
        """Return the object, live, in a shape; None when it is not there."""
        raise NotImplementedError

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str | None = None, fields: str | None = None
    ) -> Objects:
        """Return all objects of a kind, of one namespace or (None) of all, live; `labels`, `fields` are selectors."""
        raise NotImplementedError

    async def list_as(
        self,
        shape: type[ShapeT],
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> Sequence[ShapeT]:
        """Return all objects of a kind in a shape, as `list` does."""
        raise NotImplementedError

    async def apply(self, obj: Mapping[str, Any], *, force: bool = True, subresource: str | None = None) -> Object:
        """Let the object be so, by server-side apply under our field manager; return it. May be repeated.

        Without `force`, a field that another manager owns is a ConflictError.
        """
        raise NotImplementedError

    async def create(self, obj: Mapping[str, Any]) -> Object:
        """Create the object and return it; ConflictError when it is there. Never sent twice.

        After KubeUnavailableError it may or may not exist. Reviews (SelfSubjectAccessReview) are created too.
        """
        raise NotImplementedError

    async def merge_patch(
        self,
        kind: Kind,
        name: str,
        namespace: str | None,
        patch: Mapping[str, Any],
        *,
        subresource: str | None = None,
    ) -> Object:
        """Change the object by a JSON merge patch (RFC 7396) and return it.

        For one certain object put `metadata.uid` (or `resourceVersion` for one certain version) into the patch:
        another is a ConflictError. NoSuchKindError: it is not there. Retried as what may come twice.
        """
        raise NotImplementedError

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
        propagation: str | None = None,
    ) -> bool:
        """Ask for its deletion; False when it was not there. With `uid` another object of that name is a ConflictError.

        `propagation`: `Background`, `Foreground`, `Orphan`. Only a deletion with a `uid` is sent again after a failure.
        """
        raise NotImplementedError

    async def version(self) -> Object:
        """Return what the server says of its version (`major`, `minor`, `gitVersion`)."""
        raise NotImplementedError

    async def request_json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        repeatable: bool | None = None,
    ) -> Any:
        """Send what has no verb here and return the decoded answer. `repeatable` None: GET alone is.

        A 404 is a NoSuchKindError.
        """
        raise NotImplementedError

    async def request_text(self, path: str, *, params: Mapping[str, str] | None = None) -> str:
        """Return what a GET answers as text (metrics of the kubelet, a whole log)."""
        raise NotImplementedError

    def stream_lines(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """Yield the lines of an answer as they come, without their newline; ends with the answer.

        An iterator that is not read to its end is closed by its caller (`aclose`). Raises KubeUnavailableError when
        it is cut, NoSuchKindError and KubeError when it is refused. A line of more than 1 MiB comes in parts.
        """
        raise NotImplementedError

    async def exec_socket(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, tty: bool, stdin: bool
    ) -> ChannelSocket:
        """Start a command in a running container. Raises NoSuchKindError, KubeError, KubeUnavailableError."""
        raise NotImplementedError

    async def port_forward(self, namespace: str, pod: str, port: int) -> PortForward:
        """Open a byte stream to a port of a pod's loopback, through the API server.

        The pod is named, not identified: whoever means one incarnation looks at its UID before and after. Raises
        NoSuchKindError, KubeError, KubeUnavailableError. That nothing listens is only known afterwards (PortForward).
        """
        raise NotImplementedError
