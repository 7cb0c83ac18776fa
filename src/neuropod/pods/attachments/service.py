"""The use-cases of volumes as a person says them: list, show, create, grow, delete. Called by api, and by the loop.

Each takes the session of one transaction and never commits. No runtime is asked here: how full a volume is, and whether
it has grown, the caller asks with no session open. A volume that pods refer to is not deleted: launch and edit attach
under the owner's account lock, and so does the deletion look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuropod.accounts.access import Actor, require_scope, require_sight
from neuropod.accounts.records import UserRow
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import RuntimeId, UserId, VolumeId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, taken
from neuropod.kit.paging import MAX_LIMIT, Page
from neuropod.ledger.store import lock_account
from neuropod.pods.attachments.store import AttachedPod, attached_pods
from neuropod.runtimes.contract import Capability, Runtime
from neuropod.settings import Settings
from neuropod.volumes import service, store
from neuropod.volumes.records import VolumeRow
from neuropod.words import Scope, Want


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A volume as it is shown."""

    row: VolumeRow
    owner: UserRow
    pods: Sequence[AttachedPod]

    @property
    def id(self) -> VolumeId:
        """The volume's id."""
        return VolumeId(self.row.id)

    @property
    def runtime_id(self) -> RuntimeId:
        """Where it lives."""
        return RuntimeId(self.row.runtime_id)


class Volumes:
    """All use-cases of volumes. `volume` is an id, or the name of a volume of the actor's own."""

    def __init__(self, settings: Settings, clock: Clock, runtimes: Mapping[RuntimeId, Runtime]) -> None:
        self._limits = settings.limits
        self._clock = clock
        self._runtimes = runtimes

    async def list_volumes(
        self,
        session: ReadSession,
        *,
        actor: Actor,
        owner_id: UserId | None = None,
        everybody: bool = False,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[VolumeView]:
        """Return the actor's own volumes, newest first; administrators see another's or everybody's on request."""
        require_scope(actor, Scope.READ)
        if everybody and not actor.is_admin:
            raise ForbiddenError("only administrators see everybody's volumes", code="admin_needed")
        owner_id = owner_id or (None if everybody else actor.user_id)
        if owner_id is not None:
            require_sight(actor, owner_id, "user")
        limit = max(1, min(limit, MAX_LIMIT))
        page = await store.volumes_page(session, actor=actor, owner_id=owner_id, cursor=cursor, limit=limit)
        pods = await attached_pods(session, [row.id for row, _ in page.items])
        views = [VolumeView(row, owner, pods.get(VolumeId(row.id), ())) for row, owner in page.items]
        return Page(views, page.next_cursor)

    async def show_volume(self, session: ReadSession, volume: str, *, actor: Actor) -> VolumeView:
        """Return a volume."""
        require_scope(actor, Scope.READ)
        return await self._in_sight(session, volume, actor=actor)

    async def create_volume(
        self, session: Session, name: str, *, size_gb: int | None, actor: Actor, owner_id: UserId | None = None
    ) -> VolumeView:
        """Make a volume, for the actor or (administrators) for another owner. Its data are made at its first use."""
        require_scope(actor, Scope.WRITE)
        wanted = owner_id or actor.user_id
        if wanted is None:
            raise ForbiddenError("say whose the volume is", code="owner_needed")
        require_sight(actor, wanted, "user")
        await lock_account(session, wanted)
        owner = await session.get(UserRow, wanted)
        if owner is None or owner.deleted_at is not None:
            raise NotFoundError("no such user")
        attachment, wrong = await service.find_attachment(
            session, wanted, name, size_gb=size_gb, default_gb=None, field=""
        )
        wrong = [error for error in wrong if error.code != "size_differs"]
        if wrong:
            raise InvalidInputError("; ".join(error.message for error in wrong), fields=wrong)
        if attachment.row is not None:
            raise taken("name", name)
        row = await service.create_volume(
            session,
            attachment,
            actor=actor,
            now=self._clock.now(),
            owner_id=wanted,
            runtime_id=self._home(),
            limit=self._limits.volumes_per_user,
        )
        return VolumeView(row, owner, ())

    def _home(self) -> RuntimeId:
        for runtime in self._runtimes.values():
            if Capability.VOLUMES in runtime.capabilities:
                return runtime.id
        raise ConflictError("no machine or cluster that keeps volumes is connected here", code="no_runtime")

    async def volume_to_grow(self, session: ReadSession, volume: str, *, size_gb: int, actor: Actor) -> VolumeView:
        """Return the volume if it may have that size; the caller then asks its runtime, and writes `grow_volume`."""
        require_scope(actor, Scope.WRITE)
        view = await self._in_sight(session, volume, actor=actor)
        service.require_growth(view.row, size_gb)
        if view.runtime_id not in self._runtimes:
            raise ConflictError("no server is connected to this volume's machine or cluster now", code="no_server")
        return view

    async def grow_volume(
        self, session: Session, volume_id: VolumeId, *, size_gb: int, at_once: bool, actor: Actor
    ) -> VolumeView:
        """Write down that a volume is larger, as its runtime has agreed."""
        now = self._clock.now()
        row = await service.grow_volume(session, volume_id, size_gb=size_gb, at_once=at_once, actor=actor, now=now)
        return await self._in_sight(session, row.id, actor=actor)

    async def delete_volume(self, session: Session, volume: str, *, actor: Actor) -> None:
        """Delete a volume with its data. Raises ConflictError (`volume_attached`), which names the pods."""
        require_scope(actor, Scope.WRITE)
        found = await self._in_sight(session, volume, actor=actor)
        await lock_account(session, UserId(found.row.owner_id))
        row = await store.lock_volume(session, found.row.id)
        if row.deleted_at is not None:
            raise NotFoundError(f"no such volume: {volume}")
        if pods := (await attached_pods(session, [row.id])).get(VolumeId(row.id)):
            raise ConflictError(_attached(row, pods), code="volume_attached")
        await service.delete_volume(session, row, actor=actor, now=self._clock.now())

    async def _in_sight(self, session: ReadSession, volume: str, *, actor: Actor) -> VolumeView:
        found = await store.volume_in_sight(session, volume, actor=actor)
        if found is None:
            raise NotFoundError(f"no such volume: {volume}")
        row, owner = found
        return VolumeView(row, owner, (await attached_pods(session, [row.id])).get(VolumeId(row.id), ()))


def _attached(row: VolumeRow, pods: Sequence[AttachedPod]) -> str:
    names = ", ".join(f"{pod.name} (being deleted)" if pod.want is Want.GONE else pod.name for pod in pods)
    one = len(pods) == 1
    return (
        f"volume {row.name} is attached by {'pod' if one else 'pods'} {names}; "
        f"delete {'it' if one else 'them'}, or let {'it' if one else 'them'} attach another volume, first"
    )
