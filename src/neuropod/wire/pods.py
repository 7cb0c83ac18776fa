"""Pods and their ports."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from neuropod.wire.shapes import Answer, Page, Price, Request, limits
from neuropod.words import Access, Activity, JupyterMode, Reason, Status, Want

LEAST_LIMIT_SECONDS, MOST_LIMIT_SECONDS = 60, 366 * 24 * 3600
POD_NAME_PATTERN = "^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$"


class PortCreate(Request):
    """A port to expose."""

    port: Annotated[int, limits(1, 65535)]
    name: str | None = None
    """Default: the template's; `Jupyter Lab` for 8888 with Jupyter on; else `Service N`."""

    access: Access | None = None
    """Default: the template's, else `private`."""


class PortEdit(Request):
    """Changes to a port; what is absent stays."""

    name: str | None = None
    access: Access | None = None


class VolumeAsk(Request):
    """Which of the owner's disks to attach. It is made at its first use."""

    name: str = "workspace"
    size_gb: Annotated[int, limits(1, 150)] | None = None
    """Default: the disk's own size, or the template's when it is made now."""


class SecretRef(Request):
    """Names a secret of the owner's, whose value is given at each start."""

    secret: str


def _env_value(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Choose the shape by what was sent, so that an error names the variable and no shape."""
    if isinstance(value, dict):
        return SecretRef.model_validate(value)
    if isinstance(value, str | SecretStr | SecretRef):
        return handler(value)
    raise PydanticCustomError("string_type", 'must be a text, or {{"secret": NAME}}')


EnvValue = Annotated[SecretStr | SecretRef, WrapValidator(_env_value)]
PlainEnvValue = Annotated[str | SecretRef, WrapValidator(_env_value)]
"""Of templates, whose values are no secrets."""


class PodCreate(Request):
    """A pod to launch: from a template, or from any image."""

    name: Annotated[str, Field(json_schema_extra={"pattern": POD_NAME_PATTERN})]
    owner: str | None = None
    """The e-mail address of the client whom it is for; only administrators name one. Default: oneself."""

    template: str | None = None
    """The name or id of a template; or give `image`."""

    image: str | None = None
    command: list[str] | None = None
    """Replaces the image's or the template's own."""

    gpu_type: str | None = None
    """Default: the template's."""

    gpu_count: Annotated[int, limits(1)] = 1
    container_disk_gb: Annotated[int, limits(1, 100)] | None = None
    """Default: the template's. What a pod writes outside its volume is lost when it stops."""

    volume: VolumeAsk | None = None
    """Absent: as the template says. Null: none."""

    ports: list[PortCreate] | None = None
    """Absent: the template's."""

    env: dict[str, EnvValue] = Field(default_factory=dict)
    """Added to the template's. A value, stored encrypted, or `{"secret": "HF_TOKEN"}`: the owner's secret of that
    name, as it is at each start."""

    jupyter: JupyterMode | None = None
    """Absent: as the template says."""

    stop_after_seconds: Annotated[int, limits(LEAST_LIMIT_SECONDS, MOST_LIMIT_SECONDS)] | None = None
    """Stops each run so long after its process began, whatever it does; it can be started again. Absent: as this
    installation says. Null: never, where that is allowed."""

    idle_stop_after_seconds: Annotated[int, limits(LEAST_LIMIT_SECONDS, MOST_LIMIT_SECONDS)] | None = None
    """Stops it once it was idle for so long: nobody used its ports, no kernel worked, CPU and GPU rested. Absent: as
    this installation says. Null: never, where that is allowed."""


class PodEdit(Request):
    """Changes to a pod; what is absent stays. Name, owner and runtime never change.

    A change that needs a new run of a running pod is refused (409 `restart_required`) unless `restart` is true. The
    limits of time need none.
    """

    image: str | None = None
    command: list[str] | None = None
    gpu_type: str | None = None
    gpu_count: Annotated[int, limits(1)] | None = None
    container_disk_gb: Annotated[int, limits(1, 100)] | None = None
    volume: VolumeAsk | None = None
    """Null detaches."""

    env: dict[str, EnvValue] | None = None
    """Replaces all."""

    jupyter: JupyterMode | None = None
    stop_after_seconds: Annotated[int, limits(LEAST_LIMIT_SECONDS, MOST_LIMIT_SECONDS)] | None = None
    """Holds at once, counted from when the present run's process began. Null: never, where that is allowed."""

    idle_stop_after_seconds: Annotated[int, limits(LEAST_LIMIT_SECONDS, MOST_LIMIT_SECONDS)] | None = None
    """Holds at once. Null: never, where that is allowed."""

    restart: bool = False


class Port(Answer):
    """A port of a pod."""

    port: int
    name: str
    access: Access
    host: str
    """The host name of its address, the same after every stop and start."""

    url: str
    """Its address. For Jupyter signed in, ask for a link (`POST …/link`)."""


class PortPage(Page[Port]):
    """The list of a pod's ports."""


class PortLink(Answer):
    """A link that opens a port; for Jupyter it signs in. Not to be shared."""

    url: str
    expires_at: datetime | None = None
    """Null: as long as the pod's token is the same."""


class Owner(Answer):
    """Whose pod it is, or who made it."""

    id: str
    email: str
    hash: str


class Progress(Answer):
    """How far a preparation is: `done` of `total` (null while unknown) in `unit`."""

    step: str
    done: int
    total: int | None
    unit: str


class Incarnation(Answer):
    """One run of a pod."""

    number: int
    opened_at: datetime
    started_at: datetime | None
    ready_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    reason: Reason
    message: str


class AttachedVolume(Answer):
    """The disk that the pod attaches at `path`; it outlives the pod."""

    id: str
    name: str
    size_gb: int
    path: str = "/workspace"


class Idle(Answer):
    """Whether a pod that has `idle_stop_after_seconds` is idle; counted only while a server watches it."""

    since: datetime | None
    """Since when it is idle; null while something keeps it, and until it was looked at."""

    stops_at: datetime | None
    """When that stops it, if nothing comes in between."""

    kept_by: list[Activity]
    """What keeps it from being idle."""


class GpuHolder(Answer):
    """A pod that has GPUs which somebody waits for."""

    gpus: int
    pod: str | None
    """Its name; null unless it is one's own, or one is an administrator."""

    owner: str | None
    """The address of its owner, likewise."""


class Pod(Answer):
    """A pod."""

    id: str
    name: str
    owner: Owner
    created_by: Owner
    """Who made it: the owner, or an administrator for them."""

    created_at: datetime
    want: Want
    """What its owner wishes."""

    status: Status
    """What it is."""

    reason: Reason
    """Why, for programs."""

    message: str
    """Why, for people."""

    progress: Progress | None
    since: datetime | None
    """Since when it has this status."""

    place: int | None
    """Its place among those that wait for the same type; null when it does not wait."""

    holders: list[GpuHolder] = Field(default_factory=list)
    """When it waits for a GPU: which pods have those of its type."""

    template: str | None
    """The name of the template it was made from."""

    image: str | None
    command: list[str] | None
    gpu_type: str
    gpu_count: int
    cpu_cores: int
    memory_gb: int
    container_disk_gb: int
    volume: AttachedVolume | None
    jupyter: JupyterMode
    ports: list[Port]
    stop_after_seconds: int | None
    """How long after its process began a run is stopped; null: it is not."""

    idle_stop_after_seconds: int | None
    """How long it may be idle; null: for ever."""

    stops_at: datetime | None
    """When `stop_after_seconds` stops the present run; null while none runs."""

    idle: Idle | None
    """Of the present run; null without `idle_stop_after_seconds` and while none runs."""

    price: Price
    """Of the pod as it is, accepted at launch or start."""

    runtime: str
    """Which runtime runs it."""

    incarnation: Incarnation | None
    """Its newest run."""


class PodPage(Page[Pod]):
    """A part of the list of pods."""
