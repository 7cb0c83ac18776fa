"""What nodes mean for pods: which take some, what they have free, which give no answer and which are gone. Pure.

Called by `capacity` and `runtime`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from neuropod.kube.objects import count_of, milli_of
from neuropod.runtimes.kubernetes.reasons import Free, requests_of
from neuropod.runtimes.kubernetes.seen import is_ended
from neuropod.runtimes.kubernetes.shapes import NodeShape, PodShape

_KEEP_OFF = frozenset({"NoSchedule", "NoExecute"})
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_PASSING = "node.kubernetes.io/"  # the cluster's own taints: not ready, unreachable, cordoned, short of something
_USUAL = frozenset({"cpu", "memory", "ephemeral-storage", "pods"})


def takes_pods(node: NodeShape) -> bool:
    """Tell whether pods of ours could be placed on it now."""
    return (
        not node.spec.unschedulable
        and node.ready is not None
        and node.ready.status == "True"
        and not any(taint.effect in _KEEP_OFF for taint in node.spec.taints)
    )


def is_meant_for_pods(node: NodeShape) -> bool:
    """Tell whether pods of ours could be placed on it, now or once it is ready again."""
    return not any(taint.effect in _KEEP_OFF and not taint.key.startswith(_PASSING) for taint in node.spec.taints)


def allocatable(node: NodeShape) -> Free:
    """Return what a node has for pods in all."""
    told = node.status.allocatable
    others = {
        name: count_of(text)
        for name, text in told.items()
        if name not in _USUAL and "/" in name and not name.startswith(("hugepages-", "attachable-volumes-"))
    }
    return Free(
        milli_of(told.get("cpu", "0")),
        count_of(told.get("memory", "0")),
        count_of(told.get("ephemeral-storage", "0")),
        others,
    )


def minus(node: Free, taken: Free) -> Free:
    """Return what is left; never less than nothing of others."""
    return Free(
        node.cpu_milli - taken.cpu_milli,
        node.memory_bytes - taken.memory_bytes,
        node.disk_bytes - taken.disk_bytes,
        {name: max(0, count - taken.others.get(name, 0)) for name, count in node.others.items()},
    )


def plus(one: Free, other: Free) -> Free:
    """Return the sum."""
    names = one.others.keys() | other.others.keys()
    return Free(
        one.cpu_milli + other.cpu_milli,
        one.memory_bytes + other.memory_bytes,
        one.disk_bytes + other.disk_bytes,
        {name: one.others.get(name, 0) + other.others.get(name, 0) for name in names},
    )


def free_by_node(nodes: Iterable[NodeShape], pods: Iterable[PodShape]) -> dict[str, Free]:
    """Return what each node that takes pods has left, given all Pods that take something of it."""
    free = {node.metadata.name: allocatable(node) for node in nodes if takes_pods(node)}
    for pod in pods:
        name = pod.spec.node_name
        if name in free and not is_ended(pod):
            free[name] = minus(free[name], requests_of(pod))
    return free


def is_gone(node: NodeShape | None) -> bool:
    """Tell whether nothing can run on it any more: it was deleted, or an administrator fenced it."""
    return node is None or any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)


def answers(node: NodeShape) -> bool:
    """Tell whether what the API says of its pods is the present."""
    return node.ready is not None and node.ready.status != "Unknown"


def declared_lost(node: NodeShape, after_seconds: float | None, now: datetime) -> bool:
    """Tell whether it gave no answer for so long that its pods count as lost, where settings say so."""
    since = None if node.ready is None else node.ready.last_transition_time
    if after_seconds is None or since is None or answers(node):
        return False
    return now - since >= timedelta(seconds=after_seconds)


def label_of(node: NodeShape | None, keys: Iterable[str]) -> str:
    """Return the first of these labels that a node has; empty for none."""
    labels: Mapping[str, str] = {} if node is None else node.metadata.labels
    return next((labels[key] for key in keys if labels.get(key)), "")
