"""Rows into views: ports with their hosts, the newest incarnation, the volume, and what the pod is shown as.

Called by service for a pod, a page, or all pods (the gateway's feed); five queries for any number up to CHUNK.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from neuropod.accounts.records import UserRow
from neuropod.db.engine import ReadSession
from neuropod.ids import PodId, RuntimeId, UserId, VolumeId
from neuropod.pods import store
from neuropod.pods.attachments.fullness import with_full_volume
from neuropod.pods.gpus.holders import Holder, holders_of
from neuropod.pods.gpus.store import held_devices
from neuropod.pods.hosts import pod_host
from neuropod.pods.lifecycle import Policy, Room
from neuropod.pods.limits.bounds import TimeLimits
from neuropod.pods.limits.idleness import Outlook, Thresholds, coming_stops, outlook_of, with_warning
from neuropod.pods.limits.records import WatchRow
from neuropod.pods.limits.store import idleness_of, watches_of
from neuropod.pods.owners.store import users_by_id
from neuropod.pods.queue.store import QUEUE_REASONS, earlier_waiting
from neuropod.pods.records import IncarnationRow, PodRow, PortRow
from neuropod.pods.status import status_of
from neuropod.pods.views import OwnerView, PodView, PortView
from neuropod.runtimes.contract import Phase
from neuropod.volumes.records import VolumeRow
from neuropod.volumes.store import volumes_by_id
from neuropod.words import Access, Reason, Want

CHUNK = 1000  # pods read at once: databases bound the parameters of a query


@dataclass(frozen=True, slots=True)
class Lens:
    """What views depend on besides rows."""

    policy: Policy
    served: Collection[RuntimeId]
    pods_domain: Callable[[RuntimeId], str]
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class Parts:
    """What hangs on a pod: its ports by number, newest incarnation and volume, and who waits before it."""

    ports: Sequence[PortRow] = ()
    incarnation: IncarnationRow | None = None
    volume: VolumeRow | None = None
    earlier: int = 0
    watch: WatchRow | None = None
    maker: UserRow | None = None  # None: the owner
    holders: tuple[Holder, ...] = ()


async def views_of(
    session: ReadSession, rows: Sequence[tuple[PodRow, UserRow]], lens: Lens, now: datetime
) -> list[PodView]:
    """Return the views of pods, in their order."""
    views = []
    for start in range(0, len(rows), CHUNK):
        views.extend(await _views_of(session, rows[start : start + CHUNK], lens, now))
    return views


async def _views_of(
    session: ReadSession, rows: Sequence[tuple[PodRow, UserRow]], lens: Lens, now: datetime
) -> list[PodView]:
    if not rows:
        return []
    pod_ids = [pod.id for pod, _ in rows]
    ports = await store.ports_of(session, pod_ids)
    incarnations = await store.newest_incarnations(session, pod_ids)
    volumes = await volumes_by_id(session, {pod.volume_id for pod, _ in rows if pod.volume_id is not None})
    waiting = [pod.id for pod, _ in rows if pod.waiting_reason in QUEUE_REASONS and pod.want == Want.RUNNING]
    earlier = await earlier_waiting(session, waiting) if waiting else {}
    limited = [pod.id for pod, _ in rows if pod.idle_stop_after_seconds is not None and pod.want == Want.RUNNING]
    watches = await watches_of(session, limited) if limited else {}
    makers = await users_by_id(session, {pod.created_by for pod, _ in rows if pod.created_by != pod.owner_id})
    holders = await _holders(session, [pod for pod, _ in rows])
    views = []
    for pod, owner in rows:
        pod_id = PodId(pod.id)
        volume = volumes.get(VolumeId(pod.volume_id)) if pod.volume_id is not None else None
        parts = Parts(
            ports.get(pod_id, ()), incarnations.get(pod_id), volume, earlier.get(pod_id, 0), watches.get(pod_id),
            makers.get(pod.created_by), holders.get(pod_id, ()),
        )  # fmt: skip
        views.append(view_of(pod, owner, parts, lens, now))
    return views


def _person(user: UserRow) -> OwnerView:
    return OwnerView(UserId(user.id), user.email, user.hash)


async def _holders(session: ReadSession, pods: Collection[PodRow]) -> dict[PodId, tuple[Holder, ...]]:
    """Return which pods have the GPUs that these wait for."""
    waiting = [pod for pod in pods if pod.waiting_reason == Reason.NO_GPU and pod.want == Want.RUNNING]
    if not waiting:
        return {}
    held = await held_devices(session, {RuntimeId(pod.runtime_id) for pod in waiting})
    return {
        PodId(pod.id): holders_of(
            one for one in held if (one.runtime_id, one.gpu_type) == (pod.runtime_id, pod.gpu_type)
        )
        for pod in waiting
    }


def view_of(pod: PodRow, owner: UserRow, parts: Parts, lens: Lens, now: datetime) -> PodView:
    """Return the view of a pod whose parts are read already."""
    facts = store.pod_facts(
        pod,
        parts.incarnation,
        policy=lens.policy,
        room=Room(place=parts.earlier + 1),
        served=RuntimeId(pod.runtime_id) in lens.served,
    )
    pods_domain = lens.pods_domain(RuntimeId(pod.runtime_id))
    limits = TimeLimits(pod.stop_after_seconds, pod.idle_stop_after_seconds)
    outlook = _outlook(pod, parts, limits)
    return PodView(
        pod=pod,
        owner=_person(owner),
        maker=_person(parts.maker or owner),
        ports=tuple(
            PortView(
                port.port,
                port.name,
                Access(port.access),
                pod_host(pod.name, owner.hash, port.port, pods_domain),
            )
            for port in parts.ports
        ),
        incarnation=parts.incarnation,
        volume=parts.volume,
        shown=with_full_volume(
            with_warning(status_of(facts, now), coming_stops(limits, outlook, lens.thresholds), now), parts.volume
        ),
        outlook=outlook,
        holders=parts.holders,
    )


def _outlook(pod: PodRow, parts: Parts, limits: TimeLimits) -> Outlook:
    run, watch = parts.incarnation, parts.watch
    if pod.want != Want.RUNNING or run is None or run.ended_at is not None or run.run_revision != pod.run_revision:
        return Outlook()
    known = idleness_of(watch) if watch is not None and watch.incarnation == run.number else None
    return outlook_of(limits, run.started_at, known if run.phase == Phase.READY else None)
