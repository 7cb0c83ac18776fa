"""What becomes of pods when their owner is suspended, let in again or deleted.

Called by api with an administrator's actor, and by the loop that closes deleted users with the system's. Accounts know
no pods, so the two come together here, in one transaction: nobody is suspended while a pod of theirs goes on, and no
launch slips in between, since it waits for the same lock on the owner's account. All of the owner's pods are locked
before the first of them is told of (an event's lock lasts until the commit).
"""

from collections.abc import Collection, Mapping

from neuropod.accounts.access import SYSTEM, Actor
from neuropod.accounts.people.service import People
from neuropod.accounts.records import UserRow
from neuropod.db.engine import ReadSession, Session
from neuropod.db.events import record_event
from neuropod.ids import UserId
from neuropod.kit.errors import FieldError, InvalidInputError
from neuropod.ledger.store import lock_account
from neuropod.pods.owners import store
from neuropod.pods.service import Pods
from neuropod.words import Reason, VolumesAtEnd, Want


class Owners:
    """The use-cases. Each takes a session and never commits."""

    def __init__(self, people: People, pods: Pods) -> None:
        self._people = people
        self._pods = pods

    async def suspend_user(self, session: Session, user: str, *, actor: Actor, reason: str = "") -> UserRow:
        """Suspend a user and stop their pods; volumes and addresses stay. May be repeated."""
        found = await self._people.show_user(session, user, actor=actor)
        await lock_account(session, UserId(found.id))
        row, new = await self._people.begin_suspension(session, found.id, actor=actor, reason=reason.strip()[:500])
        if new:
            await session.flush()
            for pod in await store.lock_pods_of(session, UserId(row.id)):
                if pod.want == Want.RUNNING:
                    await self._pods.stop_pod(session, pod.id, actor=SYSTEM, reason=Reason.SUSPENDED)
            message = f"{row.email} is suspended; their pods are stopped."
            at = row.suspended_at or row.created_at
            await record_event(session, "user.suspended", message, at=at, owner_id=UserId(row.id))
        return row

    async def reinstate_user(self, session: Session, user: str, *, actor: Actor) -> UserRow:
        """Let a user in again; their pods stay stopped until they start them. May be repeated."""
        return await self._people.end_suspension(session, user, actor=actor)

    async def delete_user(self, session: Session, user: str, *, volumes: VolumesAtEnd | None, actor: Actor) -> UserRow:
        """Delete a user and their pods. The row stays `deleting` until nothing is left but what was to be kept.

        Raises InvalidInputError unless it is said what becomes of their volumes.
        """
        found = await self._people.show_user(session, user, actor=actor)
        if volumes is None:
            sentence = "say what becomes of their volumes: keep or delete"
            raise InvalidInputError(sentence, fields=[FieldError("volumes", "missing", sentence)])
        await lock_account(session, UserId(found.id))
        row, new = await self._people.begin_deletion(session, found.id, volumes=volumes, actor=actor)
        if new:
            await session.flush()
            for pod in await store.lock_pods_of(session, UserId(row.id)):
                await self._pods.delete_pod(session, pod.id, actor=SYSTEM)
        return row

    async def count_pods(self, session: ReadSession, users: Collection[UserRow]) -> Mapping[str, int]:
        """Return how many pods each of them has, stopped ones included; those without are left out."""
        return await store.count_pods(session, {user.id for user in users})
