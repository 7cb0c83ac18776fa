"""`/api/v1/pods`: create, list, show, edit, start, stop, restart, delete. `{pod}` is an id, or a name of one's own."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import SecretStr, ValidationError

from neuropod.api.answers import pod_answer
from neuropod.api.deps import Caller, Reader, Writer
from neuropod.api.errors import WrongFieldsToo
from neuropod.api.idempotent import Idempotency
from neuropod.api.offers import to_choose_from
from neuropod.api.paging import AskedPage
from neuropod.api.trying import wrong_fields
from neuropod.ids import UserId
from neuropod.kit.errors import FieldError, InvalidInputError
from neuropod.kit.secrets import Secret
from neuropod.pods.launch import UNSET, EditRequest, LaunchRequest, NotSent, PortRequest, VolumeRequest
from neuropod.pods.views import PodFilters
from neuropod.wire.pods import Pod, PodCreate, PodEdit, PodPage, PortCreate, SecretRef, VolumeAsk
from neuropod.words import Status

router = APIRouter(prefix="/pods", tags=["pods"])


def port_request(port: PortCreate) -> PortRequest:
    """Return what the use-cases take."""
    return PortRequest(port=port.port, name=port.name, access=port.access)


def launch_request(body: PodCreate) -> LaunchRequest:
    """Return what the use-case takes."""
    return LaunchRequest(
        name=body.name,
        owner=body.owner,
        template=body.template,
        image=body.image,
        command=None if body.command is None else tuple(body.command),
        gpu_type=body.gpu_type,
        gpu_count=body.gpu_count,
        container_disk_gb=body.container_disk_gb,
        volume=_volume(body.volume, "volume" in body.model_fields_set),
        ports=None if body.ports is None else tuple(port_request(port) for port in body.ports),
        env=_plain(body.env),
        env_secrets=_named(body.env),
        jupyter=body.jupyter,
        stop_after_seconds=_sent_or_unset(body, "stop_after_seconds"),
        idle_stop_after_seconds=_sent_or_unset(body, "idle_stop_after_seconds"),
    )


# Fields of an edit for which null means something.
_NULLABLE = frozenset({"command", "volume", "stop_after_seconds", "idle_stop_after_seconds"})


def _sent_or_unset(body: PodCreate | PodEdit, field: str) -> int | NotSent | None:
    return getattr(body, field) if field in body.model_fields_set else UNSET


def edit_request(body: PodEdit) -> EditRequest:
    """Return what the use-case takes: only fields that were sent."""
    sent = body.model_fields_set
    nulls = [name for name in sent - _NULLABLE if getattr(body, name) is None]
    if nulls:
        wrong = [FieldError(name, "type", "cannot be null; leave it out to keep it") for name in sorted(nulls)]
        raise InvalidInputError("; ".join(f"{error.field} {error.message}" for error in wrong), fields=wrong)
    return EditRequest(
        image=UNSET if body.image is None else body.image,
        command=UNSET if "command" not in sent else (None if body.command is None else tuple(body.command)),
        gpu_type=UNSET if body.gpu_type is None else body.gpu_type,
        gpu_count=UNSET if body.gpu_count is None else body.gpu_count,
        container_disk_gb=UNSET if body.container_disk_gb is None else body.container_disk_gb,
        volume=_volume(body.volume, "volume" in sent),
        env=UNSET if body.env is None else _plain(body.env),
        env_secrets=_named(body.env or {}),
        jupyter=UNSET if body.jupyter is None else body.jupyter,
        stop_after_seconds=_sent_or_unset(body, "stop_after_seconds"),
        idle_stop_after_seconds=_sent_or_unset(body, "idle_stop_after_seconds"),
        restart=body.restart,
    )


def _volume(asked: VolumeAsk | None, sent: bool) -> VolumeRequest | NotSent | None:
    if not sent:
        return UNSET
    return None if asked is None else VolumeRequest(name=asked.name, size_gb=asked.size_gb)


def _plain(env: Mapping[str, SecretStr | SecretRef]) -> dict[str, Secret]:
    return {name: Secret(value.get_secret_value()) for name, value in env.items() if isinstance(value, SecretStr)}


def _named(env: Mapping[str, SecretStr | SecretRef]) -> dict[str, str]:
    return {name: value.secret for name, value in env.items() if isinstance(value, SecretRef)}


@router.post("", status_code=201, operation_id="createPod")
async def create_pod(
    body: PodCreate,
    caller: Writer,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=255, description="The same key and body again: the same pod, not a second."),
    ] = None,
) -> Pod:
    """Launch a pod. It starts as soon as there is room; watch its status."""
    pods, addresses = caller.parts.pods, caller.parts.addresses
    once = await Idempotency.of(caller, "POST /api/v1/pods", idempotency_key)
    capacity_of = await to_choose_from(caller.parts.runtimes)
    async with caller.writing() as session:
        earlier = await once.earlier(session)
        if earlier is not None:
            view = await pods.show_pod(session, earlier, actor=caller.actor)
        else:
            view = await pods.launch_pod(session, launch_request(body), actor=caller.actor, capacities=capacity_of)
            once.remember(session, view.id)
    response.headers["Location"] = f"/api/v1/pods/{view.id}"
    return pod_answer(view, addresses, caller.actor)


@router.get("", operation_id="listPods")
async def list_pods(
    caller: Reader,
    asked: AskedPage,
    everybody: Annotated[bool, Query(description="All people's pods; for administrators.")] = False,
    owner: Annotated[
        str | None, Query(description="The owner's id or address; for administrators.", max_length=320)
    ] = None,
    name: Annotated[str | None, Query(description="Only pods of this name.", max_length=100)] = None,
    gpu_type: Annotated[str | None, Query(description="Only pods on this type.", max_length=100)] = None,
    status: Annotated[Status | None, Query(description="Only those. A page may be short and go on.")] = None,
) -> PodPage:
    """Return one's own pods, newest first; deleted ones as long as something of them is left."""
    async with caller.reading() as session:
        owner_id = owner
        if owner is not None and "@" in owner:
            owner_id = (await caller.parts.accounts.people.show_user(session, owner, actor=caller.actor)).id
        filters = PodFilters(
            owner_id=None if owner_id is None else UserId(owner_id),
            everybody=everybody,
            name=name,
            gpu_type=gpu_type,
            status=status,
        )
        page = await caller.parts.pods.list_pods(
            session, actor=caller.actor, filters=filters, cursor=asked.cursor, limit=asked.limit
        )
    addresses = caller.parts.addresses
    return PodPage(
        items=[pod_answer(view, addresses, caller.actor) for view in page.items], next_cursor=page.next_cursor
    )


@router.get("/{pod}", operation_id="showPod")
async def show_pod(pod: str, caller: Reader) -> Pod:
    """Return a pod."""
    async with caller.reading() as session:
        view = await caller.parts.pods.show_pod(session, pod, actor=caller.actor)
    return pod_answer(view, caller.parts.addresses, caller.actor)


@router.patch("/{pod}", operation_id="editPod")
async def edit_pod(pod: str, body: PodEdit, caller: Writer) -> Pod:
    """Change a pod. A running one needs `restart: true` for all but its limits of time: that takes a new run."""
    request = edit_request(body)
    async with caller.writing() as session:
        view = await caller.parts.pods.edit_pod(session, pod, request, actor=caller.actor)
    return pod_answer(view, caller.parts.addresses, caller.actor)


@router.delete("/{pod}", status_code=202, operation_id="deletePod")
async def delete_pod(pod: str, caller: Writer) -> Pod:
    """Delete a pod; its volume stays. The pod is gone (404) once nothing of it is left."""
    async with caller.writing() as session:
        view = await caller.parts.pods.delete_pod(session, pod, actor=caller.actor)
    return pod_answer(view, caller.parts.addresses, caller.actor)


@router.post("/{pod}/start", operation_id="startPod")
async def start_pod(pod: str, caller: Writer) -> Pod:
    """Wish the pod to run. One that runs already stays as it is."""
    async with caller.writing() as session:
        view = await caller.parts.pods.start_pod(session, pod, actor=caller.actor)
    return pod_answer(view, caller.parts.addresses, caller.actor)


@router.post("/{pod}/stop", operation_id="stopPod")
async def stop_pod(pod: str, caller: Writer) -> Pod:
    """Wish the pod to be stopped. Its volume and addresses stay; what it wrote elsewhere is lost."""
    async with caller.writing() as session:
        view = await caller.parts.pods.stop_pod(session, pod, actor=caller.actor)
    return pod_answer(view, caller.parts.addresses, caller.actor)


@router.post("/{pod}/restart", operation_id="restartPod")
async def restart_pod(pod: str, caller: Writer) -> Pod:
    """Wish for a new run of the pod; what it wrote outside its volume is lost."""
    async with caller.writing() as session:
        view = await caller.parts.pods.restart_pod(session, pod, actor=caller.actor)
    return pod_answer(view, caller.parts.addresses, caller.actor)


# What else is wrong with a request whose shape is wrong


async def wrong_with_create(request: Request, rest: dict[str, Any]) -> Sequence[FieldError]:
    """Ask what else is wrong with a launch."""
    caller: Caller = request.state.caller
    try:
        body = PodCreate.model_validate({"name": "a"} | rest)
        launch = launch_request(body)
    except ValidationError:
        return ()
    return await wrong_fields(caller, lambda session: caller.parts.pods.launch_pod(session, launch, actor=caller.actor))


async def _wrong_with_edit(request: Request, rest: dict[str, Any]) -> Sequence[FieldError]:
    caller: Caller = request.state.caller
    try:
        edit = edit_request(PodEdit.model_validate(rest))
    except ValidationError:
        return ()
    except InvalidInputError as error:
        return error.fields
    pod = request.path_params["pod"]
    return await wrong_fields(
        caller, lambda session: caller.parts.pods.edit_pod(session, pod, edit, actor=caller.actor)
    )


CHECKS: dict[str, WrongFieldsToo] = {"create_pod": wrong_with_create, "edit_pod": _wrong_with_edit}
