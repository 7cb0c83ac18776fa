"""What a worker of the loop holds while it works on pods, and what it hands back: values, pure."""

from dataclasses import dataclass, replace
from datetime import datetime

from neuropod.ids import PodId, UserId, VolumeId
from neuropod.pods.lifecycle import Close, IncarnationFacts, Kill, PodFacts, Rest, Stop, closed, observed
from neuropod.runtimes.contract import Seen
from neuropod.words import JupyterMode


@dataclass(frozen=True, slots=True)
class Lease:
    """A pod's lease as it was claimed."""

    pod_id: PodId
    owner_id: UserId
    pod_name: str
    token: str
    generation: int
    jupyter: JupyterMode
    volume_id: VolumeId | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A pod that this worker may work on: its lease and its facts, renewed by what is recorded."""

    lease: Lease
    facts: PodFacts


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pass, or a part of one, came out.

    `seen` is what was seen last; None: looked live, and nothing is there. `step`: a Stop or Kill that was sent, or the
    Rest that ended the pass. `hold`: the lease goes on and `due_at` stays as it is.
    """

    claimed: Claimed
    seen: Seen | None
    due_at: datetime | None
    step: Rest | Stop | Kill | None = None
    hold: bool = False

    @property
    def gives_back(self) -> bool:
        """Whether nothing is left of an ended incarnation that still has what it was given."""
        return self.seen is None and not_given_back(self.claimed.facts.incarnation)


@dataclass(frozen=True, slots=True)
class Closing:
    """An incarnation that ends, and what was seen of it last. The lease goes on, so that what is left is removed."""

    claimed: Claimed
    close: Close
    seen: Seen | None

    def facts(self, now: datetime) -> PodFacts | None:
        """Return the pod's facts with the end in them; None: it has no incarnation that could end."""
        facts, seen = self.claimed.facts, self.seen
        current = facts.incarnation
        if current is None:
            return None
        if seen is not None and seen.id.incarnation == current.number:
            current = observed(current, seen, now)
        return replace(facts, incarnation=closed(current, self.close))


def not_given_back(current: IncarnationFacts | None) -> bool:
    """Tell whether an ended incarnation still has what it was given."""
    return current is not None and not current.open and current.removed_at is None


def facts_after(outcome: Outcome, now: datetime) -> PodFacts:
    """Return the pod's facts with the outcome in them."""
    facts = outcome.claimed.facts
    blocked = outcome.step.reason if isinstance(outcome.step, Rest) else None
    since = now if blocked != facts.waiting_reason else facts.waiting_since
    current = facts.incarnation
    if outcome.gives_back and current is not None:
        current = replace(current, removed_at=now)
    elif current is not None and current.open:
        current = _after_look(current, outcome, now)
    return replace(facts, incarnation=current, waiting_reason=blocked, waiting_since=None if blocked is None else since)


def _after_look(current: IncarnationFacts, outcome: Outcome, now: datetime) -> IncarnationFacts:
    seen, step = outcome.seen, outcome.step
    after = current
    if seen is not None and seen.id.incarnation == current.number:
        after = observed(current, seen, now)
    if isinstance(step, Stop) and step.incarnation == current.number:
        after = replace(after, stop_sent_at=after.stop_sent_at or now, stop_reason=step.reason)
    return after
