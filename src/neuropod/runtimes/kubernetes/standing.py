"""What stands in a pod's place in the cluster now: looked up live, told with all that explains it.

Called by `runtime` and `ending`. The watch says where to look; an absence is believed after a live look, without one
only as `look` says. A Pod on a node that gives no answer is not known about, whatever its object says; it has ended
once the node is gone, fenced, or declared lost by the settings (DESIGN §3).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from neuropod.ids import InstallationId, PodId
from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import NODES, PODS
from neuropod.runtimes.contract import Phase, RuntimeUnavailableError, Seen, WorkloadId
from neuropod.runtimes.kubernetes import names, nodes, reasons
from neuropod.runtimes.kubernetes.asking import asking
from neuropod.runtimes.kubernetes.capacity import ClusterCapacity
from neuropod.runtimes.kubernetes.reasons import Hints
from neuropod.runtimes.kubernetes.seen import is_ended, is_starting, is_unplaced, moment, seen_of, state_of
from neuropod.runtimes.kubernetes.shapes import NodeShape, PodShape
from neuropod.runtimes.kubernetes.telling import Events
from neuropod.runtimes.kubernetes.watching import QUICK_SECONDS, ClusterWatch
from neuropod.words import Reason

# What does not start within QUICK_SECONDS is looked at again that often.
_AGAIN_SECONDS = 10.0


class Standing:
    """Looks into one cluster."""

    def __init__(
        self,
        client: KubeClient,
        watch: ClusterWatch,
        capacity: ClusterCapacity,
        installation: InstallationId,
        clock: Clock,
        lost_after_seconds: float | None,
    ) -> None:
        self._client = client
        self._watch = watch
        self._capacity = capacity
        self._installation = installation
        self._clock = clock
        self._lost_after_seconds = lost_after_seconds
        self._events = Events(client, clock)

    async def look(self, workload_id: WorkloadId) -> PodShape | None:
        """Return the same as `find`, but what was told of it a moment ago is no question again.

        Nor is an end that the watch told of or we made, nor a pod of which nothing was made yet: where the watch is
        behind there, making it meets what stands in its place.
        """
        if workload_id.installation == self._installation:
            if known := self._watch.lately(workload_id):
                return known
            never_made = not workload_id.incarnation and self._watch.key_of(workload_id.pod) is None
            if self._watch.fresh and (never_made or self._watch.is_told_gone(workload_id)):
                return None
        return await self.find(workload_id)

    async def find(self, workload_id: WorkloadId) -> PodShape | None:
        """Return what stands in the pod's place: that incarnation, else another. Raises RuntimeUnavailableError."""
        if workload_id.installation != self._installation:
            return None
        with asking():
            key = self._watch.key_of(workload_id.pod)
            if key is not None:  # its place never changes
                found: PodShape | None = await self._client.get_as(PodShape, PODS, key[1], key[0])
                if found is None or not self._is_of(found, workload_id.pod):
                    return None
                self._watch.answered(key, found)
                return found
            selector = names.selector_of_pod(self._installation, workload_id.pod)
            listed, _ = await self._client.list_at(PodShape, PODS, labels=selector)
        newest_first = _newest_first(listed)
        exact = next((pod for pod in newest_first if is_incarnation(pod, workload_id)), None)
        return exact or next(iter(newest_first), None)

    async def look_exact(self, workload_id: WorkloadId, *, live: bool) -> PodShape | None:
        """Return that very incarnation's Pod, for a write that is for that very version of it and fails otherwise."""
        if live:
            return await self.find_exact(workload_id)
        found = await self.look(workload_id)
        return found if found is not None and is_incarnation(found, workload_id) else None

    async def find_exact(self, workload_id: WorkloadId) -> PodShape | None:
        """Return that very incarnation's Pod. Raises RuntimeUnavailableError."""
        found = await self.find(workload_id)
        return found if found is not None and is_incarnation(found, workload_id) else None

    async def running(self, workload_id: WorkloadId) -> PodShape | None:
        """Return that very incarnation's Pod while its process runs: by the watch, or live where that lags behind.

        Raises RuntimeUnavailableError.
        """
        known = self._watch.standing(workload_id)
        if known is None or not is_running(known):
            known = await self.find_exact(workload_id)
        return known if known is not None and is_running(known) else None

    def _is_of(self, pod: PodShape, wanted: PodId) -> bool:
        labels = pod.metadata.labels
        return labels.get(names.INSTALLATION) == self._installation and labels.get(names.POD) == wanted

    async def list_all(self) -> Sequence[PodShape]:
        """Return all Pods of this installation, live. Raises RuntimeUnavailableError."""
        with asking():
            listed, _ = await self._client.list_at(
                PodShape, PODS, labels=names.selector_of_installation(self._installation)
            )
        return listed

    # ---- what they mean

    async def tell(self, pod: PodShape) -> Seen | None:
        """Return what the Pod shows, explained. Raises RuntimeUnavailableError while its node gives no answer."""
        return await self._of_node(pod, seen_of(pod, await self._hints(pod)))

    async def tell_all(self, pods: Iterable[PodShape]) -> Sequence[Seen]:
        """Return what Pods show, without explanations; those whose node gives no answer are left out."""
        told = []
        for pod in pods:
            try:
                seen = await self._of_node(pod, seen_of(pod))
            except RuntimeUnavailableError:
                continue
            if seen is not None:
                told.append(seen)
        return told

    async def is_over(self, pod: PodShape) -> bool:
        """Tell whether nothing of it runs. Raises RuntimeUnavailableError while that cannot be known."""
        seen = await self._of_node(pod, seen_of(pod))
        return seen is not None and seen.phase is Phase.EXITED

    async def _of_node(self, pod: PodShape, seen: Seen | None) -> Seen | None:
        name = pod.spec.node_name
        if seen is None or seen.phase is Phase.EXITED or not name:
            return seen
        node = await self._node(name)
        if nodes.is_gone(node) or (
            node is not None and nodes.declared_lost(node, self._lost_after_seconds, self._clock.now())
        ):
            since = None if node is None or node.ready is None else node.ready.last_transition_time
            at = max([each for each in (since, seen.ready_at, seen.stopping_at, seen.started_at) if each], default=None)
            reason = seen.reason if seen.phase is Phase.STOPPING else Reason.NODE_LOST
            message = f"its node {name} is gone"
            return replace(seen, phase=Phase.EXITED, reason=reason, message=message, finished_at=at)
        if node is not None and not nodes.answers(node):
            raise RuntimeUnavailableError(reasons.not_answering(name, node.ready))
        return seen

    async def _node(self, name: str) -> NodeShape | None:
        known = self._watch.node(name)
        if known is not None and self._watch.knows_nodes and nodes.answers(known):
            return known  # that it answers no more, or is gone, is believed after a live look, as of Pods
        with asking():
            found: NodeShape | None = await self._client.get_as(NodeShape, NODES, name)
        return found

    async def _hints(self, pod: PodShape) -> Hints:
        """Look up what explains that it does not run yet, once it takes longer than the start of a small one."""
        workload_id = names.workload_of(pod.metadata.labels)
        state = state_of(pod)
        if workload_id is None or is_ended(pod) or state.running is not None or state.terminated is not None:
            return Hints()
        now = self._clock.now()
        created = moment(pod.metadata.creation_timestamp)
        unplaced = is_unplaced(pod)
        if is_starting(pod) and created is not None and now - created < timedelta(seconds=QUICK_SECONDS):
            self._watch.nudges.send_later(workload_id.pod, QUICK_SECONDS)
            return Hints()
        self._watch.nudges.send_later(workload_id.pod, _AGAIN_SECONDS)
        with asking():
            namespace, claim = pod.metadata.namespace, pod.claim
            events = await self._events.of_pod(namespace, pod.metadata.uid)
            if not unplaced:
                return Hints(events=events, now=now)
            return Hints(
                events=events,
                claim_events=() if claim is None else await self._events.of_claim(namespace, claim),
                free=await self._capacity.free(),
                now=now,
            )


def is_running(pod: PodShape) -> bool:
    """Tell whether its process runs."""
    return state_of(pod).running is not None and not is_ended(pod)


def is_incarnation(pod: PodShape, workload_id: WorkloadId) -> bool:
    """Tell whether a Pod is that very incarnation."""
    return names.workload_of(pod.metadata.labels) == workload_id


def _newest_first(pods: Iterable[PodShape]) -> list[PodShape]:
    def number(pod: PodShape) -> int:
        workload_id = names.workload_of(pod.metadata.labels)
        return -1 if workload_id is None else workload_id.incarnation

    return sorted(pods, key=number, reverse=True)
