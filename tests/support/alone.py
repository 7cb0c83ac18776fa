"""What the loop's SQL does for many pods at once, done for one: an opening, a record, an end."""

from datetime import datetime

from neuropod.db.engine import Session
from neuropod.pods.claims import Claimed, Closing, Outcome
from neuropod.pods.lifecycle import Close, Kill, Rest, Stop
from neuropod.pods.opening.store import Opened, open_incarnations
from neuropod.pods.runs.store import close_incarnations, record_passes
from neuropod.runtimes.contract import Capacity, Seen


async def open_incarnation(session: Session, claimed: Claimed, capacity: Capacity, *, now: datetime) -> Opened:
    (opened,) = await open_incarnations(session, [claimed], capacity, now=now)
    return opened


async def record_pass(
    session: Session,
    claimed: Claimed,
    seen: Seen | None,
    *,
    now: datetime,
    due_at: datetime | None,
    step: Rest | Stop | Kill | None = None,
    hold: bool = False,
) -> Claimed | None:
    (after,) = await record_passes(session, [Outcome(claimed, seen, due_at, step, hold)], now=now)
    return after


async def close_incarnation(
    session: Session, claimed: Claimed, close: Close, seen: Seen | None, *, now: datetime
) -> Claimed | None:
    (after,) = await close_incarnations(session, [Closing(claimed, close, seen)], now=now)
    return after
