"""`neuropod pod top`: what running pods use now, as a table; with `--watch` again and again."""

from collections.abc import Sequence

import click

from neuropod.cli.commands import UserCall, UserCommand
from neuropod.cli.connecting import complete_pod, pods_of
from neuropod.client.pods import Pods
from neuropod.kit.errors import NotFoundError
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import ago
from neuropod.wire.pods import Pod
from neuropod.wire.usage import PodUsage

_GB = 10**9
_COLUMNS = (
    Column("NAME"),
    Column("STATUS"),
    Column("CPU", right=True),
    Column("MEMORY", right=True),
    Column("DISK", right=True),
    Column("VOLUME", right=True),
    Column("GPU", right=True),
    Column("IDLE"),
)
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"  # from the top of an empty screen


@click.command(
    "top",
    cls=UserCommand,
    examples=["neuropod pod top", "neuropod pod top lab --watch", "neuropod pod top --all --json"],
)
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_pod)
@click.option("--all", "everybody", is_flag=True, help="All people's pods; for administrators.")
@click.option("--watch", "-w", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(1), default=2, show_default=True, metavar="SECONDS", help="With --watch."
)
@click.pass_obj
def top(call: UserCall, names: tuple[str, ...], everybody: bool, watch: bool, interval: float) -> None:
    """Show what pods that run use of what they have, the busiest first."""
    if names and everybody:
        raise click.UsageError("name pods, or say --all")
    if not watch:
        _show(call, _look(pods_of(call), names, everybody=everybody), owners=everybody)
        return
    try:
        while True:
            found = _look(pods_of(call), names, everybody=everybody)
            if call.screen.is_terminal and not call.screen.json:
                call.screen.raw(_CLEAR)
            _show(call, found, owners=everybody)
            call.sleep(interval)
    except KeyboardInterrupt:
        return


def _look(pods: Pods, names: Sequence[str], *, everybody: bool) -> list[tuple[Pod, PodUsage]]:
    """Return the pods whose process runs, or those that were named, with their use."""
    wanted = [pods.show_pod(name) for name in names] if names else list(pods.list_pods(everybody=everybody))
    found = []
    for pod in wanted:
        run = pod.incarnation
        if not names and (run is None or run.started_at is None or run.ended_at is not None):
            continue
        try:
            found.append((pod, pods.show_usage(pod.id, hours=0)))
        except NotFoundError:  # deleted meanwhile
            continue
    return sorted(found, key=lambda one: -((one[1].now and one[1].now.cpu_cores) or 0.0))


def _show(call: UserCall, found: Sequence[tuple[Pod, PodUsage]], *, owners: bool) -> None:
    if call.show_json([usage for _, usage in found]):
        return
    if not found:
        call.screen.note("No pod runs.")
        return
    columns, rows = [*_COLUMNS], [_row(call, pod, usage) for pod, usage in found]
    if owners:
        columns.append(Column("OWNER", shrinks=True))
        rows = [[*row, pod.owner.email] for row, (pod, _) in zip(rows, found, strict=True)]
    call.screen.table(columns, rows)


def _row(call: UserCall, pod: Pod, usage: PodUsage) -> list[str]:
    now, size = usage.now, usage.size
    idle = pod.idle
    if idle is None or (idle.since is None and not idle.kept_by):
        how_idle = "-"
    elif idle.kept_by:
        how_idle = "no: " + ", ".join(idle.kept_by)
    else:
        how_idle = ago(idle.since, call.clock.now())
    if now is None:
        return [pod.name, str(pod.status), *["-"] * 5, how_idle]
    return [
        pod.name,
        str(pod.status),
        "-" if now.cpu_cores is None else f"{now.cpu_cores:.2f}/{size.cpu_cores}",
        _of(now.memory_bytes, size.memory_bytes),
        _of(now.container_disk_bytes, size.container_disk_bytes),
        _of(now.volume_bytes, size.volume_bytes),
        "-" if now.gpu_percent is None else f"{now.gpu_percent} %",
        how_idle,
    ]


def _of(used: int | None, size: int | None) -> str:
    if used is None or size is None:
        return "-"
    return f"{used / _GB:.1f}/{size // _GB} GB"
