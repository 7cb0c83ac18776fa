"""`neuropod pod …`: the pods."""

import sys
from typing import Any

import click

from neuropod.cli.asked import env_of, port_of, volume_of
from neuropod.cli.context import Shared, as_json, shared, show_json, show_table
from neuropod.cli.outcome import Ended, Exit, explained
from neuropod.cli.text import ago, clean, clean_line, state_of
from neuropod.cli.waiting import wait_until_running, wait_until_stopped
from neuropod.client.api import Api
from neuropod.wire.pods import Pod, PodCreate, PodEdit
from neuropod.words import Status

_TIMEOUT_SECONDS = 1800


@click.group("pod")
def pod() -> None:
    """Launch, look at, stop and delete pods."""


def _waiting(command: Any) -> Any:
    command = click.option("--timeout", default=_TIMEOUT_SECONDS, show_default=True, help="Seconds to wait.")(command)
    return click.option("--wait", is_flag=True, help="Wait, and show progress.")(command)


@pod.command("create")
@click.argument("name")
@click.option("--template", "-t", help="The template to start from; see `neuropod template ls`.")
@click.option("--image", help="Any container image instead of a template.")
@click.option("--gpu-type", help="The type to run on; see `neuropod gpu ls`. Default: the template's.")
@click.option("--gpu-count", type=int, help="How many of it. Default: 1.")
@click.option("--disk", type=int, metavar="GB", help="The container disk, lost when the pod stops.")
@click.option("--volume", metavar="NAME[:GB]", help="The volume at /workspace. Default: the template's.")
@click.option("--no-volume", is_flag=True, help="Attach no volume.")
@click.option("--port", "ports", multiple=True, metavar="PORT[:NAME[:ACCESS]]", help="A port to expose; repeat it.")
@click.option("--env", "-e", multiple=True, metavar="KEY=VALUE", help="An environment variable; repeat it.")
@click.option("--command", "argv", metavar="WORDS", help="The command to run instead, split as a shell would.")
@_waiting
@as_json
@shared
@explained
def create(use: Shared, /, name: str, **asked: Any) -> None:
    """Launch a pod.

    \b
    Examples:
      neuropod pod create lab --template jupyterlab --wait
      neuropod pod create site -t python-web --port 8000:site:public
      neuropod pod create big -t jupyterlab --gpu-type rtx-4090 --volume data:50
    """
    made = use.api.create_pod(_creation(name, asked))
    if asked["wait"]:
        made = wait_until_running(use.api, made.name, asked["timeout"])
    _show(made, as_json=asked["as_json"])
    if not asked["wait"] and not asked["as_json"]:
        click.echo(f"\nIt starts now. `neuropod pod show {made.name}` tells how far it is; `--wait` would have waited.")


def _creation(name: str, asked: dict[str, Any]) -> PodCreate:
    if not (asked["template"] or asked["image"]):
        raise click.UsageError("say what to start: --template NAME (see `neuropod template ls`) or --image IMAGE")
    if asked["volume"] and asked["no_volume"]:
        raise click.UsageError("--volume and --no-volume exclude each other")
    values: dict[str, Any] = {"name": name}
    given = {
        "template": asked["template"],
        "image": asked["image"],
        "gpu_type": asked["gpu_type"],
        "gpu_count": asked["gpu_count"],
        "container_disk_gb": asked["disk"],
    }
    values |= {field: value for field, value in given.items() if value is not None}
    if asked["no_volume"]:
        values["volume"] = None
    elif asked["volume"]:
        values["volume"] = volume_of(asked["volume"])
    if asked["ports"]:
        values["ports"] = [port_of(text) for text in asked["ports"]]
    if asked["env"]:
        values["env"] = env_of(asked["env"])
    if asked["argv"]:
        values["command"] = _split(asked["argv"])
    return PodCreate.model_validate(values)


def _split(words: str) -> list[str]:
    import shlex  # noqa: PLC0415 - used by two options alone

    try:
        return shlex.split(words)
    except ValueError as error:
        raise click.BadParameter(f"--command: {error}") from error


@pod.command("ls")
@click.option("--all", "everybody", is_flag=True, help="Everybody's pods; for administrators.")
@as_json
@shared
@explained
def ls(use: Shared, /, everybody: bool, as_json: bool) -> None:
    """List pods.

    \b
    Examples:
      neuropod pod ls
      neuropod pod ls --all --json
    """
    pods = list(use.api.pods(all_users=everybody))
    if as_json:
        show_json(pods)
        return
    head = ["NAME", *(["OWNER"] if everybody else []), "TYPE", "PRICE/H", "SINCE", "STATUS"]
    rows = [
        [
            one.name,
            *([one.owner.email] if everybody else []),
            one.gpu_type if one.gpu_count == 1 else f"{one.gpu_count} x {one.gpu_type}",
            f"{one.price.per_hour} {one.price.currency}",
            ago(one.since),
            state_of(one),
        ]
        for one in pods
    ]
    show_table(head, rows, "No pods yet. Start one: neuropod pod create lab --template jupyterlab --wait")


@pod.command("show")
@click.argument("name")
@as_json
@shared
@explained
def show(use: Shared, /, name: str, as_json: bool) -> None:
    """Show one pod.

    \b
    Examples:
      neuropod pod show lab
    """
    _show(use.api.pod(name), as_json=as_json)


def _show(one: Pod, *, as_json: bool) -> None:
    if as_json:
        show_json(one)
        return
    volume = one.volume
    lines = [
        ("name", one.name),
        ("status", state_of(one)),
        ("since", ago(one.since)),
        ("owner", one.owner.email),
        ("template", one.template or "-"),
        ("runs on", f"{one.gpu_count} x {one.gpu_type}: {one.cpu_cores} cores, {one.memory_gb} GB"),
        ("price", f"{one.price.per_hour} {one.price.currency} an hour"),
        ("volume", f"{volume.name}, {volume.size_gb} GB at {volume.path}" if volume else "none"),
        ("container disk", f"{one.container_disk_gb} GB, lost when the pod stops"),
    ]
    for label, value in lines:
        click.echo(f"{label + ':':<16}{clean_line(value)}")
    for port in one.ports:
        click.echo(f"port {port.port}:".ljust(16) + clean_line(f"{port.url} ({port.name}, {port.access})"))
    if one.message and one.message not in state_of(one):
        click.echo(clean_line(one.message))


@pod.command("logs")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
@click.option("--tail", type=int, metavar="N", help="Begin with the last N lines.")
@click.option("--run", "incarnation", type=int, metavar="N", help="The Nth run of the pod. Default: the newest.")
@as_json
@shared
@explained
def logs(use: Shared, /, name: str, follow: bool, tail: int | None, incarnation: int | None, as_json: bool) -> None:
    """Print what a pod writes; it is kept after the pod has ended.

    \b
    Examples:
      neuropod pod logs lab --tail 50
      neuropod pod logs -f lab
      neuropod pod logs lab --run 1
    """
    if not (follow or as_json):
        click.echo(clean(use.api.logs(name, tail=tail, incarnation=incarnation)), nl=False)
        return
    if not follow:
        for text in use.api.logs(name, tail=tail, incarnation=incarnation).splitlines():
            _echo_json_line(text)
        return
    try:
        for line in use.api.follow_logs(name, tail=tail, incarnation=incarnation):
            _echo_json_line(line.text) if as_json else click.echo(clean(line.text))
    except KeyboardInterrupt:
        return


def _echo_json_line(text: str) -> None:
    import json  # noqa: PLC0415 - for --json alone

    click.echo(json.dumps({"text": text}, ensure_ascii=False))


@pod.command("open")
@click.argument("name")
@click.argument("port", type=int, required=False)
@as_json
@shared
@explained
def open_(use: Shared, /, name: str, port: int | None, as_json: bool) -> None:
    """Print the link that opens a port in a browser; for Jupyter Lab signed in.

    \b
    Examples:
      neuropod pod open lab 8888
    """
    if port is None:
        port = _only_port(use.api, name)
    link = use.api.link(name, port)
    if as_json:
        show_json(link)
    else:
        click.echo(clean_line(link.url))


def _only_port(api: Api, name: str) -> int:
    ports = [port.port for port in api.pod(name).ports]
    if len(ports) == 1:
        return ports[0]
    if not ports:
        raise Ended(f"{name} exposes no port; add one: neuropod port add {name} 8000", Exit.NOT_FOUND)
    raise click.UsageError(f"{name} has several ports, say which: {', '.join(map(str, ports))}")


@pod.command("start")
@click.argument("name")
@_waiting
@as_json
@shared
@explained
def start(use: Shared, /, name: str, wait: bool, timeout: int, as_json: bool) -> None:
    """Start a stopped pod; address and volume are the same.

    \b
    Examples:
      neuropod pod start lab --wait
    """
    one = use.api.verb(name, "start")
    _tell(wait_until_running(use.api, name, timeout) if wait else one, as_json=as_json)


@pod.command("restart")
@click.argument("name")
@_waiting
@as_json
@shared
@explained
def restart(use: Shared, /, name: str, wait: bool, timeout: int, as_json: bool) -> None:
    """Stop a pod and start it again; what is on its container disk is lost.

    \b
    Examples:
      neuropod pod restart lab --wait
    """
    one = use.api.verb(name, "restart")
    _tell(wait_until_running(use.api, name, timeout) if wait else one, as_json=as_json)


@pod.command("stop")
@click.argument("name")
@_waiting
@as_json
@shared
@explained
def stop(use: Shared, /, name: str, wait: bool, timeout: int, as_json: bool) -> None:
    """Stop a pod. Its volume stays; what is on its container disk is lost.

    \b
    Examples:
      neuropod pod stop lab
    """
    one = use.api.verb(name, "stop")
    _tell(wait_until_stopped(use.api, name, timeout) if wait else one, as_json=as_json)


def _tell(one: Pod, *, as_json: bool) -> None:
    if as_json:
        show_json(one)
    else:
        click.echo(f"{one.name}: {state_of(one)}")


@pod.command("rm")
@click.argument("names", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask when the pod runs.")
@shared
@explained
def rm(use: Shared, /, names: tuple[str, ...], yes: bool) -> None:
    """Delete pods. Their volumes stay.

    \b
    Examples:
      neuropod pod rm lab
      neuropod pod rm --yes lab other
    """
    for name in names:
        one = use.api.pod(name)
        runs = one.status in {Status.RUNNING, Status.STARTING}
        if runs and not yes and sys.stdin.isatty():
            click.confirm(f"{name} is {one.status}. Delete it, with what is on its container disk?", abort=True)
        use.api.delete_pod(name)
        click.echo(f"{name}: deleting" + (f"; its volume {one.volume.name} stays" if one.volume else ""))


@pod.command("edit")
@click.argument("name")
@click.option("--image", help="Another image.")
@click.option("--gpu-type", help="Another type.")
@click.option("--gpu-count", type=int, help="Another number of it.")
@click.option("--disk", type=int, metavar="GB", help="Another size of the container disk.")
@click.option("--volume", metavar="NAME[:GB]", help="Another volume.")
@click.option("--no-volume", is_flag=True, help="Detach the volume.")
@click.option("--env", "-e", multiple=True, metavar="KEY=VALUE", help="Replaces all variables; repeat it.")
@click.option("--command", "argv", metavar="WORDS", help="Another command.")
@click.option("--restart", "anew", is_flag=True, help="Restart it if it runs, which most changes need.")
@as_json
@shared
@explained
def edit(use: Shared, /, name: str, **asked: Any) -> None:
    """Change a pod.

    \b
    Examples:
      neuropod pod edit lab --gpu-type rtx-4090 --restart
      neuropod pod edit lab -e DEBUG=1 --restart
    """
    given = {
        "image": asked["image"],
        "gpu_type": asked["gpu_type"],
        "gpu_count": asked["gpu_count"],
        "container_disk_gb": asked["disk"],
    }
    values: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if asked["no_volume"]:
        values["volume"] = None
    elif asked["volume"]:
        values["volume"] = volume_of(asked["volume"])
    if asked["env"]:
        values["env"] = env_of(asked["env"])
    if asked["argv"]:
        values["command"] = _split(asked["argv"])
    if not values:
        raise click.UsageError("say what to change; see `neuropod pod edit --help`")
    if asked["anew"]:
        values["restart"] = True
    _show(use.api.edit_pod(name, PodEdit.model_validate(values)), as_json=asked["as_json"])


@pod.command("events")
@click.argument("name")
@click.option("--limit", default=50, show_default=True, help="How many, newest first.")
@as_json
@shared
@explained
def events(use: Shared, /, name: str, limit: int, as_json: bool) -> None:
    """List what happened to a pod, newest first.

    \b
    Examples:
      neuropod pod events lab
    """
    found = [event for event, _ in zip(use.api.pod_events(name), range(limit), strict=False)]
    if as_json:
        show_json(found)
        return
    show_table(
        ["WHEN", "WHAT", "MESSAGE"],
        [[f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}", event.kind, event.message] for event in found],
        "Nothing happened yet.",
    )
