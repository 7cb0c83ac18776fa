"""The SQL of limits of time: what runs and what is known of it, and what a look writes. Called by reconcile.limits."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, or_, select, update

from neuropod.db.engine import ReadSession, Session
from neuropod.db.writing import upsert
from neuropod.ids import PodId, RuntimeId, UserId
from neuropod.pods.limits.bounds import TimeLimits
from neuropod.pods.limits.idleness import Idleness
from neuropod.pods.limits.records import WatchRow
from neuropod.pods.records import IncarnationRow, PodRow
from neuropod.runtimes.contract import Phase
from neuropod.words import Activity, JupyterMode, Reason, Want


@dataclass(frozen=True, slots=True)
class Running:
    """An incarnation whose process runs, as far as the rows know, with what was known of it after the last look."""

    pod_id: PodId
    pod_name: str
    owner_id: UserId
    runtime_id: RuntimeId
    number: int
    started_at: datetime
    ready: bool
    wanted: bool  # it shall run on
    limits: TimeLimits
    jupyter: JupyterMode
    idleness: Idleness | None  # None: this run was not looked at yet
    used_at: datetime | None
    warned: Mapping[Reason, datetime | None]


async def running_on(session: ReadSession, runtime_ids: Collection[RuntimeId]) -> Sequence[Running]:
    """Return what runs on these runtimes, in one query."""
    query = (
        select(
            PodRow.id,
            PodRow.name,
            PodRow.owner_id,
            PodRow.runtime_id,
            PodRow.want,
            PodRow.run_revision,
            PodRow.stop_after_seconds,
            PodRow.idle_stop_after_seconds,
            PodRow.jupyter,
            IncarnationRow.number,
            IncarnationRow.started_at,
            IncarnationRow.phase,
            IncarnationRow.run_revision.label("revision"),
            IncarnationRow.stop_sent_at,
            WatchRow,
        )
        .join(IncarnationRow, and_(IncarnationRow.pod_id == PodRow.id, IncarnationRow.ended_at.is_(None)))
        .join(WatchRow, and_(WatchRow.pod_id == PodRow.id, WatchRow.incarnation == IncarnationRow.number), isouter=True)
        .where(PodRow.runtime_id.in_(runtime_ids), PodRow.closed_at.is_(None), IncarnationRow.started_at.is_not(None))
    )
    return [_running(row) for row in await session.execute(query)]


def _running(row: Any) -> Running:
    watch: WatchRow | None = row.WatchRow
    return Running(
        pod_id=PodId(row.id),
        pod_name=row.name,
        owner_id=UserId(row.owner_id),
        runtime_id=RuntimeId(row.runtime_id),
        number=row.number,
        started_at=row.started_at,
        ready=row.phase == Phase.READY,
        wanted=row.want == Want.RUNNING and row.revision == row.run_revision and row.stop_sent_at is None,
        limits=TimeLimits(row.stop_after_seconds, row.idle_stop_after_seconds),
        jupyter=JupyterMode(row.jupyter),
        idleness=None if watch is None else idleness_of(watch),
        used_at=None if watch is None else watch.used_at,
        warned={
            Reason.DEADLINE: None if watch is None else watch.warned_deadline_at,
            Reason.IDLE: None if watch is None else watch.warned_idle_at,
        },
    )


def idleness_of(watch: WatchRow) -> Idleness | None:
    """Return what a row says; None where only its deadline was of interest."""
    if watch.looked_at is None or watch.idle_since is None:
        return None
    return Idleness(watch.looked_at, watch.idle_since, tuple(Activity(word) for word in watch.kept_by))


async def watches_of(session: ReadSession, pod_ids: Collection[str]) -> dict[PodId, WatchRow]:
    """Return the rows of those of the pods that have one."""
    query = select(WatchRow).where(WatchRow.pod_id.in_(pod_ids)).execution_options(populate_existing=True)
    return {PodId(row.pod_id): row for row in await session.scalars(query)}


async def keep_idleness(session: Session, known: Mapping[tuple[PodId, int], Idleness]) -> None:
    """Write what is known of incarnations (pod and number) after a look."""
    rows = [
        {
            "pod_id": pod_id,
            "incarnation": number,
            "looked_at": idleness.looked_at,
            "idle_since": idleness.since,
            "kept_by": [str(activity) for activity in idleness.kept_by],
        }
        for (pod_id, number), idleness in known.items()
    ]
    await upsert(session, WatchRow, rows, key=("pod_id",))


async def mark_used(session: Session, pod_ids: Collection[PodId], *, now: datetime) -> None:
    """Let the servers that watch these pods know that their ports were used through this one's gateways."""
    statement = update(WatchRow).where(WatchRow.pod_id.in_(pod_ids)).values(used_at=now)
    await session.execute(statement.execution_options(synchronize_session=False))


async def claim_warning(session: Session, run: Running, reason: Reason, at: datetime) -> bool:
    """Note that the stop at that time is warned of; False when it was already, by whatever server."""
    column = WatchRow.warned_deadline_at if reason is Reason.DEADLINE else WatchRow.warned_idle_at
    known = await session.scalar(select(WatchRow.incarnation).where(WatchRow.pod_id == run.pod_id))
    if known != run.number:
        blank: dict[str, Any] = {"looked_at": None, "idle_since": None, "kept_by": []}
        row = {"pod_id": run.pod_id, "incarnation": run.number} | blank
        await upsert(session, WatchRow, [row], key=("pod_id",))
    claimed = await session.scalars(
        update(WatchRow)
        .where(WatchRow.pod_id == run.pod_id, or_(column.is_(None), column != at))
        .values({column: at})
        .returning(WatchRow.pod_id)
        .execution_options(synchronize_session=False)
    )
    return bool(claimed.all())


async def delete_old(session: Session) -> None:
    """Delete what was known of pods that are no more."""
    closed = select(PodRow.id).where(PodRow.closed_at.is_not(None))
    statement = delete(WatchRow).where(WatchRow.pod_id.in_(closed))
    await session.execute(statement.execution_options(synchronize_session=False))
