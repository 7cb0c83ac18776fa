"""`neuropod volume …`: disks that outlive pods."""

import sys

import click

from neuropod.cli.commands import UserCall, UserGroup
from neuropod.client.volumes import Volumes
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import ago, local_time
from neuropod.wire.volumes import Volume, VolumeCreate, VolumeGrow

_COLUMNS = (
    Column("NAME"),
    Column("SIZE", right=True),
    Column("USED", right=True),
    Column("PER HOUR", right=True),
    Column("PODS", shrinks=True),
)
_GB = 10**9


@click.group("volume", cls=UserGroup)
def volume() -> None:
    """Disks that outlive pods: how full they are, and larger ones."""


@volume.command("ls", examples=["neuropod volume ls", "neuropod volume ls --all --json"])
@click.option("--all", "everybody", is_flag=True, help="All people's; for administrators.")
@click.pass_obj
def list_(call: UserCall, everybody: bool) -> None:
    """List your volumes, how full they are, and which pods attach them."""
    found = list(Volumes(call.connection()).list_volumes(everybody=everybody))
    if call.show_json(found):
        return
    if not found:
        call.screen.note(
            f"No volumes yet. The first pod makes one, workspace; or: {call.program} volume create data --size 50"
        )
        return
    columns, rows = list(_COLUMNS), [_row(one) for one in found]
    if everybody:
        columns.append(Column("OWNER", shrinks=True))
        rows = [[*row, one.owner.email] for row, one in zip(rows, found, strict=True)]
    call.screen.table(columns, rows, {"full": "red"})


def _row(one: Volume) -> list[str]:
    pods = ", ".join(pod.name for pod in one.pods) or "-"
    return [one.name, f"{one.size_gb} GB", _used(one), f"{one.price.per_hour} {one.price.currency}", pods]


def _used(one: Volume) -> str:
    if one.use is None:
        return "-"
    return "full" if one.use.full else f"{one.use.used_bytes / _GB:.1f} GB"


@volume.command("show", examples=["neuropod volume show workspace"])
@click.argument("name")
@click.pass_obj
def show(call: UserCall, name: str) -> None:
    """Show all about a volume."""
    found = Volumes(call.connection()).show_volume(name)
    if not call.show_json(found):
        _show(call, found)


def _show(call: UserCall, found: Volume) -> None:
    use, now = found.use, call.clock.now()
    pairs = [
        ("Volume", found.name),
        ("Size", f"{found.size_gb} GB"),
        ("", "larger from a pod's next start on, once no other pod uses it" if use and use.grows_later else ""),
        ("Lost", "it is not there any more, and what was in it is gone" if found.lost else ""),
        ("Used", "not told: no pod has used it yet, or its machine does not answer" if use is None else _used(found)),
        ("", "" if use is None else f"measured {ago(use.measured_at, now)} ago"),
        ("Full", "" if found.full_since is None else f"for {ago(found.full_since, now)}"),
        ("Pods", ", ".join(pod.name for pod in found.pods) or "none"),
        ("Price", f"{found.price.per_hour} {found.price.currency} per hour, while it exists"),
        ("Owner", found.owner.email),
        ("Created", local_time(found.created_at)),
        ("Runtime", found.runtime),
        ("Id", found.id),
    ]
    call.screen.fields([(name, value) for name, value in pairs if value])


@volume.command("create", examples=["neuropod volume create data --size 50"])
@click.argument("name")
@click.option("--size", type=int, default=10, show_default=True, metavar="GB", help="How large.")
@click.option("--owner", metavar="ID", help="For whom; for administrators.")
@click.pass_obj
def create(call: UserCall, name: str, size: int, owner: str | None) -> None:
    """Make a volume. A pod attaches it by its name: pod create … --volume NAME."""
    asked = (
        VolumeCreate(name=name, size_gb=size) if owner is None else VolumeCreate(name=name, size_gb=size, owner=owner)
    )
    made = Volumes(call.connection()).create_volume(asked)
    if call.show_json(made):
        return
    call.screen.say(f"{made.name}: {made.size_gb} GB, {made.price.per_hour} {made.price.currency} per hour")
    call.screen.note(f"Attach it: {call.program} pod create NAME --template jupyterlab --volume {made.name}")


@volume.command("grow", examples=["neuropod volume grow workspace --size 40"])
@click.argument("name")
@click.option("--size", type=int, required=True, metavar="GB", help="How large it shall be.")
@click.pass_obj
def grow(call: UserCall, name: str, size: int) -> None:
    """Make a volume larger, also while pods use it. It never becomes smaller."""
    found = Volumes(call.connection()).grow_volume(name, VolumeGrow(size_gb=size))
    if call.show_json(found):
        return
    later = found.use is not None and found.use.grows_later
    when = " from the next start on, once no other pod uses it" if later else ""
    call.screen.say(f"{found.name}: {found.size_gb} GB{when}")


@volume.command("rm", examples=["neuropod volume rm data", "neuropod volume rm data old-data --yes"])
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(call: UserCall, names: tuple[str, ...], yes: bool) -> None:
    """Delete volumes with all that is in them, for good. A pod that attaches one keeps it from going.

    Asks first where somebody can answer: on a terminal.
    """
    volumes = Volumes(call.connection())
    found = [volumes.show_volume(name) for name in names]
    if not yes and not call.screen.json and sys.stdin.isatty() and call.screen.is_terminal:
        what = ", ".join(f"{one.name} ({_used(one)} used)" for one in found)
        click.confirm(f"Delete {what} for good?", abort=True)
    for one in found:
        volumes.delete_volume(one.id)
        if not call.screen.json:
            call.screen.say(f"{one.name}: deleted")
    call.show_json(found)
