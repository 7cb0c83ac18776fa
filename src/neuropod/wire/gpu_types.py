"""GPU types: what is on offer, and what administrators make of it."""

from typing import Annotated

from neuropod.wire.shapes import Answer, Page, Price, Request, limits

_MOST_MICROS = 100_000_000_000


class PriceSet(Request):
    """A price of an hour, as text or in millionths; one of the two. A JSON number with a point is refused."""

    per_hour: str | None = None
    """Decimal text with at most six decimals: `2.50`."""

    per_hour_micros: Annotated[int, limits(0, _MOST_MICROS)] | None = None
    """The same in millionths: 2500000."""


class GpuTypeCreate(Request):
    """A type to offer."""

    name: str
    """As typed after `--gpu-type`: 1 to 40 of a-z, 0-9, `.` and `-`."""

    title: str | None = None
    """Default: the name."""

    price: PriceSet
    """Of one unit."""

    cpu_cores: Annotated[int, limits(1, 1024)]
    memory_gb: Annotated[int, limits(1, 16_384)]
    gpus: Annotated[int, limits(0, 16)] = 1
    """GPUs per unit; 0 for a type without."""

    model_pattern: str = ""
    """How a machine's devices of this type are found: a regular expression for the whole name that the driver gives
    them, letters' case aside: `(NVIDIA )?H100.*`. Empty for a type without GPUs, or one that only clusters have."""

    gpu_resource: str = ""
    """How a cluster's are found: what its device plugin calls them, `nvidia.com/gpu`."""

    node_selector: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """And labels that their nodes have. Pods of the type run on such nodes alone, also of one without GPUs."""

    runtimes: list[str] = []  # noqa: RUF012 - pydantic copies it
    """On which runtimes it is offered, by name (`local`, or a cluster's). Empty: on all that can run it."""

    position: Annotated[int, limits(0, 100_000)] | None = None
    """Its place in lists. Default: the end."""

    on_offer: bool = True
    """False: it is withdrawn. Who has it keeps it; nobody else takes it."""


class GpuTypeEdit(Request):
    """Changes to a type; what is absent stays. Pods that run keep size and price that they were started with."""

    title: str | None = None
    price: PriceSet | None = None
    cpu_cores: Annotated[int, limits(1, 1024)] | None = None
    memory_gb: Annotated[int, limits(1, 16_384)] | None = None
    gpus: Annotated[int, limits(0, 16)] | None = None
    model_pattern: str | None = None
    gpu_resource: str | None = None
    node_selector: dict[str, str] | None = None
    runtimes: list[str] | None = None
    position: Annotated[int, limits(0, 100_000)] | None = None
    on_offer: bool | None = None


class GpuDevice(Answer):
    """One GPU of a machine or cluster, and who has it."""

    name: str
    """The driver's own: `GPU-<uuid>`."""

    model: str
    memory_bytes: int
    runtime: str
    host: str = ""
    """In which machine of a cluster it is."""

    trouble: str | None
    """What is wrong with it; such a GPU is given to nobody."""

    pod: str | None
    """The name of the pod that has it."""

    owner: str | None
    """The address of whose pod that is."""


class GpuType(Answer):
    """A type that a pod can be launched on. The one without GPU is `cpu`."""

    name: str
    title: str
    price: Price
    """Of one unit; a pod with `gpu_count` 2 costs twice that. Its container disk comes on top."""

    cpu_cores: int
    memory_gb: int
    gpus: int
    """GPUs per unit; 0 for `cpu`."""

    free: int
    """Units that could start now."""

    total: int
    """Units that the runtimes here have."""

    waiting: int
    """Pods that wait for it; a new one waits behind them."""

    on_offer: bool
    """False: withdrawn, shown to administrators alone."""

    position: int
    """Its place in lists."""

    model_pattern: str
    """How a machine's devices are found: a regular expression for the driver's name."""

    gpu_resource: str = ""
    """How a cluster's are found: what its device plugin calls them."""

    node_selector: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """And labels that their nodes have."""

    runtimes: list[str] = []  # noqa: RUF012 - pydantic copies it
    """On which runtimes it is offered, by name; empty: on all that can run it."""

    devices: list[GpuDevice] | None = None
    """The GPUs that are of this type, and who has them; for administrators."""


class GpuTypePage(Page[GpuType]):
    """A part of the list of types."""
