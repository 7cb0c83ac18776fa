"""What the gateway serves: from pods as they are to the routes that are wanted. Pure.

Called by feed, which compares the answer with what is served. A route says where a host leads and who may pass; a pod
that is not ready has its routes too, and the gate answers there with a page.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from neuropod.ids import PodId, RuntimeId, UserId
from neuropod.pods.views import PodView
from neuropod.runtimes.contract import Phase
from neuropod.words import Access, Reason, Status

_MAY_BE_RUNNING = frozenset({Status.RUNNING, Status.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class Route:
    """One port of one pod under its host name, which never changes while the pod exists."""

    host: str
    pod_id: PodId
    pod_name: str
    owner_id: UserId
    runtime_id: RuntimeId
    incarnation: int | None  # the one that is ready; None: the gate answers with a page
    port: int
    access: Access
    status: Status
    reason: Reason
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return what `/internal/routes` sends."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Route":
        """Read what `/internal/routes` sent."""
        return Route(
            **(dict(data) | {
                "access": Access(data["access"]),
                "status": Status(data["status"]),
                "reason": Reason(data["reason"]),
            })
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """How one set of routes becomes another: what is new or different, and the hosts that are gone."""

    set: tuple[Route, ...]
    gone: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.set or self.gone)


def wanted_routes(pods: Iterable[PodView]) -> dict[str, Route]:
    """Return the route of every port of every pod, by host."""
    return {route.host: route for pod in pods for route in _routes_of(pod)}


def _routes_of(pod: PodView) -> Iterable[Route]:
    shown = pod.shown
    ready = _ready_incarnation(pod)
    for port in pod.ports:
        yield Route(
            host=port.host,
            pod_id=pod.id,
            pod_name=pod.pod.name,
            owner_id=pod.owner.id,
            runtime_id=pod.runtime_id,
            incarnation=ready,
            port=port.port,
            access=port.access,
            status=shown.status,
            reason=shown.reason,
            message=shown.message,
        )


def _ready_incarnation(pod: PodView) -> int | None:
    """Return the number of the incarnation that takes requests.

    One whose runtime gives no answer was ready when it was last seen and is tried; one that is being stopped is not.
    """
    newest = pod.incarnation
    if newest is None or newest.ended_at is not None or newest.phase != Phase.READY:
        return None
    return newest.number if pod.shown.status in _MAY_BE_RUNNING else None


def change_between(served: Mapping[str, Route], wanted: Mapping[str, Route]) -> Change:
    """Return what turns the served routes into the wanted ones."""
    return Change(
        set=tuple(route for host, route in wanted.items() if served.get(host) != route),
        gone=tuple(host for host in served if host not in wanted),
    )
