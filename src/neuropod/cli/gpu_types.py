"""`neuropod gpu-type …`: what pods run on, what it costs, what is free; and for administrators the catalogue itself."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from neuropod.cli.commands import UserCall, UserGroup
from neuropod.client.gpu_types import GpuTypes
from neuropod.kit.terminal.tables import Column
from neuropod.wire.gpu_types import GpuDevice, GpuType, GpuTypeCreate, GpuTypeEdit, PriceSet

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = (
    Column("NAME"),
    Column("FREE"),
    Column("WAITING", right=True),
    Column("PER HOUR", right=True),
    Column("CORES", right=True),
    Column("MEMORY", right=True),
    Column("GPUS", right=True),
    Column("TITLE", shrinks=True),
)
_DEVICE_COLUMNS = (
    Column("GPU"),
    Column("TYPE"),
    Column("MEMORY", right=True),
    Column("POD"),
    Column("OWNER", shrinks=True),
    Column("", shrinks=True),
)
_FIELDS = ("title", "cpu_cores", "memory_gb", "gpus", "model_pattern", "gpu_resource", "position", "on_offer")


@click.group("gpu-type", cls=UserGroup)
def gpu_type() -> None:
    """Look at GPU types: what they cost, and what is free. Administrators change them."""


@gpu_type.command(
    "ls",
    examples=["neuropod gpu-type ls", "neuropod gpu-type ls --devices", "neuropod gpu-type ls --json"],
)
@click.option("--devices", is_flag=True, help="Each GPU, and whose pod has it; for administrators.")
@click.pass_obj
def list_(call: UserCall, devices: bool) -> None:
    """List the types that pods can run on; the one without GPU is `cpu`."""
    found = list(GpuTypes(call.connection()).list_gpu_types())
    if call.show_json(found):
        return
    if devices:
        _show_devices(call, found)
    elif found:
        call.screen.table(_COLUMNS, [_row(one) for one in found])
    else:
        call.screen.note("No type is on offer here; an administrator has to make one: neuropod gpu-type create")


def _row(one: GpuType) -> list[str]:
    return [
        one.name,
        f"{one.free} of {one.total}" if one.on_offer else "withdrawn",
        str(one.waiting or "-"),
        f"{one.price.per_hour} {one.price.currency}",
        str(one.cpu_cores),
        f"{one.memory_gb} GB",
        str(one.gpus),
        one.title,
    ]


def _show_devices(call: UserCall, found: list[GpuType]) -> None:
    rows = [_device_row(one, device) for one in found for device in one.devices or ()]
    if rows:
        call.screen.table(_DEVICE_COLUMNS, rows)
    elif any(one.devices is None for one in found):
        call.screen.note("Which GPU is whose is shown to administrators.")
    else:
        call.screen.note("There is no GPU of any of these types here. What the machine has: neuropod doctor")


def _device_row(one: GpuType, device: GpuDevice) -> list[str]:
    memory = f"{device.memory_bytes // 2**30} GiB"
    return [device.name, one.name, memory, device.pod or "-", device.owner or "-", device.trouble or ""]


def _options(command: F) -> F:
    for option in reversed((
        click.option("--title", metavar="TEXT", help="What stands beside the name in lists."),
        click.option("--price", metavar="AMOUNT", help="Of one unit for an hour, as in 2.50."),
        click.option("--cores", "cpu_cores", type=int, metavar="N", help="CPU cores of a unit."),
        click.option("--memory", "memory_gb", type=int, metavar="GB", help="Memory of a unit."),
        click.option("--gpus", type=int, metavar="N", help="GPUs of a unit; 0 for a type without."),
        click.option("--model", "model_pattern", metavar="REGEX",
                     help="The name that the driver gives its GPUs (neuropod doctor), as in 'NVIDIA H100.*'."),
        click.option("--resource", "gpu_resource", metavar="NAME",
                     help="On clusters: what the device plugin calls its GPUs, as in nvidia.com/gpu."),
        click.option("--node-label", "node_selector", metavar="NAME=VALUE", multiple=True,
                     help="On clusters: a label of the nodes that have them; '' for none. Can be repeated."),
        click.option("--runtime", "runtimes", metavar="NAME", multiple=True,
                     help="Offer it on this machine (local) or cluster alone; '' for all. Can be repeated."),
        click.option("--position", type=int, metavar="N", help="Its place in lists."),
        click.option("--on-offer/--withdrawn", default=None,
                     help="Withdrawn: who has it keeps it, nobody else takes it."),
    )):  # fmt: skip
        command = option(command)
    return command


@gpu_type.command(
    "create",
    examples=[
        "neuropod gpu-type create h100 --price 3.20 --cores 16 --memory 120 --model 'NVIDIA H100.*'",
        "neuropod gpu-type create a100 --price 2.10 --cores 12 --memory 100 --runtime lab --resource nvidia.com/gpu",
        "neuropod gpu-type create cpu-large --price 0.90 --cores 8 --memory 32 --gpus 0",
    ],
)
@click.argument("name")
@_options
@click.pass_obj
def create(call: UserCall, /, name: str, **given: Any) -> None:
    """Offer a type; for administrators."""
    needed = {"price": "--price", "cpu_cores": "--cores", "memory_gb": "--memory"}
    missing = [option for field, option in needed.items() if given[field] is None]
    if missing:
        raise click.UsageError(f"a type needs {', '.join(missing)}")
    made = GpuTypes(call.connection()).create_gpu_type(GpuTypeCreate(name=name, **_values(given)))
    if not call.show_json(made):
        call.screen.table(_COLUMNS, [_row(made)])
        if made.gpus and not made.devices:
            call.screen.note("No GPU here is of this type. What the machine has: neuropod doctor")


@gpu_type.command(
    "edit",
    examples=[
        "neuropod gpu-type edit rtx-4090 --price 2.80",
        "neuropod gpu-type edit rtx-4050 --withdrawn",
        "neuropod gpu-type edit rtx-4090 --model '(NVIDIA )?(GeForce )?RTX 4090.*'",
    ],
)
@click.argument("name")
@_options
@click.pass_obj
def edit(call: UserCall, /, name: str, **given: Any) -> None:
    """Change a type, or withdraw it; for administrators. Pods that run keep the size and price they started with."""
    values = _values(given)
    if not values:
        raise click.UsageError("say what to change, as in --price 2.80 or --withdrawn")
    changed = GpuTypes(call.connection()).edit_gpu_type(name, GpuTypeEdit(**values))
    if not call.show_json(changed):
        call.screen.table(_COLUMNS, [_row(changed)])


@gpu_type.command("rm", examples=["neuropod gpu-type rm rtx-4050 --yes"])
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(call: UserCall, name: str, yes: bool) -> None:
    """Delete a type of which there is no pod; for administrators.

    Asks first where somebody can answer: on a terminal.
    """
    if not yes and not call.screen.json and sys.stdin.isatty() and call.screen.is_terminal:
        click.confirm(f"Delete the GPU type {name}?", abort=True)
    GpuTypes(call.connection()).delete_gpu_type(name)
    call.screen.say(f"{name} is deleted.")


def _values(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request that were given."""
    values = {field: given[field] for field in _FIELDS if given[field] is not None}
    if given["node_selector"]:
        values["node_selector"] = _labels(given["node_selector"])
    if given["runtimes"]:
        values["runtimes"] = [name for name in given["runtimes"] if name]
    if given["price"] is not None:
        values["price"] = PriceSet(per_hour=given["price"])
    return values


def _labels(given: Sequence[str]) -> dict[str, str]:
    labels = {}
    for text in given:
        name, equals, value = text.partition("=")
        if text and not (name and equals):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--node-label")
        if text:
            labels[name] = value
    return labels
