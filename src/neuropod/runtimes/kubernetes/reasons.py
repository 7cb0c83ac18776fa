"""Why a Pod does not run yet, and why it ended: what Kubernetes tells, as one of our reasons and a clause for people.

Pure. Called by `seen` with a Pod, and where that is not enough with its events and what the nodes have free. Clauses
stand in a sentence of `pods.status`, so they begin small and end without a full stop.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from neuropod.kube.objects import count_of, milli_of
from neuropod.runtimes.contract import Progress
from neuropod.runtimes.kubernetes.shapes import Condition, EventShape, PodShape, Terminated, Waiting
from neuropod.words import Reason

_LONGEST = 400  # characters of what others wrote
_LAST_LINES = 3

_PULL_FAILURES = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_NAME_FAILURES = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_DENIED = re.compile(
    r"\b401\b|\b403\b|unauthorized|forbidden|denied|authentication required|no basic auth|insufficient_scope",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(r"\b404\b|not ?found|manifest unknown|name unknown|does not exist", re.IGNORECASE)
# A kubelet that has not read a Secret within a second pulls without it, and tries again after ten.
_SECOND_TRY_SECONDS = 20.0
_NOT_STARTED = frozenset({"StartError", "ContainerCannotRun", "CreateContainerError", "RunContainerError"})


class Told(NamedTuple):
    """A reason, the clause beside it, and how far a preparation is."""

    reason: Reason
    message: str = ""
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known besides the Pod's own object; it is looked up for one that does not start."""

    events: Sequence[EventShape] = ()  # about the Pod
    claim_events: Sequence[EventShape] = ()  # about its volume's claim, while that is not bound
    free: Mapping[str, "Free"] | None = None  # by node, of those that take pods
    now: datetime | None = None  # None: nothing was looked up, as it is new, or as nobody asks why


@dataclass(frozen=True, slots=True)
class Free:
    """What a node has left."""

    cpu_milli: int
    memory_bytes: int
    disk_bytes: int
    others: Mapping[str, int]  # extended resources


# ---- not yet


def why_unscheduled(pod: PodShape, hints: Hints) -> Told:
    """Tell why it has no node. One that is new is on its way: no step of a launch is told by itself."""
    scheduled = pod.condition.get("PodScheduled")
    if scheduled is None or scheduled.status != "False":
        return Told(Reason.STARTING if hints.now is None else Reason.SCHEDULING)
    if "PersistentVolumeClaim" in scheduled.message or "persistentvolumeclaim" in scheduled.message:
        problems = [event for event in hints.claim_events if event.type == "Warning"] or list(hints.claim_events)
        return Told(Reason.VOLUME_WAITS, clause(_latest(problems) or scheduled.message))
    return Told(Reason.UNSCHEDULABLE, clause(_shortage(pod, hints) or scheduled.message))


def _shortage(pod: PodShape, hints: Hints) -> str:
    """Tell what is short and how much is free, when that is why; empty: it is something else."""
    if not hints.free:
        return "" if hints.free is None else "no node takes pods now"
    wanted = _wanted(pod)
    nodes = list(hints.free.values())
    lacks = []
    for name, count in wanted.items():
        most = max(_free_of(node, name) for node in nodes)
        if most < count:
            lacks.append(f"it needs {_amount(name, count)}, and no node has more than {_amount(name, most)} free")
    if lacks:
        return "; ".join(lacks)
    fits = [node for node in nodes if all(_free_of(node, name) >= count for name, count in wanted.items())]
    return "" if fits else "no node has all of it free: " + " and ".join(_amount(*each) for each in wanted.items())


def _wanted(pod: PodShape) -> dict[str, int]:
    """Return what its containers ask for, in milli-cores, bytes and pieces."""
    wanted: dict[str, int] = {}
    for container in pod.spec.containers:
        for name, text in container.resources.requests.items():
            wanted[name] = wanted.get(name, 0) + (milli_of(text) if name == "cpu" else count_of(text))
    return wanted


def requests_of(pod: PodShape) -> Free:
    """Return what a Pod takes of its node."""
    wanted = _wanted(pod)
    others = {name: count for name, count in wanted.items() if name not in {"cpu", "memory", "ephemeral-storage"}}
    return Free(wanted.get("cpu", 0), wanted.get("memory", 0), wanted.get("ephemeral-storage", 0), others)


def _free_of(node: Free, name: str) -> int:
    match name:
        case "cpu":
            return max(0, node.cpu_milli)
        case "memory":
            return max(0, node.memory_bytes)
        case "ephemeral-storage":
            return max(0, node.disk_bytes)
        case _:
            return max(0, node.others.get(name, 0))


def _amount(name: str, count: int) -> str:
    match name:
        case "cpu":
            return f"{count / 1000:g} CPU cores"
        case "memory":
            return f"{count / 10**9:.1f} GB of memory"
        case "ephemeral-storage":
            return f"{count / 10**9:.1f} GB of disk"
        case _:
            return f"{count} {name}"


def why_not_started(pod: PodShape, waiting: Waiting | None, hints: Hints) -> Told:
    """Tell why its node does not run its container yet."""
    if waiting is not None:
        if waiting.reason in _NAME_FAILURES:
            return Told(Reason.IMAGE_NOT_FOUND, clause(waiting.message or waiting.reason))
        if waiting.reason in _PULL_FAILURES:
            return _pull_failed(pod, waiting, hints)
        if waiting.reason not in {"", "ContainerCreating", "PodInitializing"}:
            return Told(Reason.STARTING, clause(waiting.message or waiting.reason))
    # The scheduler's own times are exact, a node's whole seconds: its word comes first whatever they say.
    last = max((event for event in hints.events if event.reason != "Scheduled"), key=_when, default=None)
    if last is None:
        return Told(Reason.STARTING)
    if last.reason in {"FailedMount", "FailedAttachVolume"}:
        return Told(Reason.VOLUME_WAITS, clause(last.message))
    if last.reason == "Pulling":
        return _pulling(pod, last, hints.now)
    return Told(Reason.STARTING, clause(last.message) if last.type == "Warning" else "")


def _pulling(pod: PodShape, since: EventShape, now: datetime | None) -> Told:
    if now is None or since.at is None:
        return Told(Reason.PULLING, _image(pod))
    seconds = max(0, round((now - since.at).total_seconds()))
    # Nodes do not tell how much is there of how much; one whose pull stands still for a minute gives it up by itself.
    return Told(
        Reason.PULLING, f"{_image(pod)}, for {seconds} s so far", Progress("pulling", done=seconds, unit="seconds")
    )


def _pull_failed(pod: PodShape, waiting: Waiting, hints: Hints) -> Told:
    """Tell whether it is worth another try. A back-off says only that, the event before it says why."""
    told = [event.message for event in sorted(hints.events, key=_when) if event.reason == "Failed"]
    messages = [waiting.message, *(text for text in reversed(told) if "pull" in text.lower())]
    for message in messages:
        if _DENIED.search(message):
            if _perhaps_without_its_credentials(pod, hints.now):
                break
            return Told(Reason.PULL_DENIED, f"{_image(pod)} ({_core(message)})")
        if _NOT_FOUND.search(message):
            return Told(Reason.IMAGE_NOT_FOUND, f"{_image(pod)} ({_core(message)})")
    return Told(Reason.PULLING, f"{_image(pod)}, so far without success ({_core(messages[-1])})")


def _perhaps_without_its_credentials(pod: PodShape, now: datetime | None) -> bool:
    """Tell whether its node may have had no time to read the Pod's credentials, so that another try may succeed."""
    if not pod.spec.image_pull_secrets:
        return False
    placed = pod.condition.get("PodScheduled")
    since = None if placed is None else placed.last_transition_time
    return now is None or since is None or (now - since).total_seconds() < _SECOND_TRY_SECONDS


def _core(message: str) -> str:
    """Return what is at the end of the chain of an error's causes, which begin with what everybody knows."""
    text = clause(message)
    while ": " in text and len(text) > 120:
        text = text.split(": ", 1)[1]
    return text


def _image(pod: PodShape) -> str:
    return pod.spec.containers[0].image if pod.spec.containers else "its image"


def _when(event: EventShape) -> float:
    return 0.0 if event.at is None else event.at.timestamp()


def _latest(events: Sequence[EventShape]) -> str:
    last = max(events, key=_when, default=None)
    return "" if last is None else last.message


# ---- the end


def why_ended(pod: PodShape, terminated: Terminated | None) -> Told:
    """Tell why it ended that nobody here asked to."""
    status = pod.status
    disrupted = pod.condition.get("DisruptionTarget")
    if was_on_lost_node(pod):
        return Told(Reason.NODE_LOST, f"its node {pod.spec.node_name} is gone")
    if terminated is not None and terminated.reason == "OOMKilled":
        return Told(Reason.OUT_OF_MEMORY)
    if status.reason == "Evicted":
        own_disk = "ephemeral" in status.message and "exceeds" in status.message
        return Told(Reason.DISK_FULL if own_disk else Reason.EVICTED, clause(status.message))
    if disrupted is not None and disrupted.status == "True":
        return Told(Reason.EVICTED, clause(disrupted.message or disrupted.reason))
    if terminated is not None and terminated.reason in _NOT_STARTED:
        return Told(Reason.REJECTED, clause(terminated.message))
    if pod.metadata.deletion_timestamp is not None:
        return Told(Reason.DELETED_OUTSIDE, f"its Pod {pod.metadata.name} was deleted, not by Neuropod")
    if terminated is None or terminated.reason == "ContainerStatusUnknown":
        return Told(Reason.EVICTED, clause(status.message or status.reason or "its node did not run it to its end"))
    if terminated.exit_code == 0:
        return Told(Reason.EXITED)
    return Told(Reason.CRASHED, last_lines(terminated.message))


def was_on_lost_node(pod: PodShape) -> bool:
    """Tell whether the cluster gave the Pod up because its node is no more, or is fenced (`out-of-service`)."""
    disrupted = pod.condition.get("DisruptionTarget")
    return disrupted is not None and disrupted.status == "True" and disrupted.reason == "DeletionByPodGC"


def last_lines(text: str) -> str:
    """Return the last lines of what a container wrote, as one clause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return clause(" / ".join(lines[-_LAST_LINES:]))


def clause(text: str) -> str:
    """Return what others wrote as part of a sentence of ours: one line, without what a terminal would obey."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    plain = " ".join(plain.split()).rstrip(". ")
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"


# ---- what the API server refuses


def refused(message: str) -> Told | None:
    """Tell why the API server does not take an object (403, 422); None: it is about our rights, or will pass."""
    if is_beyond_quota(message):
        return Told(Reason.QUOTA, clause(_after(message, "exceeded quota: ")))
    if "violates PodSecurity" in message or "denied the request" in message or "is invalid" in message:
        return Told(Reason.REJECTED, clause(message))
    if "forbidden: " in message and ("must be" in message or "is not allowed" in message or "limit" in message):
        return Told(Reason.REJECTED, clause(_after(message, "forbidden: ")))
    return None


def is_beyond_quota(message: str) -> bool:
    """Tell whether a quota refuses an object, which the user has no more room for."""
    return "exceeded quota" in message


def is_not_counted(message: str) -> bool:
    """Tell whether a quota refuses whatever comes, since it is so new that nothing was counted."""
    return "status unknown for quota" in message


def _after(message: str, words: str) -> str:
    return message.partition(words)[2] or message


def not_answering(node: str, ready: Condition | None) -> str:
    """Return the sentence about a node that gives no answer."""
    since = None if ready is None else ready.last_transition_time
    return f"node {node} gives no answer" + ("" if since is None else f" since {since:%Y-%m-%d %H:%M:%S} UTC")
