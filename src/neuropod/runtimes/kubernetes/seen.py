"""What a Pod's object means: one `Seen`. Pure: the same object is the same answer on every server, at every time.

Called by `runtime`. A Pod that is not ended is told with hints where `runtime` looked for some.

The API tells times in whole seconds. What we write down ourselves (when it was ready, when it was told to stop) is
exact, so an end in the same second is told as the earliest moment that fits: after what came before it.
"""

from datetime import UTC, datetime, timedelta

from neuropod.runtimes.contract import Phase, Seen
from neuropod.runtimes.kubernetes import names, reasons
from neuropod.runtimes.kubernetes.reasons import Hints, Told
from neuropod.runtimes.kubernetes.shapes import ContainerState, PodShape
from neuropod.words import Reason

_MOMENT = timedelta(microseconds=1)
_ENDED = frozenset({"Succeeded", "Failed"})
_NO_HINTS = Hints()
_REASONS = {reason.value: reason for reason in Reason}


def seen_of(pod: PodShape, hints: Hints = _NO_HINTS) -> Seen | None:
    """Return what the Pod shows; None when it is none of ours."""
    workload_id = names.workload_of(pod.metadata.labels)
    if workload_id is None:
        return None
    started_at, ready_at, stopping_at = started(pod), ready(pod), stopping(pod)
    phase, told = _phase(pod, hints)
    terminated = state_of(pod).terminated
    return Seen(
        id=workload_id,
        identity=pod.metadata.uid,
        phase=phase,
        reason=told.reason,
        message=told.message,
        progress=told.progress,
        address=pod.status.pod_ip or None,
        exit_code=terminated.exit_code if terminated is not None and started_at is not None else None,
        started_at=started_at,
        ready_at=ready_at,
        stopping_at=stopping_at,
        finished_at=finished(pod) if phase is Phase.EXITED else None,
    )


def _phase(pod: PodShape, hints: Hints) -> tuple[Phase, Told]:
    if is_ended(pod):
        return Phase.EXITED, _why_ended(pod)
    if stopping(pod) is not None:
        return Phase.STOPPING, _asked(pod) or Told(Reason.DELETED_OUTSIDE)
    if not pod.spec.node_name:
        return Phase.PENDING, reasons.why_unscheduled(pod, hints)
    state = state_of(pod)
    if state.running is None:
        # Ended, and its node has not said so of the Pod as a whole yet.
        if state.terminated is not None:
            return (Phase.READY, Told(Reason.READY)) if ready(pod) else (Phase.PENDING, Told(Reason.NOT_READY))
        return Phase.PENDING, reasons.why_not_started(pod, state.waiting, hints)
    if ready(pod) is None:
        return Phase.PENDING, Told(Reason.NOT_READY)
    return Phase.READY, Told(Reason.READY)


def _why_ended(pod: PodShape) -> Told:
    return _asked(pod) or reasons.why_ended(pod, state_of(pod).terminated)


def _asked(pod: PodShape) -> Told | None:
    """Return why we ended it, if we did."""
    annotations = pod.metadata.annotations
    word = annotations.get(names.STOP_REASON)
    if word is None:
        return None
    known = _REASONS.get(word, Reason.REQUESTED)  # written by another version of ours
    return Told(known, annotations.get(names.STOP_MESSAGE, ""))


def state_of(pod: PodShape) -> ContainerState:
    """Return the state of its one container."""
    for status in pod.status.container_statuses:
        if status.name == names.CONTAINER:
            return status.state
    return ContainerState()


def is_ended(pod: PodShape) -> bool:
    """Tell whether nothing of it runs any more, nor will."""
    if reasons.was_on_lost_node(pod):
        return True
    if pod.status.phase in _ENDED:
        return state_of(pod).running is None
    # Without a node nobody acts on it: being deleted, it can get none any more.
    return pod.metadata.deletion_timestamp is not None and not pod.spec.node_name


def is_unplaced(pod: PodShape) -> bool:
    """Tell whether the scheduler found no node for it."""
    scheduled = pod.condition.get("PodScheduled")
    return scheduled is not None and scheduled.status == "False"


def is_starting(pod: PodShape) -> bool:
    """Tell whether it is on its way to run, as far as is told: nothing is wrong with it, nobody ended it."""
    state = state_of(pod)
    if state.running is not None or state.terminated is not None or is_ended(pod) or stopping(pod) is not None:
        return False
    waits = state.waiting is not None and state.waiting.reason not in {"", "ContainerCreating", "PodInitializing"}
    return not waits and not is_unplaced(pod)


def started(pod: PodShape) -> datetime | None:
    """Return when its process began to run."""
    state = state_of(pod)
    if state.running is not None:
        return state.running.started_at
    if state.terminated is None or state.terminated.reason in {"StartError", "ContainerCannotRun"}:
        return None
    at = state.terminated.started_at
    return at if at is not None and at.year > 1970 else None


def ready(pod: PodShape) -> datetime | None:
    """Return when it became ready."""
    began = started(pod)
    if began is None:
        return None
    if pod.metadata.annotations.get(names.READY_WHEN, "process") == "process":
        return began
    at = moment(pod.metadata.annotations.get(names.READY_AT))
    return None if at is None else max(at, began)


def stopping(pod: PodShape) -> datetime | None:
    """Return when it was told to end, by us or, as a deletion, by somebody else."""
    metadata = pod.metadata
    at = moment(metadata.annotations.get(names.STOPPING_AT))
    if at is None:
        deleted = moment(metadata.deletion_timestamp)
        if deleted is None:
            return None
        at = deleted - timedelta(seconds=metadata.deletion_grace_period_seconds or 0)
    return max(at, ready(pod) or at)


def finished(pod: PodShape) -> datetime | None:
    """Return when it ended."""
    terminated = state_of(pod).terminated
    told = None if terminated is None else terminated.finished_at
    if told is None or told.year <= 1970:
        told = _last_word(pod)
    before = [at + _MOMENT for at in (stopping(pod), ready(pod)) if at is not None]
    known = [at for at in (told, *before) if at is not None]
    return max(known) if known else None


def _last_word(pod: PodShape) -> datetime | None:
    """Return when something was told of it last: the end of one whose process never ran, or whose node is lost."""
    of_conditions = [one.last_transition_time for one in pod.status.conditions if one.type != "DisruptionTarget"]
    return max((at for at in of_conditions if at is not None), default=moment(pod.metadata.creation_timestamp or None))


def moment(text: str | None) -> datetime | None:
    """Return a time as the API, or an annotation of ours, writes it; None for none, or nonsense."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def written(at: datetime) -> str:
    """Return a time as an annotation of ours holds it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
