"""`/api/v1/volumes`: disks that outlive pods. `{volume}` is an id, or a name of one's own.

How full they are is asked of their runtimes with no session open; a runtime that does not answer leaves it untold.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response

from neuropod.api.answers import price_answer
from neuropod.api.deps import Caller, Reader, Writer
from neuropod.api.paging import AskedPage
from neuropod.api.parts import ApiParts
from neuropod.catalogue.pricing import disk_price
from neuropod.ids import RuntimeId, UserId, VolumeId
from neuropod.kit.errors import NoSpaceError, UnavailableError
from neuropod.pods.attachments.service import VolumeView
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.volumes import NoRoomError, VolumeUse, volumes_of
from neuropod.wire import volumes as wire
from neuropod.wire.pods import Owner

router = APIRouter(prefix="/volumes", tags=["volumes"])

_ASK_SECONDS = 5.0


async def _told(parts: ApiParts, views: Sequence[VolumeView]) -> tuple[Mapping[VolumeId, VolumeUse], set[VolumeId]]:
    """Return how volumes are, as far as is told, and which of them are not there."""

    async def of(runtime_id: RuntimeId) -> tuple[Mapping[VolumeId, VolumeUse | None], set[VolumeId]]:
        runtime = parts.runtimes.get(runtime_id)
        keeper = None if runtime is None else volumes_of(runtime)
        if keeper is None:
            return {}, set()
        asked = [view.id for view in views if view.runtime_id == runtime_id]
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                told = await keeper.volume_use(asked)
        except (RuntimeUnavailableError, TimeoutError):
            return {}, set()
        return told, set(asked) - told.keys()

    uses: dict[VolumeId, VolumeUse] = {}
    missing: set[VolumeId] = set()
    for told, not_there in await asyncio.gather(
        *(of(runtime_id) for runtime_id in {view.runtime_id for view in views})
    ):
        uses |= {volume_id: use for volume_id, use in told.items() if use is not None}
        missing |= not_there
    return uses, missing


def _answer(view: VolumeView, use: VolumeUse | None, parts: ApiParts, *, lost: bool = False) -> wire.Volume:
    row, owner = view.row, view.owner
    return wire.Volume(
        id=row.id,
        name=row.name,
        owner=Owner(id=owner.id, email=owner.email, hash=owner.hash),
        size_gb=row.size_gb,
        price=price_answer(disk_price(parts.settings.prices.disk_micros_per_gb_hour, row.size_gb)),
        use=None
        if use is None
        else wire.VolumeUse(
            size_bytes=use.size_bytes,
            used_bytes=use.used_bytes,
            full=use.full,
            measured_at=use.measured_at,
            grows_later=use.grows_later,
        ),
        lost=lost,
        full_since=row.full_since,
        pods=[wire.VolumePod(id=pod.id, name=pod.name) for pod in view.pods],
        runtime=row.runtime_id,
        created_at=row.created_at,
    )


async def _answers(caller: Caller, views: Sequence[VolumeView]) -> list[wire.Volume]:
    uses, missing = await _told(caller.parts, views)
    return [
        _answer(view, uses.get(view.id), caller.parts, lost=view.row.made_at is not None and view.id in missing)
        for view in views
    ]


@router.get("", operation_id="listVolumes")
async def list_volumes(
    caller: Reader,
    asked: AskedPage,
    everybody: Annotated[bool, Query(description="All people's volumes; for administrators.")] = False,
    owner: Annotated[str | None, Query(description="The owner's id; for administrators.", max_length=320)] = None,
) -> wire.VolumePage:
    """Return one's own volumes, newest first, with how full they are and which pods attach them."""
    async with caller.reading() as session:
        page = await caller.parts.volumes.list_volumes(
            session,
            actor=caller.actor,
            owner_id=None if owner is None else UserId(owner),
            everybody=everybody,
            cursor=asked.cursor,
            limit=asked.limit,
        )
    return wire.VolumePage(items=await _answers(caller, page.items), next_cursor=page.next_cursor)


@router.post("", status_code=201, operation_id="createVolume")
async def create_volume(body: wire.VolumeCreate, caller: Writer, response: Response) -> wire.Volume:
    """Make a volume. Its disk is made when a pod first uses it."""
    async with caller.writing() as session:
        view = await caller.parts.volumes.create_volume(
            session,
            body.name,
            size_gb=body.size_gb,
            actor=caller.actor,
            owner_id=None if body.owner is None else UserId(body.owner),
        )
    response.headers["Location"] = f"/api/v1/volumes/{view.id}"
    return _answer(view, None, caller.parts)


@router.get("/{volume}", operation_id="showVolume")
async def show_volume(volume: str, caller: Reader) -> wire.Volume:
    """Return a volume."""
    async with caller.reading() as session:
        view = await caller.parts.volumes.show_volume(session, volume, actor=caller.actor)
    return (await _answers(caller, [view]))[0]


@router.patch("/{volume}", operation_id="growVolume")
async def grow_volume(volume: str, body: wire.VolumeGrow, caller: Writer) -> wire.Volume:
    """Make a volume larger, at once where its machine can, also while pods run; else `use.grows_later` says so.

    Smaller is refused (422). `disk_full` (507): there is no room, and nothing was changed.
    """
    volumes = caller.parts.volumes
    async with caller.reading() as reading:
        view = await volumes.volume_to_grow(reading, volume, size_gb=body.size_gb, actor=caller.actor)
    at_once = await _grown(caller.parts, view, body.size_gb)
    async with caller.writing() as session:
        view = await volumes.grow_volume(session, view.id, size_gb=body.size_gb, at_once=at_once, actor=caller.actor)
    return (await _answers(caller, [view]))[0]


async def _grown(parts: ApiParts, view: VolumeView, size_gb: int) -> bool:
    keeper = volumes_of(parts.runtimes[view.runtime_id])
    if keeper is None:
        return False
    try:
        return await keeper.grow_volume(view.id, size_gb * 10**9)
    except NoRoomError as error:
        raise NoSpaceError(str(error)) from error
    except RuntimeUnavailableError as error:
        raise UnavailableError("the volume's machine or cluster does not answer; nothing was changed") from error


@router.delete("/{volume}", status_code=204, operation_id="deleteVolume")
async def delete_volume(volume: str, caller: Writer) -> None:
    """Delete a volume and all that is in it, for good. Refused while a pod attaches it (409 `volume_attached`)."""
    async with caller.writing() as session:
        await caller.parts.volumes.delete_volume(session, volume, actor=caller.actor)
