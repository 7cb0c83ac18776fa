"""Stops a pod whose limit of time is reached: the use-case `stop_pod`, once it was seen again under the row's lock.

Called by reconcile.limits, whose look may be older than what the owner did meanwhile.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from neuropod.accounts.access import Actor
from neuropod.db.engine import Session
from neuropod.ids import PodId
from neuropod.pods import store
from neuropod.pods.records import PodRow
from neuropod.pods.service import Pods
from neuropod.words import Reason, Want


@dataclass(frozen=True, slots=True)
class Overdue:
    """An incarnation whose limit was reached, as a look found it."""

    pod_id: PodId
    number: int
    reason: Reason  # DEADLINE or IDLE
    idle_since: datetime | None = None


async def stop_at_limit(session: Session, pods: Pods, overdue: Overdue, *, now: datetime, actor: Actor) -> bool:
    """Stop the pod if it still is as it was found; False when it was stopped, started anew or given more meanwhile."""
    row = await store.lock_pod(session, overdue.pod_id)
    run = await store.incarnation(session, row.id)
    if row.closed_at is not None or row.want != Want.RUNNING:
        return False
    if run is None or run.number != overdue.number or run.ended_at is not None or run.started_at is None:
        return False
    if run.run_revision != row.run_revision or not _is_reached(row, run.started_at, overdue, now):
        return False
    await pods.stop_pod(session, row.id, actor=actor, reason=overdue.reason)
    return True


def _is_reached(row: PodRow, started_at: datetime, overdue: Overdue, now: datetime) -> bool:
    deadline = overdue.reason is Reason.DEADLINE
    since = started_at if deadline else overdue.idle_since
    limit = row.stop_after_seconds if deadline else row.idle_stop_after_seconds
    return since is not None and limit is not None and since + timedelta(seconds=limit) <= now
