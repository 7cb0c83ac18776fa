"""What to do next for a pod: the table of DESIGN §3 as one pure function, `decide`. Called by reconcile.pods.

A pass of the loop claims a pod, loads its facts, observes its place on the runtime, asks `decide`, acts once, records.
First start, restart, retry, recovery after a crash of the server and clean-up after a stale worker are this same pass:
no step assumes that an earlier one happened, each is derived from what is there now.

The rules, in the order in which they are asked:

1.  Something stands in the pod's place that is not its newest incarnation: an older one is taken away (killed first
    when it still runs), a newer one is not ours to judge (a restored database knows less than the world) and rests.
2.  The newest incarnation has ended and something of it is left: taken away, killed first when it runs again.
3.  Nothing is left and the pod is gone: forgotten.
4.  Nothing is left and the pod is stopped: rests until something happens.
5.  It shall run and may not start again (it ended well, it failed for good, it crashed too often): rests.
6.  It shall run and may start again later (it crashed): rests until then.
7.  It shall run now: opened where there is room, else it waits in its queue.
8.  Open, never seen, nothing there, still wanted as it is: the runtime is asked for it.
9.  Open, never seen, nothing there, not wanted any more: closed.
10. Open, seen before, nothing there although asked live: closed as lost.
11. Open and exited: closed with what the runtime told.
12. Open and being stopped: rests within the grace, is killed past it.
13. Open, alive, not wanted as it is (stopped, gone, a newer revision): stopped.
14. Open, pending past the start deadline, or for a reason that does not pass by itself: stopped.
15. Open, pending within it: looked at again soon. Only time in which it was observed counts, and only what is its own:
    preparing, waiting for a node and a pull that moves on do not, so a server that was down kills nothing.
16. Open and ready: rests.

A step names the incarnation that it is about, which is the newest or the older one that was seen, never another.
Consumers match on `Step` and end in `assert_never`.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from neuropod.ids import IncarnationId, PodId, RuntimeId
from neuropod.runtimes.contract import Phase, Progress, Seen
from neuropod.settings import ReconcileSettings
from neuropod.words import Reason, Want

PENDING_LOOK_SECONDS = 30  # a pending workload is looked at this often, so that its deadline counts observed time
PENDING_GAP_SECONDS = 90  # more between two looks means that nobody looked: that time does not count
WAITING_LOOK_SECONDS = 60  # the first in a queue looks at the capacity this often; the others are woken by it,
QUEUED_LOOK_SECONDS = 600  # and look for themselves this often, should a wake-up have been missed
KILL_PAUSE_SECONDS = 5  # between two kills of what does not end
MAX_CRASH_WAIT_SECONDS = 300.0

CRASHES = frozenset({Reason.CRASHED, Reason.OUT_OF_MEMORY})
FINAL = frozenset(
    {
        Reason.EXITED,
        Reason.REJECTED,
        Reason.SECRET_MISSING,
        Reason.PREPARE_FAILED,
        Reason.DISK_FULL,
        Reason.START_TIMEOUT,
        Reason.IMAGE_NOT_FOUND,
        Reason.PULL_DENIED,
        Reason.QUOTA,
        Reason.VOLUME_LOST,
    }
)  # an end that a restart would only repeat
_AT_ONCE = frozenset({Reason.SERVER_DOWN, Reason.REVISION})
_STOPS = frozenset(
    {
        Reason.REQUESTED,
        Reason.DEADLINE,
        Reason.IDLE,
        Reason.BALANCE,
        Reason.SUSPENDED,
    }
)
_LOSSES = frozenset({Reason.LOST, Reason.GPU_LOST, Reason.EVICTED, Reason.NODE_LOST, Reason.DELETED_OUTSIDE})
END_REASONS = CRASHES | FINAL | _AT_ONCE | _STOPS | _LOSSES
_NOT_COUNTED = frozenset({Reason.PREPARING, Reason.SCHEDULING, Reason.UNSCHEDULABLE, Reason.VOLUME_WAITS})
_HOPELESS = frozenset({Reason.IMAGE_NOT_FOUND, Reason.PULL_DENIED})  # a runtime that tries on and on gets no further


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient we are; settings.reconcile as far as decisions need it."""

    start_deadline_seconds: float = 600
    stop_grace_seconds: int = 30
    crash_restarts: int = 5
    crash_quiet_seconds: float = 3600
    crash_wait_seconds: float = 5

    @classmethod
    def of(cls, settings: ReconcileSettings) -> "Policy":
        """Take it from the settings."""
        return cls(
            start_deadline_seconds=settings.start_deadline_seconds,
            stop_grace_seconds=settings.stop_grace_seconds,
            crash_restarts=settings.crash_restarts,
            crash_quiet_seconds=settings.crash_quiet_seconds,
            crash_wait_seconds=settings.crash_wait_seconds,
        )


@dataclass(frozen=True, slots=True)
class Room:
    """Whether the pod could be opened now, as read without a lock: Open looks again under it."""

    free: bool = True
    reason: Reason = Reason.NO_CAPACITY
    place: int = 1  # among those that wait on the same runtime for the same type


@dataclass(frozen=True, slots=True)
class IncarnationFacts:
    """What is known of a pod's newest incarnation; open while `ended_at` is None."""

    id: IncarnationId
    number: int
    run_revision: int
    opened_at: datetime
    reason: Reason
    crashes: int = 0
    message: str = ""
    phase: Phase | None = None
    progress: Progress | None = None
    exit_code: int | None = None
    pending_seconds: float = 0.0
    first_seen_at: datetime | None = None
    last_seen_at: datetime | None = None
    unavailable_since: datetime | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None
    stop_sent_at: datetime | None = None
    stop_reason: Reason | None = None
    ended_at: datetime | None = None
    removed_at: datetime | None = None
    device_trouble: str = ""  # what befell a GPU of its

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod's wish and its newest incarnation, as the database holds them; `pods.store` builds it."""

    id: PodId
    runtime_id: RuntimeId
    want: Want
    want_reason: Reason
    want_at: datetime
    requested_at: datetime
    run_revision: int
    gpu_type: str
    memory_gb: int
    container_disk_gb: int
    incarnation: IncarnationFacts | None
    policy: Policy
    room: Room = Room()
    waiting_reason: Reason | None = None
    waiting_since: datetime | None = None
    failures: int = 0  # passes that failed in a row
    served: bool = True  # by a server of ours, as far as this one knows


@dataclass(frozen=True, slots=True)
class Open:
    """Make the next incarnation with its price and its allocations, in one transaction."""

    incarnation: int
    crashes: int  # in a row before it


@dataclass(frozen=True, slots=True)
class Wait:
    """No room: wait in order of request per runtime and type."""

    reason: Reason
    place: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Ensure:
    """Ask the runtime for the incarnation."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask it to end; `stop_sent_at` and the reason are recorded."""

    incarnation: int
    reason: Reason
    grace_seconds: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End it now; looked at again after KILL_PAUSE_SECONDS."""

    incarnation: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Close:
    """Record the end of the newest incarnation. Nothing of it runs; what is left is removed by the next step."""

    incarnation: int
    reason: Reason
    message: str
    ended_at: datetime
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Take away what is left of an ended incarnation."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until `until` (None: until something happens). `reason` is given where the pod is blocked."""

    until: datetime | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing is left: drop the kept logs and close the pod's row."""


Step = Open | Wait | Ensure | Stop | Kill | Close | Remove | Rest | Forget


def decide(facts: PodFacts, seen: Seen | None, now: datetime) -> Step:
    """Return the one thing to do next. `seen` None means: looked live, and nothing stands in the pod's place."""
    current = facts.incarnation
    if seen is not None and (current is None or seen.id.incarnation != current.number):
        return _clear_place(current, seen, now)  # rule 1
    if current is None or not current.open:
        return _between_runs(facts, seen, now)
    if seen is None:
        return _not_there(facts, current, now)
    return _there(facts, current, seen, now)


def _clear_place(current: IncarnationFacts | None, seen: Seen, now: datetime) -> Step:
    if current is None or seen.id.incarnation > current.number:
        return Rest(until=now + timedelta(seconds=WAITING_LOOK_SECONDS), reason=Reason.PLACE_OCCUPIED)
    return _take_away(seen)


def _take_away(seen: Seen) -> Step:
    if seen.phase is Phase.EXITED:
        return Remove(seen.id.incarnation)
    return Kill(seen.id.incarnation, Reason.LOST)


def _between_runs(facts: PodFacts, seen: Seen | None, now: datetime) -> Step:
    if seen is not None:
        return _take_away(seen)  # rule 2
    match facts.want:
        case Want.GONE:
            return Forget()  # rule 3
        case Want.STOPPED:
            return Rest()  # rule 4
        case Want.RUNNING:
            return _start(facts, now)
        case _:
            assert_never(facts.want)


def _start(facts: PodFacts, now: datetime) -> Step:
    at = may_start_at(facts)
    if at is None:
        return Rest()  # rule 5
    if at > now:
        return Rest(until=at)  # rule 6
    if not facts.room.free:  # rule 7
        return wait_for(facts.room, now)
    return opening(facts)


def opening(facts: PodFacts) -> Open:
    """Return the next incarnation's number, and the crashes before it: a new revision starts without any."""
    last = facts.incarnation
    if last is None:
        return Open(1, crashes=0)
    anew = last.run_revision < facts.run_revision
    return Open(last.number + 1, crashes=0 if anew else crashes_in_a_row(last, facts.policy))


def wait_for(room: Room, now: datetime) -> Wait:
    """Return how a pod waits that has no room: the first of a queue looks again, the others are woken by it."""
    woken = room.place > 1 and room.reason is not Reason.VOLUME_ELSEWHERE  # who stands in no queue is woken by nobody
    seconds = QUEUED_LOOK_SECONDS if woken else WAITING_LOOK_SECONDS
    return Wait(room.reason, room.place, now + timedelta(seconds=seconds))


def _not_there(facts: PodFacts, current: IncarnationFacts, now: datetime) -> Step:
    if current.first_seen_at is None:
        if _wanted_as_it_is(facts, current):
            return Ensure(current.number)  # rule 8
        return Close(current.number, _why_not_wanted(facts), "", ended_at=now)  # rule 9
    ended_at = current.last_seen_at or now
    return Close(current.number, current.stop_reason or Reason.LOST, "", ended_at=ended_at)  # rule 10


def _there(facts: PodFacts, current: IncarnationFacts, seen: Seen, now: datetime) -> Step:
    match seen.phase:
        case Phase.EXITED:
            return _close_exited(current, seen, now)  # rule 11
        case Phase.STOPPING:
            return _stopping(facts, current, seen, now)
        case Phase.PENDING | Phase.READY:
            return _alive(facts, current, seen, now)
        case _:
            assert_never(seen.phase)


def _close_exited(current: IncarnationFacts, seen: Seen, now: datetime) -> Close:
    ended_at = seen.finished_at or now
    earliest = seen.started_at or current.started_at or current.opened_at
    return Close(
        current.number,
        _end_reason(current, seen),
        seen.message,
        ended_at=max(ended_at, earliest),
        exit_code=seen.exit_code,
    )


def _end_reason(current: IncarnationFacts, seen: Seen) -> Reason:
    """Return why it ended: what the runtime knows, else what we asked for, else what the exit code tells."""
    plain = {Reason.EXITED, Reason.CRASHED}
    if seen.reason in END_REASONS - plain:
        return seen.reason
    if current.stop_reason is not None:
        return current.stop_reason  # it ended by our signal, whatever its exit code
    return Reason.EXITED if seen.exit_code == 0 else Reason.CRASHED


def _stopping(facts: PodFacts, current: IncarnationFacts, seen: Seen, now: datetime) -> Step:
    since = current.stop_sent_at or seen.stopping_at
    if since is None:  # stopped by a worker that died before it could record it: say it again, it changes nothing
        return _stop(facts, current, _why_not_wanted(facts))
    return _until_killed(facts, current, since, now)


def _until_killed(facts: PodFacts, current: IncarnationFacts, since: datetime, now: datetime) -> Step:
    ends = since + timedelta(seconds=facts.policy.stop_grace_seconds)  # rule 12
    if now < ends:
        return Rest(until=ends)
    return Kill(current.number, current.stop_reason or _why_not_wanted(facts))


def _alive(facts: PodFacts, current: IncarnationFacts, seen: Seen, now: datetime) -> Step:
    if current.stop_sent_at is not None:  # asked already; the runtime does not show it yet
        return _until_killed(facts, current, current.stop_sent_at, now)
    if not _wanted_as_it_is(facts, current):
        return _stop(facts, current, _why_not_wanted(facts))  # rule 13
    if seen.phase is Phase.READY:
        return Rest()  # rule 16
    if seen.reason in _HOPELESS:
        return _stop(facts, current, seen.reason)  # rule 14
    left = facts.policy.start_deadline_seconds - pending_seconds(current, seen, now)
    if left <= 0:
        return _stop(facts, current, Reason.START_TIMEOUT)  # rule 14
    return Rest(until=now + timedelta(seconds=min(left, PENDING_LOOK_SECONDS)))  # rule 15


def _stop(facts: PodFacts, current: IncarnationFacts, reason: Reason) -> Stop:
    return Stop(current.number, reason, facts.policy.stop_grace_seconds)


def _wanted_as_it_is(facts: PodFacts, current: IncarnationFacts) -> bool:
    return facts.want is Want.RUNNING and current.run_revision >= facts.run_revision


def _why_not_wanted(facts: PodFacts) -> Reason:
    return Reason.REVISION if facts.want is Want.RUNNING else facts.want_reason


def pending_seconds(current: IncarnationFacts, seen: Seen, now: datetime) -> float:
    """Return how much of the start deadline is used up, this look included; the loop records it."""
    if seen.phase is not Phase.PENDING or current.last_seen_at is None or seen.reason in _NOT_COUNTED:
        return current.pending_seconds
    if seen.reason is Reason.PULLING and seen.progress != current.progress:
        return current.pending_seconds
    passed = (now - current.last_seen_at).total_seconds()
    return current.pending_seconds + (passed if 0 < passed <= PENDING_GAP_SECONDS else 0.0)


def crashes_in_a_row(ended: IncarnationFacts, policy: Policy) -> int:
    """Return the crashes up to and with this incarnation; a long quiet run before its end forgets the earlier ones."""
    began, end = ended.started_at, ended.ended_at
    quiet = began is not None and end is not None and (end - began).total_seconds() >= policy.crash_quiet_seconds
    return (0 if quiet else ended.crashes) + (1 if ended.reason in CRASHES else 0)


def may_start_at(facts: PodFacts) -> datetime | None:
    """Return when a pod without an open incarnation may start (the past: now), None when it may not by itself.

    A new revision may always start at once; else how the last incarnation ended decides.
    """
    last = facts.incarnation
    if last is None or last.run_revision < facts.run_revision:
        return facts.requested_at
    ended_at = last.ended_at or facts.requested_at
    if last.reason in FINAL:
        return None
    if last.reason in _AT_ONCE:
        return ended_at
    wait = facts.policy.crash_wait_seconds
    if last.reason in CRASHES:
        crashes = crashes_in_a_row(last, facts.policy)
        if crashes > facts.policy.crash_restarts:
            return None
        wait = min(wait * 2 ** (crashes - 1), MAX_CRASH_WAIT_SECONDS)
    return ended_at + timedelta(seconds=wait)


def rejected(facts: PodFacts, reason: Reason, message: str, now: datetime) -> Close | None:
    """Return how an open incarnation ends that the runtime rejects; None when only its place is taken: look again."""
    current = facts.incarnation
    if current is None or not current.open or reason is Reason.PLACE_OCCUPIED:
        return None
    # A GPU that is gone is no fault of the workload: it is opened again, on another one.
    kept = reason if reason in FINAL or reason is Reason.GPU_LOST else Reason.REJECTED
    return Close(current.number, kept, message, ended_at=now)


def observed(current: IncarnationFacts, seen: Seen, now: datetime) -> IncarnationFacts:
    """Return the incarnation's facts after a look at it; what was known stays where the look tells nothing of it."""
    ready_at = seen.ready_at or now if seen.phase is Phase.READY else None
    return replace(
        current,
        phase=seen.phase,
        reason=seen.reason,
        message=seen.message,
        progress=seen.progress,
        exit_code=seen.exit_code,
        pending_seconds=pending_seconds(current, seen, now),
        first_seen_at=current.first_seen_at or now,
        last_seen_at=now,
        unavailable_since=None,
        started_at=current.started_at or seen.started_at,
        ready_at=current.ready_at or seen.ready_at or ready_at,
    )


def closed(current: IncarnationFacts, close: Close) -> IncarnationFacts:
    """Return the incarnation's facts after its end."""
    return replace(
        current,
        phase=Phase.EXITED,
        reason=close.reason,
        message=close.message,
        progress=None,
        exit_code=close.exit_code,
        unavailable_since=None,
        ended_at=close.ended_at,
    )
