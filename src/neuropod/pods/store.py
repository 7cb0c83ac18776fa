"""The SQL of pods as people see them: rows in sight, pages, ports, and the facts that the deciding modules read.

Used by service; the loop's SQL stands in runs.store, that of room and order in queue.store. Lists take a fixed number
of queries for any number of pods.
"""

from collections.abc import Collection

from sqlalchemy import and_, func, select

from neuropod.db.engine import ReadSession
from neuropod.ids import IncarnationId, PodId, RuntimeId
from neuropod.pods.lifecycle import IncarnationFacts, PodFacts, Policy, Room
from neuropod.pods.records import IncarnationRow, PodRow
from neuropod.runtimes.contract import Phase, Progress
from neuropod.words import Reason, Want


def incarnation_facts(row: IncarnationRow) -> IncarnationFacts:
    """Return an incarnation's row as the value that decisions read."""
    return IncarnationFacts(
        id=IncarnationId(row.id),
        number=row.number,
        run_revision=row.run_revision,
        crashes=row.crashes,
        opened_at=row.opened_at,
        reason=Reason(row.reason),
        message=row.message,
        phase=Phase(row.phase) if row.phase is not None else None,
        progress=Progress(**row.progress) if row.progress is not None else None,
        exit_code=row.exit_code,
        pending_seconds=row.pending_seconds,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        unavailable_since=row.unavailable_since,
        started_at=row.started_at,
        ready_at=row.ready_at,
        stop_sent_at=row.stop_sent_at,
        stop_reason=Reason(row.stop_reason) if row.stop_reason is not None else None,
        ended_at=row.ended_at,
        removed_at=row.removed_at,
    )


def pod_facts(
    row: PodRow,
    incarnation: IncarnationRow | None,
    *,
    policy: Policy,
    room: Room | None = None,
    served: bool = True,
) -> PodFacts:
    """Return a pod's row and its newest incarnation's as the value that decisions read."""
    return PodFacts(
        id=PodId(row.id),
        runtime_id=RuntimeId(row.runtime_id),
        want=Want(row.want),
        want_reason=Reason(row.want_reason),
        want_at=row.want_at,
        requested_at=row.requested_at,
        run_revision=row.run_revision,
        gpu_type=row.gpu_type,
        memory_gb=row.memory_gb,
        container_disk_gb=row.container_disk_gb,
        incarnation=None if incarnation is None else incarnation_facts(incarnation),
        policy=policy,
        room=room or Room(),
        waiting_reason=Reason(row.waiting_reason) if row.waiting_reason is not None else None,
        waiting_since=row.waiting_since,
        failures=row.failures,
        served=served,
    )


async def newest_incarnations(session: ReadSession, pod_ids: Collection[str]) -> dict[PodId, IncarnationRow]:
    """Return the newest incarnation of each pod that has one."""
    newest = (
        select(IncarnationRow.pod_id, func.max(IncarnationRow.number).label("number"))
        .where(IncarnationRow.pod_id.in_(pod_ids))
        .group_by(IncarnationRow.pod_id)
        .subquery()
    )
    query = select(IncarnationRow).join(
        newest, and_(newest.c.pod_id == IncarnationRow.pod_id, newest.c.number == IncarnationRow.number)
    )
    rows = await session.scalars(query.execution_options(populate_existing=True))
    return {PodId(row.pod_id): row for row in rows}
