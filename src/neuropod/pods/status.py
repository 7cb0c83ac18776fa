"""What a pod is shown as: made from its facts each time it is shown, stored nowhere. Used by service and gateway.

A status and a reason are for programs (closed sets in `words`), the sentence is for people: it says what is, and where
something has to be done, what to do next. The rules stand in the order of `status_of`; they mirror `lifecycle.decide`,
which reads the same facts.
"""

from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import assert_never

from neuropod.pods.lifecycle import CRASHES, IncarnationFacts, PodFacts, crashes_in_a_row, may_start_at
from neuropod.runtimes.contract import Phase, Progress
from neuropod.words import Reason, Status, Want

_STILL_FAILING = 3  # passes that failed in a row before it is shown: one may be luck


@dataclass(frozen=True, slots=True)
class Shown:
    """A pod's status; `place` is given while it waits, `progress` while a preparation tells how far it is."""

    status: Status
    reason: Reason
    message: str
    progress: Progress | None = None
    since: datetime | None = None
    place: int | None = None


def status_of(facts: PodFacts, now: datetime) -> Shown:
    """Return what the pod is shown as."""
    current = facts.incarnation
    running = current is not None and current.open
    if facts.want is Want.GONE:
        return _deleting(facts)
    if not facts.served and (running or facts.want is Want.RUNNING):
        return Shown(
            Status.UNREACHABLE,
            Reason.NO_SERVER,
            "No server is connected to the machine or cluster that this pod belongs to; "
            "it is left as it is until one is.",
            since=(current and current.last_seen_at) or facts.want_at,
        )
    if current is not None and current.open:
        return _during_run(facts, current)
    if facts.want is Want.STOPPED:
        return _stopped(facts, current)
    return _about_to_start(facts, current, now)


def _deleting(facts: PodFacts) -> Shown:
    if facts.served:
        return Shown(Status.DELETING, facts.want_reason, "Being deleted.", since=facts.want_at)
    message = "Will be deleted as soon as a server is connected to the machine or cluster that it belongs to."
    return Shown(Status.DELETING, Reason.NO_SERVER, message, since=facts.want_at)


def _during_run(facts: PodFacts, current: IncarnationFacts) -> Shown:
    if current.unavailable_since is not None:
        return Shown(
            Status.UNREACHABLE,
            Reason.RUNTIME_UNREACHABLE,
            "The machine or cluster that runs this pod does not answer; it may well be running. "
            "Nothing is done to it until there is an answer.",
            since=current.unavailable_since,
        )
    if facts.want is Want.STOPPED:
        since = current.stop_sent_at or facts.want_at
        return Shown(Status.STOPPING, facts.want_reason, _stopping_because(facts, facts.want_reason), since=since)
    if current.run_revision < facts.run_revision:
        message = "Being stopped, and started anew right afterwards."
        return Shown(Status.STOPPING, Reason.REVISION, message, since=current.stop_sent_at or facts.want_at)
    if current.stop_sent_at is not None or current.phase is Phase.STOPPING:
        reason = current.stop_reason or current.reason
        since = current.stop_sent_at or current.last_seen_at or current.opened_at
        return Shown(Status.STOPPING, reason, _stopping_because(facts, reason), since=since)
    if current.phase is Phase.READY:
        ready_since = current.ready_at or current.started_at
        if current.device_trouble:
            message = f"Running, but {current.device_trouble}. Restart it to get another GPU."
            return Shown(Status.RUNNING, Reason.GPU_LOST, message, since=ready_since)
        return Shown(Status.RUNNING, Reason.READY, "Running.", since=ready_since)
    if facts.failures >= _STILL_FAILING:
        return _ours(facts, current.opened_at)
    return Shown(
        Status.STARTING, current.reason, _starting(current), progress=current.progress, since=current.opened_at
    )


def _stopping_because(facts: PodFacts, reason: Reason) -> str:
    match reason:
        case Reason.START_TIMEOUT:
            return f"Being stopped: it was not ready within {_span(facts.policy.start_deadline_seconds)}."
        case Reason.DISK_FULL:
            return "Being stopped: it wrote more than its disk holds."
        case Reason.SERVER_DOWN:
            return "Being stopped with the server; it starts again with it."
        case Reason.BALANCE | Reason.SUSPENDED | Reason.DEADLINE | Reason.IDLE:
            return f"Being stopped: {WHY_STOPPED[reason]}."
        case _:
            return "Being stopped."


def _starting(current: IncarnationFacts) -> str:
    told = f": {current.message}" if current.message else ""
    match current.reason:
        case Reason.PREPARING:
            return f"Preparing what it runs on{told or '. The first start takes longest'}."
        case Reason.PULLING:
            return f"Fetching its image{told}."
        case Reason.SCHEDULING:
            return f"Looking for a place to run{told}."
        case Reason.UNSCHEDULABLE:
            return (
                f"No machine of the cluster has room for it now{told}. It starts as soon as one has; waiting is free."
            )
        case Reason.VOLUME_WAITS:
            return f"Its volume is not there yet{told}."
        case Reason.IMAGE_NOT_FOUND | Reason.PULL_DENIED:
            return f"Its image cannot be fetched{told}."
        case Reason.NOT_READY:
            return "Its process runs and does not answer yet. Its log shows what it is doing."
        case Reason.PLACE_OCCUPIED:
            return "Waits for what is left of its last run to be cleared away."
        case _:
            return f"Starting{told}."


WHY_STOPPED = {
    Reason.BALANCE: "its owner's balance is used up. Top up, then start it",
    Reason.SUSPENDED: "its owner is suspended",
    Reason.DEADLINE: "its time was up",
    Reason.IDLE: "it was idle",
}


def _stopped(facts: PodFacts, last: IncarnationFacts | None) -> Shown:
    since = facts.want_at
    if last is not None and last.ended_at is not None:
        since = max(since, last.ended_at)
    kept = "Its volume is kept; what it wrote elsewhere is gone." if last is not None else "It never ran."
    why = WHY_STOPPED.get(facts.want_reason)
    message = f"Stopped. {kept}" if why is None else f"Stopped: {why}. {kept}"
    return Shown(Status.STOPPED, facts.want_reason, message, since=since)


def _about_to_start(facts: PodFacts, last: IncarnationFacts | None, now: datetime) -> Shown:
    at = may_start_at(facts)
    if at is None and last is not None:
        return _ended(facts, last)
    if at is not None and at > now and last is not None:
        return _again_later(facts, last, ceil((at - now).total_seconds()))
    if facts.waiting_reason is not None:
        return _waiting(facts, facts.waiting_reason)
    if facts.failures >= _STILL_FAILING:
        return _ours(facts, facts.requested_at)
    return Shown(Status.STARTING, Reason.STARTING, "About to start.", since=facts.requested_at)


def _waiting(facts: PodFacts, reason: Reason) -> Shown:
    if reason is Reason.PLACE_OCCUPIED:
        message = (
            "Something that Neuropod does not know stands in this pod's place on its machine or cluster; "
            "an administrator has to look at it (neuropod doctor)."
        )
        return Shown(Status.WAITING, reason, message, since=facts.waiting_since)
    if reason is Reason.VOLUME_ELSEWHERE:
        message = (
            f"No machine of the cluster on which its volume can be used now has room for a pod of type "
            f"{facts.gpu_type}. It starts by itself as soon as one has; waiting is free."
        )
        return Shown(Status.WAITING, reason, message, since=facts.waiting_since)
    place = facts.room.place
    what = f"a free {facts.gpu_type}" if reason is Reason.NO_GPU else f"free CPU and memory ({facts.memory_gb} GB)"
    turn = "It is next" if place == 1 else f"{place - 1} asked earlier"
    message = f"Waits for {what}. {turn}; it starts by itself, and waiting is free."
    return Shown(Status.WAITING, reason, message, since=facts.waiting_since, place=place)


def _again_later(facts: PodFacts, last: IncarnationFacts, seconds: int) -> Shown:
    if last.reason in CRASHES:
        crashes = crashes_in_a_row(last, facts.policy)
        message = (
            f"It {_crash(facts, last)} and starts again in {seconds} s "
            f"(try {crashes} of {facts.policy.crash_restarts}). What it wrote outside its volume is gone."
        )
        if last.message:
            message += f" It said last: {last.message.rstrip('.')}."
        return Shown(Status.STARTING, Reason.CRASH_LOOP, message, since=last.ended_at)
    if last.reason is Reason.GPU_LOST:
        message = f"Its GPU cannot be used any more. It starts again in {seconds} s, on another one that is free."
        return Shown(Status.STARTING, last.reason, message, since=last.ended_at)
    told = f" ({last.message.rstrip('.')})" if last.message else ""
    message = f"It was interrupted{told} and starts again in {seconds} s. What it wrote outside its volume is gone."
    return Shown(Status.STARTING, last.reason, message, since=last.ended_at)


def _crash(facts: PodFacts, last: IncarnationFacts) -> str:
    if last.reason is Reason.OUT_OF_MEMORY:
        return f"ran out of memory ({facts.memory_gb} GB)"
    return "crashed" if last.exit_code is None else f"crashed (exit code {last.exit_code})"


def _ended(facts: PodFacts, last: IncarnationFacts) -> Shown:
    status = Status.FINISHED if last.reason is Reason.EXITED else Status.FAILED
    reason = Reason.CRASHED_TOO_OFTEN if last.reason is Reason.CRASHED else last.reason
    return Shown(status, reason, _ended_because(facts, last), since=last.ended_at)


def _ended_because(facts: PodFacts, last: IncarnationFacts) -> str:
    told = last.message.rstrip(".")
    match last.reason:
        case Reason.EXITED:
            return "Its program ended by itself. Start it to run it again; what it wrote outside its volume is gone."
        case Reason.OUT_OF_MEMORY:
            return f"It ran out of memory ({facts.memory_gb} GB); start it on a larger type."
        case Reason.CRASHED:
            crashes = crashes_in_a_row(last, facts.policy)
            times = f", {crashes} times in a row" if crashes > 1 else ""
            why = f": {told}" if told else ""
            return f"It {_crash(facts, last)}{times}{why}. Its log says more; start it to try again."
        case Reason.DISK_FULL:
            return (
                f"It wrote more than its disk holds{f' ({told})' if told else ''}. Give it a larger container disk "
                f"(now {facts.container_disk_gb} GB) or volume, or delete files in the volume, then start it."
            )
        case Reason.START_TIMEOUT:
            return (
                f"It was not ready within {_span(facts.policy.start_deadline_seconds)}. "
                "Its log says more; start it to try again."
            )
        case Reason.SECRET_MISSING:
            what = told or "a secret that it names is not there"
            return f"It was not started: {what}. Set it, or change the pod's variables, then start it."
        case _:
            what, then = _ENDS.get(last.reason, ("It ended", "Start it to run it again."))
            return f"{what}{f': {told}' if told else ''}. {then}"


# Why it ended, as far as that is not told, and what to do then.
_ENDS = {
    Reason.PREPARE_FAILED: ("What it runs on could not be prepared", "Start it to try again."),
    Reason.REJECTED: ("It cannot run as it is", "Change it, then start it."),
    Reason.IMAGE_NOT_FOUND: ("Its image is not there", "Correct its name, then start it."),
    Reason.PULL_DENIED: (
        "The registry refused its image",
        "Give a name and password for that registry, or take another image, then start it.",
    ),
    Reason.VOLUME_LOST: (
        "What was in its volume is lost",
        "Let it attach another volume, or delete it and the volume; nothing makes an empty one by itself.",
    ),
    Reason.QUOTA: ("It would take more than its owner may have there", "Stop another pod, then start it."),
}


def _ours(facts: PodFacts, since: datetime) -> Shown:
    message = f"A fault of Neuropod keeps it from starting (tried {facts.failures} times); the server's log says more."
    return Shown(Status.STARTING, Reason.INTERNAL, message, since=since)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"


def is_settled(status: Status) -> bool:
    """Tell whether nothing changes by itself soon: what `--wait` waits for, besides running."""
    match status:
        case Status.RUNNING | Status.STOPPED | Status.FINISHED | Status.FAILED:
            return True
        case Status.WAITING | Status.STARTING | Status.STOPPING | Status.UNREACHABLE | Status.DELETING:
            return False
        case _:
            assert_never(status)
