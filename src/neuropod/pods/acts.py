"""What a use-case leaves behind besides the changed rows: an audit row, an event, and the nudges. Called by service."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from neuropod.accounts.access import Actor
from neuropod.db.audit import new_act, record_act
from neuropod.db.engine import Session, Topic
from neuropod.db.events import record_event
from neuropod.db.record import Record
from neuropod.db.writing import insert_now
from neuropod.ids import PodId, UserId
from neuropod.pods.records import PodRow


@dataclass(frozen=True, slots=True)
class Act:
    """The use-case's name, the event's kind and its sentence."""

    verb: str
    kind: str
    message: str


async def tell(
    session: Session,
    row: PodRow,
    act: Act,
    *,
    actor: Actor,
    now: datetime,
    made: Sequence[Record] = (),
    **data: Any,
) -> None:
    """Write the act down, tell it, and wake who has to do something; the last thing of a use-case.

    `made` are rows that are inserted with it, so that a launch waits less often for the database. `data` holds no
    secret. The event comes after all else, since on PostgreSQL its lock lasts until the commit.
    """
    owner_id, pod_id = UserId(row.owner_id), PodId(row.id)
    done = new_act(act.verb, f"pod/{row.id}", at=now, actor_id=actor.user_id, via=actor.via, owner_id=owner_id, **data)
    await session.flush()
    await insert_now(session, *made, done)
    session.nudge(Topic.PODS)
    session.nudge(Topic.ROUTES)
    await record_event(session, act.kind, act.message, at=now, owner_id=owner_id, pod_id=pod_id, **data)


async def tell_of_exec(session: Session, row: PodRow, *, actor: Actor, now: datetime, terminal: bool) -> None:
    """Write down that a command is run in the pod; an event where somebody else than the owner does, nothing to do."""
    owner_id, pod_id = UserId(row.owner_id), PodId(row.id)
    record_act(
        session,
        "exec_pod",
        f"pod/{row.id}",
        at=now,
        actor_id=actor.user_id,
        via=actor.via,
        owner_id=owner_id,
        terminal=terminal,
    )
    if actor.user_id != owner_id:
        message = f"An administrator has {'opened a terminal' if terminal else 'run a command'} in pod {row.name}."
        await session.flush()
        await record_event(session, "pod.entered", message, at=now, owner_id=owner_id, pod_id=pod_id, terminal=terminal)
