"""What the watches of one cluster hold: our Pods, its nodes, our claims; and the nudges that their changes make.

Made by `runtime`, which starts and ends it. It answers where a Pod is, not whether one is there: an absence is believed
after a live look, or where an end was told or answered (`is_told_gone`). What a change means beyond a nudge is asked of
those that subscribed.
"""

from collections.abc import Callable, Iterator

from neuropod.ids import InstallationId, PodId
from neuropod.kit.clock import Clock
from neuropod.kit.tasks import TaskSet
from neuropod.kube.client import KubeClient
from neuropod.kube.informer import Informer, Key
from neuropod.kube.kinds import NODES, PERSISTENT_VOLUME_CLAIMS, PODS
from neuropod.runtimes.contract import WorkloadId
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.seen import is_ended, is_starting
from neuropod.runtimes.kubernetes.shapes import ClaimShape, NodeShape, PodShape
from neuropod.runtimes.nudges import Nudges

QUICK_SECONDS = 3.0  # what starts within this time needs no explanation
_LATELY_SECONDS = 2.0  # so long what was told counts as a look; a watch that hangs shows itself later

PodHook = Callable[[Key, PodShape | None, PodShape | None], None]


class ClusterWatch:
    """The informers of one cluster, and the nudges that come of them."""

    def __init__(self, client: KubeClient, installation: InstallationId, clock: Clock) -> None:
        self.nudges = Nudges()
        ours = names.selector_of_installation(installation)
        self._pods = Informer(client, PODS, PodShape, clock=clock, labels=ours, on_change=self._pod_changed)
        self._nodes = Informer(client, NODES, NodeShape, clock=clock, on_change=self._node_changed)
        self._claims = Informer(client, PERSISTENT_VOLUME_CLAIMS, ClaimShape, clock=clock, labels=ours)
        self._clock = clock
        self._keys: dict[PodId, Key] = {}
        self._answered_at: dict[Key, float] = {}
        self._answered: dict[Key, PodShape | None] = {}  # until the watch has come so far; None: we deleted it
        self._gone: dict[PodId, WorkloadId] = {}  # what was told to be gone last, or was deleted by us
        self._by_node: dict[str, set[PodId]] = {}
        self._hooks: list[PodHook] = []

    def start(self, tasks: TaskSet) -> None:
        """Let the informers run."""
        for informer, name in ((self._pods, "pods"), (self._nodes, "nodes"), (self._claims, "claims")):
            tasks.start(informer.run(), name=f"watch of {name}")

    async def synced(self, timeout_seconds: float) -> None:
        """Return once all was read. Raises KubeUnavailableError."""
        for informer in (self._pods, self._nodes, self._claims):
            await informer.synced(timeout_seconds)

    def close(self) -> None:
        """Send no more nudges."""
        self.nudges.close()

    # ---- what is there

    @property
    def fresh(self) -> bool:
        """Whether the watch of Pods stands (SECURITY 3)."""
        return self._pods.fresh

    @property
    def problem(self) -> str:
        """Why it does not; empty while it does."""
        return self._pods.problem

    def key_of(self, pod: PodId) -> Key | None:
        """Return where a pod's Pod is, or was last."""
        return self._keys.get(pod)

    def remember(self, pod: PodId, key: Key) -> None:
        """Note where a Pod was just made, before the watch tells it; until `forget`, as its place never changes."""
        self._keys[pod] = key

    def forget(self, pod: PodId) -> None:
        """Nothing of the pod comes any more."""
        self._keys.pop(pod, None)
        self._gone.pop(pod, None)

    def claims(self) -> Iterator[ClaimShape]:
        """Yield our claims; none while their watch is cut."""
        return iter(self._claims.items.values() if self._claims.fresh else ())

    def standing(self, workload_id: WorkloadId) -> PodShape | None:
        """Return that very incarnation's Pod as the watch has it; None while the watch is cut."""
        key = self._keys.get(workload_id.pod)
        found = None if key is None or not self._pods.fresh else self._pods.items.get(key)
        return found if found is not None and names.workload_of(found.metadata.labels) == workload_id else None

    def lately(self, workload_id: WorkloadId) -> PodShape | None:
        """Return that very incarnation's Pod as it was a moment ago, by the watch or by an answer. None: look.

        That is as good as a look, and spares most of them: one mostly looks because of what the watch told. It tells
        of all Pods in the order in which they changed, so whatever it told last, nothing that it told before is older.
        """
        key = self._keys.get(workload_id.pod)
        if key is None or not self._pods.fresh:
            return None
        answered_ago = self._clock.monotonic() - self._answered_at.get(key, float("-inf"))
        if min(self._pods.silent_seconds, answered_ago) >= _LATELY_SECONDS:
            return None
        found = self._answered[key] if key in self._answered else self._pods.items.get(key)
        return found if found is not None and names.workload_of(found.metadata.labels) == workload_id else None

    def is_told_gone(self, workload_id: WorkloadId) -> bool:
        """Tell whether that very incarnation is gone and nothing came after it, while the watch stands.

        So said the watch, or the API server when we had it deleted at once.
        """
        key = self._keys.get(workload_id.pod)
        if key is None or not self._pods.fresh or self._gone.get(workload_id.pod) != workload_id:
            return False
        if key in self._answered:  # the watch has not come as far
            return self._answered[key] is None
        return key not in self._pods.items

    def deleted(self, key: Key, pod: PodShape) -> None:
        """Take that the API server has deleted a Pod on our word, at once: it is gone unless a finalizer holds it."""
        workload_id = names.workload_of(pod.metadata.labels)
        if workload_id is not None and not pod.metadata.finalizers:
            self._gone[workload_id.pod] = workload_id
        self.answered(key, None)

    def answered(self, key: Key, pod: PodShape | None) -> None:
        """Take what the API server answered to a question or a write of ours, or (None) that we deleted what is there.

        Until the watch has told as much, what it tells is older.
        """
        told = self._pods.items.get(key)
        if pod is None and told is None:
            return
        if key in self._answered:
            known = self._answered[key]
            if known is None or (pod is not None and _is_as_new(known, pod)):
                return  # that one was overtaken on its way
        self._answered[key] = pod
        self._answered_at[key] = self._clock.monotonic()
        if told is not None:
            self._compare(key, told)

    def _compare(self, key: Key, told: PodShape) -> None:
        answer = self._answered.get(key)
        if answer is not None and _is_as_new(told, answer):
            del self._answered[key]

    def at(self, key: Key) -> PodShape | None:
        """Return what the watch has in a place."""
        return self._pods.items.get(key)

    def pods(self) -> Iterator[PodShape]:
        """Yield all our Pods."""
        return iter(self._pods.items.values())

    def nodes(self) -> Iterator[NodeShape]:
        """Yield all nodes."""
        return iter(self._nodes.items.values())

    def node(self, name: str) -> NodeShape | None:
        """Return a node; None where the watch does not know it."""
        return self._nodes.items.get(("", name))

    @property
    def knows_nodes(self) -> bool:
        """Whether a node that is not known is none."""
        return self._nodes.fresh

    # ---- changes

    def subscribe(self, hook: PodHook) -> None:
        """Let it hear of each Pod that is there, at once, and then of each change; it must not block."""
        self._hooks.append(hook)
        for key, pod in list(self._pods.items.items()):
            hook(key, None, pod)

    def _pod_changed(self, key: Key, before: PodShape | None, now: PodShape | None) -> None:
        shown = now or before
        workload_id = None if shown is None else names.workload_of(shown.metadata.labels)
        if workload_id is None:
            return
        pod = workload_id.pod
        if before is None or now is None:
            self._answered.pop(key, None)
        if now is None:
            self._answered_at.pop(key, None)
            self._gone[pod] = workload_id
        else:
            self._compare(key, now)
        if before is not None and before.spec.node_name:
            self._by_node.get(before.spec.node_name, set()).discard(pod)
        if now is not None:
            self._keys[pod] = key
            if now.spec.node_name and not is_ended(now):
                self._by_node.setdefault(now.spec.node_name, set()).add(pod)
        if now is not None and is_starting(now) and (before is None or is_starting(before)):
            self.nudges.send_later(pod, QUICK_SECONDS)  # steps of a quick start concern nobody
        else:
            self.nudges.send(pod)
        for hook in self._hooks:
            hook(key, before, now)

    def _node_changed(self, key: Key, before: NodeShape | None, now: NodeShape | None) -> None:
        """Tell about a node's pods when it went, came, or was fenced; its daily heartbeats are nobody's business."""
        if _standing_of(before) != _standing_of(now):
            for pod in self._by_node.get(key[1], ()):
                self.nudges.send(pod)


def _is_as_new(told: PodShape, answer: PodShape) -> bool:
    """Tell whether the watch has come as far as an answer. Versions of one kind are numbers that grow (KEP-5504)."""
    one, other = told.metadata.resource_version, answer.metadata.resource_version
    return told.metadata.uid == answer.metadata.uid and one.isdigit() and other.isdigit() and int(one) >= int(other)


def _standing_of(node: NodeShape | None) -> tuple[str, bool] | None:
    if node is None:
        return None
    fenced = any(taint.key == "node.kubernetes.io/out-of-service" for taint in node.spec.taints)
    return (node.ready.status if node.ready is not None else "Unknown", fenced)
