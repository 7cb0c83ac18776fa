"""What is done with volumes: made when a pod first attaches one, or before; grown; deleted. Called by pods.

A volume belongs to one runtime. Its size is fixed when it is made and only ever grows, by `grow_volume`, never by a pod
that names another size. Deleting a pod never deletes it. Callers that make or delete volumes hold the owner's account
lock, so that two launches at once make one, and none attaches what is just deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from neuropod.accounts.access import Actor, require_scope, require_sight
from neuropod.db.audit import record_act
from neuropod.db.engine import ReadSession, Session, Topic
from neuropod.db.events import record_event
from neuropod.ids import RuntimeId, UserId
from neuropod.kit.errors import ConflictError, FieldError, InvalidInputError
from neuropod.kit.identifiers import POD_NAME_RULE, is_pod_name, new_id
from neuropod.volumes import store
from neuropod.volumes.records import VolumeRow
from neuropod.words import Scope

MIN_GB, MAX_GB, DEFAULT_GB = 1, 150, 10


@dataclass(frozen=True, slots=True)
class Attachment:
    """A volume that a pod may attach: the one that is there, or the size in which it will be made."""

    name: str
    size_gb: int
    row: VolumeRow | None

    @property
    def runtime_id(self) -> RuntimeId | None:
        """Where it lives, None while it is not made."""
        return None if self.row is None else RuntimeId(self.row.runtime_id)


def wrong_size(size_gb: int, field: str) -> Sequence[FieldError]:
    """Return what is wrong with a volume's size."""
    if MIN_GB <= size_gb <= MAX_GB:
        return ()
    return (FieldError(field, "range", f"a volume has {MIN_GB} to {MAX_GB} GB"),)


async def find_attachment(
    session: ReadSession, owner_id: UserId, name: str, *, size_gb: int | None, default_gb: int | None, field: str
) -> tuple[Attachment, Sequence[FieldError]]:
    """Return what a pod would attach, and all that is wrong with it; `size_gb` None takes it as it is."""
    wrong: list[FieldError] = []
    at = f"{field}." if field else ""
    if not is_pod_name(name):
        wrong.append(FieldError(f"{at}name", "pattern", f"a volume's name is {POD_NAME_RULE}"))
    if size_gb is not None:
        wrong.extend(wrong_size(size_gb, f"{at}size_gb"))
    row = None if wrong else await store.volume_by_name(session, owner_id, name)
    if row is None:
        return Attachment(name, size_gb or default_gb or DEFAULT_GB, None), wrong
    if size_gb is not None and size_gb != row.size_gb:
        message = (
            f"volume {name!r} has {row.size_gb} GB already: leave size_gb out to attach it as it is. "
            f"A volume is made larger by growing the volume itself (up to {MAX_GB} GB), never by a pod"
        )
        wrong.append(FieldError(f"{at}size_gb", "size_differs", message))
    return Attachment(name, row.size_gb, row), wrong


async def attach_volume(
    session: Session, attachment: Attachment, *, owner_id: UserId, runtime_id: RuntimeId, limit: int, now: datetime
) -> VolumeRow:
    """Return the volume's row, made now when this is its first use. The caller holds the owner's account lock.

    Raises ConflictError (`too_many_volumes`) for one more than `limit`.
    """
    if attachment.row is not None:
        return attachment.row
    if await store.count_volumes(session, owner_id) >= limit:
        sentence = (
            f"one person has at most {limit} volumes, and {attachment.name!r} would be one more; delete one first"
        )
        raise ConflictError(sentence, code="too_many_volumes")
    row = VolumeRow(
        id=new_id("vol"),
        owner_id=owner_id,
        name=attachment.name,
        runtime_id=runtime_id,
        size_gb=attachment.size_gb,
        created_at=now,
    )
    session.add(row)
    await session.flush()
    return row


def require_growth(row: VolumeRow, size_gb: int) -> None:
    """Raise InvalidInputError unless a volume may have that size: it is made larger, or stays."""
    wrong = list(wrong_size(size_gb, "size_gb"))
    if size_gb < row.size_gb:
        wrong.append(
            FieldError("size_gb", "shrinks", f"volume {row.name!r} has {row.size_gb} GB and cannot be made smaller")
        )
    if wrong:
        raise InvalidInputError("; ".join(error.message for error in wrong), fields=wrong)


async def grow_volume(
    session: Session, volume_id: str, *, size_gb: int, at_once: bool, actor: Actor, now: datetime
) -> VolumeRow:
    """Make a volume larger; smaller is refused. `at_once`: the runtime has done it, else pods have it at their start.

    The runtime is asked first, so that nothing is promised for which there is no room.
    """
    require_scope(actor, Scope.WRITE)
    row = await store.lock_volume(session, volume_id)
    require_sight(actor, None if row.deleted_at is not None else row.owner_id, "volume")
    require_growth(row, size_gb)
    if size_gb == row.size_gb:
        return row
    before, row.size_gb = row.size_gb, size_gb
    if at_once:
        row.full_since = None  # as far as anybody knows; the loop measures again
    _note(session, "grow_volume", row, actor=actor, now=now, from_gb=before, to_gb=size_gb)
    await session.flush()
    message = f"Volume {row.name} has {size_gb} GB{'' if at_once else ' from the next start on'}."
    owner_id = UserId(row.owner_id)
    await record_event(session, "volume.grown", message, at=now, owner_id=owner_id, volume=row.name, size_gb=size_gb)
    return row


async def create_volume(
    session: Session, attachment: Attachment, *, actor: Actor, now: datetime, **made: Any
) -> VolumeRow:
    """Make a volume's row before any pod attaches it, as `attach_volume` does; `made` goes there."""
    require_scope(actor, Scope.WRITE)
    row = await attach_volume(session, attachment, now=now, **made)
    _note(session, "create_volume", row, actor=actor, now=now, size_gb=row.size_gb)
    await session.flush()
    message = f"Volume {row.name} of {row.size_gb} GB was made."
    owner_id = UserId(row.owner_id)
    await record_event(session, "volume.created", message, at=now, owner_id=owner_id, volume=row.name)
    return row


async def delete_volume(session: Session, row: VolumeRow, *, actor: Actor, now: datetime) -> None:
    """Let a volume be gone with all that is in it; its name is free at once, its data go by the loop.

    The caller holds the owner's account lock and has made sure that no pod attaches it.
    """
    row.deleted_at, row.full_since = now, None
    session.nudge(Topic.VOLUMES)
    _note(session, "delete_volume", row, actor=actor, now=now, name=row.name, size_gb=row.size_gb)
    await session.flush()
    message = f"Volume {row.name} was deleted with all that was in it."
    owner_id = UserId(row.owner_id)
    await record_event(session, "volume.deleted", message, at=now, owner_id=owner_id, volume=row.name)


def _note(session: Session, verb: str, row: VolumeRow, *, actor: Actor, now: datetime, **data: Any) -> None:
    owner_id = UserId(row.owner_id)
    subject = f"volume/{row.id}"
    record_act(session, verb, subject, at=now, actor_id=actor.user_id, via=actor.via, owner_id=owner_id, **data)
