"""How acts on an account come into the audit log. Called by the services of accounts, of people and of sign-in."""

from datetime import datetime
from typing import Any

from neuropod.accounts.access import Actor
from neuropod.accounts.records import UserRow
from neuropod.db.audit import record_act
from neuropod.db.engine import Session
from neuropod.ids import UserId


def record_act_on(session: Session, verb: str, user: UserRow, *, actor: Actor, at: datetime, **data: Any) -> None:
    """Write down what was done to an account; its person may read it. `data` holds no secret."""
    record_act(
        session,
        verb,
        f"user/{user.id}",
        at=at,
        actor_id=actor.user_id,
        via=actor.via,
        owner_id=UserId(user.id),
        **data,
    )
