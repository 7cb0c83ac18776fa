"""The SQL of pods as people see them: rows in sight, pages, ports, and the facts that the deciding modules read.

Used by service; the loop's SQL stands in runs.store, that of room and order in queue.store. Lists take a fixed number
of queries for any number of pods.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, exists, func, select, update

from neuropod.accounts.access import Actor
from neuropod.accounts.records import UserRow
from neuropod.catalogue.devices import NO_DEVICES, Finder
from neuropod.catalogue.records import GpuTypeRow
from neuropod.db.engine import ReadSession, Session
from neuropod.db.reading import columns_of, read_pairs, read_rows, read_values, row_of, row_or_none
from neuropod.ids import IncarnationId, PodId, RuntimeId, UserId
from neuropod.kit.paging import Page, decode_cursor, page_of
from neuropod.ledger.records import AccountRow
from neuropod.pods.lifecycle import IncarnationFacts, PodFacts, Policy, Room
from neuropod.pods.records import AllocationRow, IncarnationRow, PodRow, PortRow
from neuropod.runtimes.contract import Phase, Progress
from neuropod.volumes.records import VolumeRow
from neuropod.words import Reason, Want

# Built once: every pass and every feed asks these, and to build one takes as long as to answer it.
_OF_PODS: BindParameter[Any] = bindparam("pod_ids", expanding=True)
_NEWEST = (
    select(IncarnationRow.pod_id, func.max(IncarnationRow.number).label("number"))
    .where(IncarnationRow.pod_id.in_(_OF_PODS))
    .group_by(IncarnationRow.pod_id)
    .subquery()
)
_NEWEST_INCARNATIONS = select(*columns_of(IncarnationRow)).join(
    _NEWEST, and_(_NEWEST.c.pod_id == IncarnationRow.pod_id, _NEWEST.c.number == IncarnationRow.number)
)
_PODS_NOT_CLOSED = (
    select(*columns_of(PodRow), *columns_of(UserRow))
    .join(UserRow, UserRow.id == PodRow.owner_id)
    .where(PodRow.closed_at.is_(None))
)
_PODS_NOT_CLOSED_OF = _PODS_NOT_CLOSED.where(PodRow.id.in_(_OF_PODS))
_PORTS = select(*columns_of(PortRow)).where(PortRow.pod_id.in_(_OF_PODS)).order_by(PortRow.port)


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
        device_trouble=row.device_trouble,
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
    rows = await read_rows(session, IncarnationRow, _NEWEST_INCARNATIONS, {"pod_ids": list(pod_ids)})
    return {PodId(row.pod_id): row for row in rows}


def _in_sight_of(actor: Actor) -> ColumnElement[bool]:
    """All pods for an administrator, their own for others; closed ones are history and seen by nobody here."""
    if actor.is_admin:
        return PodRow.closed_at.is_(None)
    return and_(PodRow.closed_at.is_(None), PodRow.owner_id == (actor.user_id or ""))


async def pod_in_sight(session: ReadSession, pod: str, *, actor: Actor) -> tuple[PodRow, UserRow] | None:
    """Return a pod and its owner, by its id or by the name of one of the actor's own (a name is never an id)."""
    own_name = and_(PodRow.name == pod, PodRow.owner_id == (actor.user_id or ""))
    query = (
        select(PodRow, UserRow)
        .join(UserRow, UserRow.id == PodRow.owner_id)
        .where(_in_sight_of(actor), (PodRow.id == pod) | own_name)
    )
    row = (await session.execute(query)).first()
    return None if row is None else (row[0], row[1])


async def lock_pod(session: Session, pod_id: str) -> PodRow:
    """Return the pod's row as it is now, locked until this transaction ends, so that changes come one after another."""
    query = select(PodRow).where(PodRow.id == pod_id).with_for_update().execution_options(populate_existing=True)
    return (await session.scalars(query)).one()


async def pods_page(
    session: ReadSession,
    *,
    actor: Actor,
    owner_id: UserId | None,
    name: str | None,
    gpu_type: str | None,
    cursor: str | None,
    limit: int,
) -> Page[tuple[PodRow, UserRow]]:
    """Return a page of the pods in sight, newest first: of one owner, or of all that the actor sees."""
    query = (
        select(PodRow, UserRow)
        .join(UserRow, UserRow.id == PodRow.owner_id)
        .where(_in_sight_of(actor))
        .order_by(PodRow.id.desc())
        .limit(limit + 1)
    )
    if owner_id is not None:
        query = query.where(PodRow.owner_id == owner_id)
    if name is not None:
        query = query.where(PodRow.name == name)
    if gpu_type is not None:
        query = query.where(PodRow.gpu_type == gpu_type)
    if cursor is not None:
        query = query.where(PodRow.id < str(decode_cursor(cursor, 1)[0]))
    rows = [(pod, owner) for pod, owner in await session.execute(query)]  # rows become plain pairs
    return page_of(rows, limit, lambda row: (row[0].id,))


async def pods_not_closed(session: ReadSession, pod_ids: Collection[PodId] | None) -> Sequence[tuple[PodRow, UserRow]]:
    """Return all pods that are not closed, or those of the ids."""
    if pod_ids is None:
        return await read_pairs(session, PodRow, UserRow, _PODS_NOT_CLOSED, {})
    return await read_pairs(session, PodRow, UserRow, _PODS_NOT_CLOSED_OF, {"pod_ids": list(pod_ids)})


@dataclass(frozen=True, slots=True)
class Belongings:
    """What an owner has, as far as admission asks."""

    owner: UserRow
    account: AccountRow | None  # None: nothing was ever in it
    pods: int  # those that are being deleted aside
    name_taken: bool  # a deleted pod keeps its name until nothing of it is left


_PODS_OF_OWNER = (
    select(func.count())
    .select_from(PodRow)
    .where(PodRow.owner_id == UserRow.id, PodRow.closed_at.is_(None), PodRow.want != Want.GONE)
    .correlate(UserRow)
)
_NAME_IS_TAKEN = (
    exists()
    .where(PodRow.owner_id == UserRow.id, PodRow.closed_at.is_(None), PodRow.name == bindparam("name"))
    .correlate(UserRow)
)
_BELONGINGS = (
    select(*columns_of(UserRow), _PODS_OF_OWNER.scalar_subquery(), _NAME_IS_TAKEN, *columns_of(AccountRow))
    .join(AccountRow, AccountRow.user_id == UserRow.id, isouter=True)
    .where(UserRow.id == bindparam("owner_id"))
)
_AFTER_OWNER = len(columns_of(UserRow))


async def belongings(session: ReadSession, owner_id: UserId, name: str = "") -> Belongings | None:
    """Return what the owner has, and whether a pod of theirs has the name; read it under the owner's account lock."""
    for row in await read_values(session, _BELONGINGS, {"owner_id": owner_id, "name": name}):
        pods, name_taken, *account = row[_AFTER_OWNER:]
        return Belongings(row_of(UserRow, row), row_or_none(AccountRow, account), pods, bool(name_taken))
    return None


async def pods_of_ids(session: ReadSession, pod_ids: Collection[PodId]) -> Sequence[PodRow]:
    """Return the rows of these pods."""
    return (await session.scalars(select(PodRow).where(PodRow.id.in_(pod_ids)))).all()


async def ports_of(session: ReadSession, pod_ids: Collection[str]) -> dict[PodId, list[PortRow]]:
    """Return the ports of each pod, by number."""
    ports: dict[PodId, list[PortRow]] = {}
    for row in await read_rows(session, PortRow, _PORTS, {"pod_ids": list(pod_ids)}):
        ports.setdefault(PodId(row.pod_id), []).append(row)
    return ports


async def port_of(session: ReadSession, pod_id: str, number: int) -> PortRow | None:
    """Return a port of the pod."""
    return await session.scalar(select(PortRow).where(PortRow.pod_id == pod_id, PortRow.port == number))


async def incarnation(session: ReadSession, pod_id: str, number: int | None = None) -> IncarnationRow | None:
    """Return an incarnation of the pod, the newest by default."""
    query = select(IncarnationRow).where(IncarnationRow.pod_id == pod_id).order_by(IncarnationRow.number.desc())
    if number is not None:
        query = query.where(IncarnationRow.number == number)
    return await session.scalar(query.limit(1).execution_options(populate_existing=True))


async def devices_of(session: ReadSession, runs: Collection[tuple[PodId, int]]) -> dict[tuple[PodId, int], list[str]]:
    """Return the devices given to each of these incarnations (pod and number); one query."""
    if not runs:
        return {}
    query = (
        select(IncarnationRow.pod_id, IncarnationRow.number, AllocationRow.device)
        .join(IncarnationRow, IncarnationRow.id == AllocationRow.incarnation_id)
        .where(IncarnationRow.pod_id.in_({pod_id for pod_id, _ in runs}), AllocationRow.device.is_not(None))
        .order_by(AllocationRow.device)
    )
    devices: dict[tuple[PodId, int], list[str]] = {}
    for pod_id, number, device in await session.execute(query):
        devices.setdefault((PodId(pod_id), number), []).append(str(device))
    return devices


async def keep_sealed_token(session: Session, incarnation_id: str, sealed: bytes) -> None:
    """Keep the token that was read from an incarnation's log; the first one stays."""
    await session.execute(
        update(IncarnationRow)
        .where(IncarnationRow.id == incarnation_id, IncarnationRow.jupyter_token_sealed.is_(None))
        .values(jupyter_token_sealed=sealed)
    )


@dataclass(frozen=True, slots=True)
class PodToRun:
    """What a workload is made of, besides secrets and devices."""

    pod: PodRow
    owner_hash: str
    volume: VolumeRow | None
    ports: Sequence[int]
    finder: Finder


_PODS_TO_RUN = (
    select(PortRow.port, UserRow.hash, *columns_of(PodRow), *columns_of(VolumeRow), *columns_of(GpuTypeRow))
    .select_from(PodRow)
    .join(UserRow, UserRow.id == PodRow.owner_id)
    .join(VolumeRow, VolumeRow.id == PodRow.volume_id, isouter=True)
    .join(GpuTypeRow, GpuTypeRow.name == PodRow.gpu_type, isouter=True)
    .join(PortRow, PortRow.pod_id == PodRow.id, isouter=True)
    .where(PodRow.id.in_(_OF_PODS))
)
_BEFORE_VOLUME = len(columns_of(PodRow))
_BEFORE_GPU_TYPE = _BEFORE_VOLUME + len(columns_of(VolumeRow))


async def pods_to_run(session: ReadSession, pod_ids: Collection[PodId]) -> dict[PodId, PodToRun]:
    """Return pods with what they run with; one query."""
    found: dict[PodId, PodToRun] = {}
    ports: dict[PodId, list[int]] = {}
    for port, owner_hash, *values in await read_values(session, _PODS_TO_RUN, {"pod_ids": list(pod_ids)}):
        pod = row_of(PodRow, values)
        open_ports = ports.setdefault(PodId(pod.id), [])
        if port is not None:
            open_ports.append(port)
        if PodId(pod.id) not in found:
            volume = row_or_none(VolumeRow, values[_BEFORE_VOLUME:])
            gpu_type = row_or_none(GpuTypeRow, values[_BEFORE_GPU_TYPE:])
            finder = NO_DEVICES if gpu_type is None else gpu_type.finder
            found[PodId(pod.id)] = PodToRun(pod, owner_hash, volume, open_ports, finder)
    return found
