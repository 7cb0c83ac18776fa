"""The use-cases of volumes that pods need: a volume is made when a pod first attaches it. Called by pods.

A volume belongs to one runtime. Its size is fixed when it is made and only ever grows, by `grow_volume`, never by a pod
that names another size. Deleting a pod never deletes it. Callers that make volumes hold the owner's account lock, so
that two launches at once make one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from neuropod.accounts.access import Actor, require_scope, require_sight
from neuropod.db.audit import record_act
from neuropod.db.engine import ReadSession, Session
from neuropod.db.events import record_event
from neuropod.ids import RuntimeId, UserId
from neuropod.kit.errors import FieldError, InvalidInputError, NotFoundError
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
    if not is_pod_name(name):
        wrong.append(FieldError(f"{field}.name", "pattern", f"a volume's name is {POD_NAME_RULE}"))
    if size_gb is not None:
        wrong.extend(wrong_size(size_gb, f"{field}.size_gb"))
    row = None if wrong else await store.volume_by_name(session, owner_id, name)
    if row is None:
        return Attachment(name, size_gb or default_gb or DEFAULT_GB, None), wrong
    if size_gb is not None and size_gb != row.size_gb:
        message = (
            f"volume {name!r} has {row.size_gb} GB already: leave size_gb out to attach it as it is. "
            f"A volume is made larger by growing the volume itself (up to {MAX_GB} GB), never by a pod"
        )
        wrong.append(FieldError(f"{field}.size_gb", "size_differs", message))
    return Attachment(name, row.size_gb, row), wrong


async def attach_volume(
    session: Session, attachment: Attachment, *, owner_id: UserId, runtime_id: RuntimeId, now: datetime
) -> VolumeRow:
    """Return the volume's row, made now when this is its first use. The caller holds the owner's account lock."""
    if attachment.row is not None:
        return attachment.row
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


async def grow_volume(
    session: Session, name: str, *, size_gb: int, actor: Actor, owner_id: UserId, now: datetime
) -> VolumeRow:
    """Make a volume larger; pods have the new size from their next start on. Smaller is refused."""
    require_scope(actor, Scope.WRITE)
    require_sight(actor, owner_id, "volume")
    row = await store.lock_volume(session, owner_id, name)
    if row is None:
        raise NotFoundError("no such volume")
    wrong = list(wrong_size(size_gb, "size_gb"))
    if size_gb < row.size_gb:
        wrong.append(
            FieldError("size_gb", "shrinks", f"volume {name!r} has {row.size_gb} GB and cannot be made smaller")
        )
    if wrong:
        raise InvalidInputError("; ".join(error.message for error in wrong), fields=wrong)
    if size_gb == row.size_gb:
        return row
    before, row.size_gb = row.size_gb, size_gb
    record_act(
        session,
        "grow_volume",
        f"volume/{row.id}",
        at=now,
        actor_id=actor.user_id,
        via=actor.via,
        owner_id=owner_id,
        from_gb=before,
        to_gb=size_gb,
    )
    await session.flush()
    message = f"Volume {name} has {size_gb} GB from the next start on."
    await record_event(session, "volume.grown", message, at=now, owner_id=owner_id, size_gb=size_gb)
    return row
