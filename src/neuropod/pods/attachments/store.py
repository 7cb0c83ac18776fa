"""The SQL of which pods attach which volumes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from neuropod.db.engine import ReadSession
from neuropod.ids import PodId, RuntimeId, VolumeId
from neuropod.pods.records import IncarnationRow, PodRow
from neuropod.volumes.records import VolumeRow
from neuropod.words import Want


@dataclass(frozen=True, slots=True)
class AttachedPod:
    """A pod that refers to a volume; one that is being deleted does until nothing of it is left."""

    id: PodId
    name: str
    want: Want


async def attached_pods(session: ReadSession, volume_ids: Collection[str]) -> dict[VolumeId, list[AttachedPod]]:
    """Return the pods that refer to each of these volumes, by name."""
    query = (
        select(PodRow.volume_id, PodRow.id, PodRow.name, PodRow.want)
        .where(PodRow.volume_id.in_(volume_ids), PodRow.closed_at.is_(None))
        .order_by(PodRow.name)
    )
    found: dict[VolumeId, list[AttachedPod]] = {}
    for volume_id, pod_id, name, want in await session.execute(query):
        found.setdefault(VolumeId(str(volume_id)), []).append(AttachedPod(PodId(pod_id), name, Want(want)))
    return found


async def volumes_in_use(
    session: ReadSession, runtime_ids: Collection[RuntimeId]
) -> Sequence[tuple[RuntimeId, VolumeId, datetime | None]]:
    """Return runtime, id and `full_since` of the volumes of pods whose process runs."""
    query = (
        select(VolumeRow.runtime_id, VolumeRow.id, VolumeRow.full_since)
        .join(PodRow, PodRow.volume_id == VolumeRow.id)
        .join(IncarnationRow, IncarnationRow.pod_id == PodRow.id)
        .where(
            VolumeRow.runtime_id.in_(runtime_ids),
            VolumeRow.deleted_at.is_(None),
            PodRow.closed_at.is_(None),
            IncarnationRow.ended_at.is_(None),
            IncarnationRow.started_at.is_not(None),
        )
        .distinct()
    )
    rows = await session.execute(query)
    return [(RuntimeId(runtime_id), VolumeId(volume_id), full_since) for runtime_id, volume_id, full_since in rows]
