"""Rows and views as the wire has them: the one place per noun where an answer is filled."""

from collections.abc import Sequence

from neuropod.accounts.access import Actor, may_see
from neuropod.accounts.keys import NewKey
from neuropod.accounts.records import ApiKeyRow
from neuropod.accounts.service import SignedIn
from neuropod.db.events import EventRow
from neuropod.kit.money import Micros, decimal_text
from neuropod.pods.gpus.holders import Holder
from neuropod.pods.limits.idleness import IdleView
from neuropod.pods.records import IncarnationRow
from neuropod.pods.views import OwnerView, PodView, PortView
from neuropod.settings import Addresses
from neuropod.templates.snapshot import TemplateSnapshot
from neuropod.wire.accounts import ApiKey, ApiKeyCreated, Me
from neuropod.wire.events import Event
from neuropod.wire.pods import AttachedVolume, GpuHolder, Idle, Incarnation, Owner, Pod, Port, Progress
from neuropod.wire.shapes import Price
from neuropod.words import JupyterMode, Reason, Role, Scope, Want

CURRENCY = "EUR"


def price_answer(per_hour: Micros) -> Price:
    """Return a price."""
    return Price(per_hour=decimal_text(per_hour), per_hour_micros=per_hour, currency=CURRENCY)


def me_answer(signed_in: SignedIn) -> Me:
    """Return who is asking."""
    user, actor = signed_in.user, signed_in.actor
    scopes = actor.scopes if actor.role is Role.ADMIN else actor.scopes - {Scope.ADMIN}
    return Me(
        id=user.id,
        email=user.email,
        name=user.name,
        role=Role(user.role),
        hash=user.hash,
        has_password=user.password_hash is not None,
        scopes=sorted(scopes),
        via="session" if actor.via == "session" else "key",
    )


def api_key_answer(row: ApiKeyRow) -> ApiKey:
    """Return a key without the key."""
    return ApiKey(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=[Scope(scope) for scope in row.scopes],
        preset=row.preset,
        created_at=row.created_at,
        used_at=row.used_at,
        expires_at=row.expires_at,
    )


def api_key_created_answer(made: NewKey) -> ApiKeyCreated:
    """Return a new key, this once with the key."""
    return ApiKeyCreated(**api_key_answer(made.row).model_dump(), key=made.key.reveal())


def port_answer(port: PortView, addresses: Addresses) -> Port:
    """Return a port and its address."""
    return Port(
        port=port.port, name=port.name, access=port.access, host=port.host, url=addresses.pod_origin(port.host) + "/"
    )


def incarnation_answer(row: IncarnationRow) -> Incarnation:
    """Return one run of a pod."""
    return Incarnation(
        number=row.number,
        opened_at=row.opened_at,
        started_at=row.started_at,
        ready_at=row.ready_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        reason=Reason(row.reason),
        message=row.message,
    )


def _owner_answer(person: OwnerView) -> Owner:
    return Owner(id=person.id, email=person.email, hash=person.hash)


def holder_answers(holders: Sequence[Holder], viewer: Actor | None) -> list[GpuHolder]:
    """Return who holds GPUs; names of others' pods are for administrators alone."""
    return [
        GpuHolder(gpus=one.gpus, pod=one.pod_name, owner=one.owner_email)
        if viewer is not None and may_see(viewer, one.owner_id)
        else GpuHolder(gpus=one.gpus, pod=None, owner=None)
        for one in holders
    ]


def pod_answer(view: PodView, addresses: Addresses, viewer: Actor | None = None) -> Pod:
    """Return a pod as the viewer may see it (None: as anybody who may see it)."""
    pod, shown = view.pod, view.shown
    progress = shown.progress
    template = TemplateSnapshot.from_json(pod.template)
    return Pod(
        id=pod.id,
        name=pod.name,
        owner=_owner_answer(view.owner),
        created_by=_owner_answer(view.maker),
        created_at=pod.created_at,
        want=Want(pod.want),
        status=shown.status,
        reason=shown.reason,
        message=shown.message,
        progress=progress
        and Progress(step=progress.step, done=progress.done, total=progress.total, unit=progress.unit),
        since=shown.since,
        place=shown.place,
        holders=holder_answers(view.holders, viewer),
        template=template.name if pod.template_id is not None else None,
        image=pod.image,
        command=None if pod.command is None else list(pod.command),
        gpu_type=pod.gpu_type,
        gpu_count=pod.gpu_count,
        cpu_cores=pod.cpu_cores,
        memory_gb=pod.memory_gb,
        container_disk_gb=pod.container_disk_gb,
        volume=view.volume and AttachedVolume(id=view.volume.id, name=view.volume.name, size_gb=view.volume.size_gb),
        jupyter=JupyterMode(pod.jupyter),
        ports=[port_answer(port, addresses) for port in view.ports],
        stop_after_seconds=pod.stop_after_seconds,
        idle_stop_after_seconds=pod.idle_stop_after_seconds,
        stops_at=view.outlook.stops_at,
        idle=_idle(view.outlook.idle),
        price=price_answer(pod.price_micros_per_hour),
        runtime=pod.runtime_id,
        incarnation=view.incarnation and incarnation_answer(view.incarnation),
    )


def _idle(view: IdleView | None) -> Idle | None:
    if view is None:
        return None
    return Idle(since=view.since, stops_at=view.stops_at, kept_by=list(view.kept_by))


def event_answer(row: EventRow) -> Event:
    """Return what happened."""
    return Event(id=row.id, at=row.at, kind=row.kind, message=row.message, pod_id=row.pod_id, data=row.data)
