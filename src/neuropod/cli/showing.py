"""How pods look at a terminal: a row of the list, and all about one."""

from collections.abc import Sequence
from datetime import datetime

from neuropod.kit.terminal.screen import Screen
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import ago, exact_span, local_time
from neuropod.wire.pods import GpuHolder, Pod, Port
from neuropod.words import Status

COLOURS = {
    Status.RUNNING: "green",
    Status.FAILED: "red",
    Status.UNREACHABLE: "red",
    Status.WAITING: "yellow",
    Status.STARTING: "yellow",
    Status.STOPPING: "yellow",
    Status.DELETING: "yellow",
}
_SAY_WHY = frozenset({Status.WAITING, Status.STARTING, Status.FAILED, Status.UNREACHABLE})
_PORT_COLUMNS = (Column("PORT", right=True), Column("NAME", shrinks=True), Column("ACCESS"), Column("ADDRESS"))


def _size(pod: Pod) -> str:
    return pod.gpu_type if pod.gpu_count == 1 else f"{pod.gpu_count} x {pod.gpu_type}"


def _why(pod: Pod) -> str:
    return pod.message if pod.status in _SAY_WHY else ""


def show_pods(screen: Screen, pods: Sequence[Pod], now: datetime, *, owners: bool) -> None:
    """Print a list of pods."""
    columns = [Column("NAME"), Column("STATUS"), Column("SINCE"), Column("FROM", shrinks=True), Column("TYPE")]
    columns += [Column("PER HOUR", right=True)]
    rows = [
        [
            pod.name,
            str(pod.status),
            ago(pod.since, now),
            pod.template or pod.image or "-",
            _size(pod),
            f"{pod.price.per_hour} {pod.price.currency}",
        ]
        for pod in pods
    ]
    if owners:
        columns.append(Column("OWNER", shrinks=True))
        rows = [[*row, pod.owner.email] for row, pod in zip(rows, pods, strict=True)]
    if any(_why(pod) for pod in pods):
        columns.append(Column("WHY", shrinks=True))
        rows = [[*row, _why(pod)] for row, pod in zip(rows, pods, strict=True)]
    screen.table(columns, rows, {str(status): colour for status, colour in COLOURS.items()})


def show_pod(screen: Screen, pod: Pod, now: datetime) -> None:
    """Print all about a pod."""
    run = pod.incarnation
    pairs = [
        ("Pod", pod.name),
        ("Status", f"{pod.status} for {ago(pod.since, now)}" if pod.since is not None else str(pod.status)),
        ("", pod.message),
        ("From", f"template {pod.template}" if pod.template is not None else f"image {pod.image}"),
        ("Command", " ".join(pod.command) if pod.command else ""),
        ("Type", f"{_size(pod)}: {pod.cpu_cores} cores, {pod.memory_gb} GB memory"),
        ("Price", f"{pod.price.per_hour} {pod.price.currency} per hour while it runs, its container disk included"),
        ("Held by", holders(pod.holders)),
        ("Volume", f"{pod.volume.name}, {pod.volume.size_gb} GB at {pod.volume.path}: kept" if pod.volume else "none"),
        ("Disk", f"{pod.container_disk_gb} GB elsewhere: lost when it stops"),
        ("Stops", _deadline(pod)),
        ("Idle", _idle(pod, now)),
        ("Owner", pod.owner.email),
        ("Made by", pod.created_by.email if pod.created_by.id != pod.owner.id else ""),
        ("Created", local_time(pod.created_at)),
        ("Run", "" if run is None else f"no. {run.number}, begun {local_time(run.started_at or run.opened_at)}"),
        ("Id", pod.id),
    ]
    screen.fields([(name, value) for name, value in pairs if value])
    if pod.ports:
        screen.say()
        show_ports(screen, pod.ports)


def _deadline(pod: Pod) -> str:
    if pod.stop_after_seconds is None:
        return ""
    after = f"{exact_span(pod.stop_after_seconds)} after a run began"
    return after if pod.stops_at is None else f"{local_time(pod.stops_at)}, {after}"


def _idle(pod: Pod, now: datetime) -> str:
    if pod.idle_stop_after_seconds is None:
        return ""
    limit = f"stopped after {exact_span(pod.idle_stop_after_seconds)} of it"
    if pod.idle is None or (pod.idle.since is None and not pod.idle.kept_by):
        return limit
    if pod.idle.kept_by:
        return f"no ({', '.join(pod.idle.kept_by)}); {limit}"
    return f"for {ago(pod.idle.since, now)}, stops at {local_time(pod.idle.stops_at)}; {limit}"


def holders(held_by: Sequence[GpuHolder]) -> str:
    """Return who has the GPUs that somebody waits for: names where one may know them."""
    named = [f"{one.pod} of {one.owner} ({one.gpus})" for one in held_by if one.pod is not None]
    others = sum(one.gpus for one in held_by if one.pod is None)
    if others:
        named.append(f"other people's pods ({others})")
    return ", ".join(named)


def show_ports(screen: Screen, ports: Sequence[Port]) -> None:
    """Print ports and their addresses."""
    screen.table(_PORT_COLUMNS, [[str(port.port), port.name, str(port.access), port.url] for port in ports])
