"""The verbs of the Kubernetes API, on one cluster with one identity: get, list, apply, create, patch, delete, streams.

Made once per cluster by whoever opens a runtime; used by the runtime, the carriers and informers. What is sent again
after a failure is only what may come twice: reads, patches, deletes of one certain object, what the server put off
(429), and what surely never arrived.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec

from neuropod.kit.clock import Clock
from neuropod.kube.access import Access
from neuropod.kube.channels import ChannelSocket, exec_path
from neuropod.kube.connections import Connections, LostError
from neuropod.kube.errors import (
    AccessError,
    GoneError,
    KubeError,
    KubeUnavailableError,
    NoSuchKindError,
    NotFoundError,
)
from neuropod.kube.forwarding import PortForward, forward_path
from neuropod.kube.kinds import SECRETS, Kind, kind_of
from neuropod.kube.lines import LineStream
from neuropod.kube.objects import Object, Objects
from neuropod.kube.shapes import Page
from neuropod.kube.sockets import WebSocket
from neuropod.kube.statuses import read_status, refusal_of, retry_after_seconds

ShapeT = TypeVar("ShapeT")
Listed: TypeAlias = tuple[list[ShapeT], str]
SocketT = TypeVar("SocketT", bound=WebSocket)

_PAGE = 500
_BUSY = frozenset({429, 500, 502, 503, 504})
_WAITS = (0.1, 0.3, 1.0, 2.0)  # between tries, each varied by half; what the server asks for comes first
_NO_NODE = b"error dialing backend"
_UNFIT = re.compile(r"[^!-~]")  # what a quoted path does not hold: spaces, ends of lines, other alphabets

_ENCODER = msgspec.json.Encoder()


class KubeClient:
    """Raises the errors of kube.errors (AccessError is KubeUnavailableError here: it may be mended meanwhile).

    A call may be cancelled at any time. None takes longer than `timeout_seconds` in all, retries included; streams
    are bound by their start alone.
    """

    def __init__(
        self, access: Access, clock: Clock, *, timeout_seconds: float = 10, field_manager: str = "neuropod"
    ) -> None:
        self.access = access
        self.field_manager = field_manager
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._connections = Connections(access, clock)
        self._sockets: set[WebSocket] = set()
        self._decoders: dict[Any, msgspec.json.Decoder[Any]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections, also those of streams; may be repeated."""
        self._connections.close()
        for opened in list(self._sockets):
            opened.cut()
        await asyncio.sleep(0)  # so that their protocols are told before the loop may end

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """Return the object, live; None when it is not there. Raises NoSuchKindError."""
        found: Object | None = await self.get_as(Object, kind, name, namespace)
        return found

    async def get_as(self, shape: Any, kind: Kind, name: str, namespace: str | None = None) -> Any:
        """Return the object, live, in a shape; None when it is not there. Raises NoSuchKindError."""
        try:
            content = await self._send("GET", kind.path(namespace, name), private=kind is SECRETS)
        except NoSuchKindError:
            raise
        except NotFoundError:
            return None
        return self._decoded(shape, content)

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str | None = None, fields: str | None = None
    ) -> Objects:
        """Return all objects of a kind, of one namespace or (None) of all, live; `labels`, `fields` are selectors."""
        objects, _ = await self.list_at(Object, kind, namespace, labels=labels, fields=fields)
        for obj in objects:  # the server leaves these to the list
            obj.setdefault("apiVersion", kind.api_version)
            obj.setdefault("kind", kind.kind)
        return objects

    async def list_at(
        self,
        shape: type[ShapeT],
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> Listed[ShapeT]:
        """Return all objects of a kind in a shape, and the resourceVersion at which they were so."""
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        params = {name: value for name, value in selectors.items() if value}
        try:
            return await self._pages(shape, kind.path(namespace), {**params, "limit": str(_PAGE)})
        except GoneError:  # its pages were forgotten meanwhile (compaction): once more, in one piece
            return await self._pages(shape, kind.path(namespace), params)

    async def _pages(self, shape: type[ShapeT], path: str, params: Mapping[str, str]) -> Listed[ShapeT]:
        objects: Any = []
        more: dict[str, str] = {}
        while True:
            page = self._decoded(Page[shape], await self._send("GET", path, params={**params, **more}))  # type: ignore[valid-type]
            objects.extend(page.items or ())
            if not page.metadata.continue_:
                return objects, page.metadata.resource_version
            more = {"continue": page.metadata.continue_}

    async def apply(self, obj: Mapping[str, Any], *, force: bool = True, subresource: str | None = None) -> Object:
        """Let the object be so, by server-side apply under our field manager; return it. May be repeated.

        Without `force`, a field that another manager owns is a ConflictError; so is a `metadata.uid` that is not that
        of the object that is there. Raises NotFoundError without its namespace.
        """
        kind, metadata = kind_of(obj), obj["metadata"]
        return await self._write(
            "PATCH",
            kind,
            kind.path(metadata.get("namespace"), metadata["name"], subresource),
            obj,
            content_type="application/apply-patch+yaml",
            params={"force": "true" if force else "false"},
        )

    async def create(self, obj: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Create the object and return it; ConflictError when it is there. Never sent twice.

        After KubeUnavailableError it may or may not exist. Reviews (SelfSubjectAccessReview) are created too. With
        `dry_run` all that decides of it is asked, and nothing is kept. Raises NotFoundError without its namespace.
        """
        kind = kind_of(obj)
        namespace = obj.get("metadata", {}).get("namespace")
        if kind.namespaced and not namespace:
            raise ValueError(f"a {kind.kind} is created within a namespace")
        return await self._write("POST", kind, kind.path(namespace), obj, params={"dryRun": "All"} if dry_run else None)

    async def merge_patch(
        self,
        kind: Kind,
        name: str,
        namespace: str | None,
        patch: Mapping[str, Any],
        *,
        subresource: str | None = None,
    ) -> Object:
        """Change the object by a JSON merge patch (RFC 7396) and return it. It may reach the server twice.

        For one certain object put `metadata.uid` (or `resourceVersion` for one certain version) into the patch:
        another is a ConflictError. Raises NotFoundError when it is not there.
        """
        path = kind.path(namespace, name, subresource)
        return await self._write("PATCH", kind, path, patch, content_type="application/merge-patch+json")

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: str | None = None,
    ) -> bool:
        """Ask for its deletion; False when it was not there. With `uid` another object of that name is a ConflictError.

        So is one that was changed since, with `resource_version`. `propagation`: `Background`, `Foreground`, `Orphan`.
        Only a deletion with a `uid` is sent again after a failure.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        met = {"uid": uid, "resourceVersion": resource_version}
        if preconditions := {name: value for name, value in met.items() if value is not None}:
            options["preconditions"] = preconditions
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        path, body = kind.path(namespace, name), _ENCODER.encode(options)
        try:
            await self._send("DELETE", path, body=body, repeatable=uid is not None, private=kind is SECRETS)
        except NoSuchKindError:
            raise
        except NotFoundError:
            return False
        return True

    async def version(self) -> Object:
        """Return what the server says of its version (`major`, `minor`, `gitVersion`)."""
        found: Object = await self.request_json("GET", "/version")
        return found

    async def request_json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        repeatable: bool | None = None,
    ) -> Any:
        """Send what has no verb here and return the decoded answer. `repeatable` None: GET alone is.

        A 404 is a NotFoundError. `path` is quoted already (Kind.path); lists in `params` are repeated.
        """
        encoded = b"" if body is None else _ENCODER.encode(body)
        again = method == "GET" if repeatable is None else repeatable
        content = await self._send(
            method, path, params=params, body=encoded, content_type=content_type, repeatable=again
        )
        return self._decoded(Any, content)

    async def request_text(self, path: str, *, params: Mapping[str, Any] | None = None) -> str:
        """Return what a GET answers as text (metrics of the kubelet, a whole log). Raises NotFoundError."""
        return (await self._send("GET", path, params=params)).decode(errors="replace")

    async def stream_lines(self, path: str, params: Mapping[str, Any] | None = None) -> AsyncIterator[bytes]:
        """Yield the lines of an answer as they come, without their newline; ends with the answer.

        An iterator that is not read to its end is closed by its caller (`aclose`). Raises KubeUnavailableError when
        it is cut, NotFoundError and KubeError when it is refused. A line of more than 1 MiB comes in parts.
        """
        stream = await self.open_lines(path, params)
        try:
            while (lines := await stream.read()) is not None:
                for line in lines:
                    yield line
        finally:
            stream.close()

    async def open_lines(self, path: str, params: Mapping[str, Any] | None = None) -> LineStream:
        """Return the stream of an answer's lines once the server has agreed; the caller closes it. See LineStream."""
        head = self._connections.request_head("GET", _target(path, params))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for last in (False, True):
                    answer, end = await self._connections.stream(head)
                    if answer.status < 300:
                        return LineStream(answer, end, self.access.server)
                    try:
                        content = await answer.whole()
                    finally:
                        end()
                    if last or answer.status != 401 or not self._connections.refused():
                        break
        except TimeoutError:
            raise KubeUnavailableError(self._silence()) from None
        except (LostError, AccessError) as error:
            raise KubeUnavailableError(str(error)) from error
        if answer.status in _BUSY:
            raise KubeUnavailableError(self._busy(answer.status, content))
        raise refusal_of(answer.status, content)

    async def exec_socket(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, tty: bool, stdin: bool
    ) -> ChannelSocket:
        """Start a command in a running container. Raises NotFoundError, KubeError, KubeUnavailableError.

        That there is no such command is told afterwards (ChannelSocket.wait).
        """
        path = exec_path(namespace, pod, container, command, tty=tty, stdin=stdin)
        return await self._open_socket(ChannelSocket, path)

    async def port_forward(self, namespace: str, pod: str, port: int) -> PortForward:
        """Open a byte stream to a port of a pod's loopback, through the API server.

        The pod is named, not identified: whoever means one incarnation looks at its UID before and after. Raises
        NotFoundError, KubeError, KubeUnavailableError. That nothing listens is only known afterwards (PortForward).
        """
        return await self._open_socket(PortForward, forward_path(namespace, pod, port))

    async def _open_socket(self, make: type[SocketT], path: str) -> SocketT:
        target = self._connections.prefix + path
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for last in (False, True):
                    opened = await self._connections.connect(
                        lambda authorization: make(self._connections.host, target, authorization)
                    )
                    opened.track(self._sockets)
                    try:
                        refused = await opened.opened()
                    except BaseException:
                        opened.cut()
                        raise
                    if refused is None:
                        return opened
                    if last or refused[0] != 401 or not self._connections.refused():
                        break
        except TimeoutError:
            raise KubeUnavailableError(self._silence()) from None
        except (LostError, AccessError) as error:
            raise KubeUnavailableError(str(error)) from error
        status, content = refused or (0, b"")
        # A 500 is the node's own word about this pod, or the API server's that it does not reach the node.
        if status in _BUSY and (status != 500 or _NO_NODE in content):
            raise KubeUnavailableError(self._busy(status, content))
        raise refusal_of(status, content)

    async def _write(
        self,
        method: str,
        kind: Kind,
        path: str,
        obj: Mapping[str, Any],
        *,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Object:
        content = await self._send(
            method,
            path,
            params={"fieldManager": self.field_manager, **(params or {})},
            body=_ENCODER.encode(obj),
            content_type=content_type,
            repeatable=method == "PATCH",
            private=kind is SECRETS,
        )
        written: Object = self._decoded(Object, content)
        return written

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: bytes = b"",
        content_type: str = "application/json",
        repeatable: bool = True,
        private: bool = False,
    ) -> bytes:
        head = self._connections.request_head(method, _target(path, params), content_type if body else "")
        waits, known = iter(_WAITS), False
        failed = _Failure(self._silence())
        try:
            async with asyncio.timeout(self._timeout_seconds) as limit:
                while True:
                    outcome = await self._try(head, body, private=private)
                    if isinstance(outcome, bytes):
                        return outcome
                    failed = outcome
                    if failed.refusal is not None:
                        if known or not self._connections.refused():
                            break
                        known = True
                        continue
                    wait = next(waits, None)
                    if wait is None or not (repeatable or failed.unread):
                        break
                    # Varied, so that not all come at once; what the server asked for is the least.
                    seconds = max(failed.asked_seconds, wait) * random.uniform(1, 1.5)  # noqa: S311
                    if asyncio.get_running_loop().time() + seconds > (limit.when() or 0):
                        break
                    await self._clock.sleep(seconds)
        except TimeoutError:
            pass  # what failed last is the better sentence
        except AccessError as error:
            raise KubeUnavailableError(str(error)) from error
        raise failed.refusal or KubeUnavailableError(failed.message)

    async def _try(self, head: str, body: bytes, *, private: bool) -> "bytes | _Failure":
        try:
            answer, content = await self._connections.exchange(head, body)
        except LostError as error:
            return _Failure(str(error), unread=error.unread)
        if answer.status < 300:
            return content
        if answer.status == 401:
            refusal = refusal_of(401, content, private=private)
            return _Failure(str(refusal), refusal=refusal)
        if answer.status not in _BUSY:
            raise refusal_of(answer.status, content, private=private)
        return _Failure(
            self._busy(answer.status, content, private=private),
            unread=answer.status == 429,
            asked_seconds=retry_after_seconds(answer.retry_after, content) or 0,
        )

    def _decoded(self, shape: Any, content: bytes) -> Any:
        decoder = self._decoders.get(shape)
        if decoder is None:
            decoder = self._decoders[shape] = msgspec.json.Decoder(shape)
        try:
            return decoder.decode(content)
        except msgspec.DecodeError as error:
            # Its text names a field and a type, never a value.
            raise KubeUnavailableError(f"{self.access.server} answered what is no such object: {error}") from None

    def _silence(self) -> str:
        return f"{self.access.server} gave no answer within {self._timeout_seconds:.0f} s"

    def _busy(self, code: int, content: bytes, *, private: bool = False) -> str:
        status = None if private else read_status(content)
        why = f": {status.message}" if status is not None and status.message else ""
        return f"{self.access.server} answered {code}{why}"


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a try brought no answer, and what may be done about it."""

    message: str
    unread: bool = False  # the server did nothing about it
    asked_seconds: float = 0
    refusal: KubeError | None = None  # it did not know us


def _target(path: str, params: Mapping[str, Any] | None) -> str:
    """Return the path with its query; a path that would end the line of the request is refused."""
    target = f"{path}?{urlencode(params, doseq=True)}" if params else path
    if _UNFIT.search(target) or not target.startswith("/"):
        raise ValueError(f"{path!r} is no quoted path")
    return target
