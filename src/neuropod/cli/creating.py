"""`neuropod pod create` and `pod edit`: options into requests. An option that is not given stays out of the request."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from neuropod.cli.commands import UserCall, UserCommand
from neuropod.cli.connecting import pods_of
from neuropod.cli.showing import show_pod
from neuropod.cli.typed import command_of, env_of, limit_of, port_of, secret_env_of, volume_of
from neuropod.cli.waiting import Goal, Waiting
from neuropod.kit.terminal.commands import choice_of
from neuropod.wire.pods import Pod, PodCreate, PodEdit
from neuropod.words import JupyterMode, Status

F = TypeVar("F", bound=Callable[..., Any])

WAIT_SECONDS = 1800

# Options that are fields of the request as they are.
_FIELDS = {
    "owner": "owner",
    "template": "template",
    "image": "image",
    "gpu_type": "gpu_type",
    "gpu_count": "gpu_count",
    "disk": "container_disk_gb",
    "jupyter": "jupyter",
}


def waiting_options(command: F) -> F:
    """Add `--wait` and `--timeout`."""
    command = click.option(
        "--timeout", type=click.IntRange(1), default=WAIT_SECONDS, show_default=True, metavar="SECONDS",
        help="How long to wait.",
    )(command)  # fmt: skip
    return click.option("--wait", is_flag=True, help="Wait until it is done, and show how far it is.")(command)


def _size_options(command: F) -> F:
    for option in reversed((
        click.option("--gpu-type", metavar="TYPE", help="What it runs on; see `neuropod gpu-type ls`."),
        click.option("--gpu-count", type=int, metavar="N", help="How many of that type."),
        click.option("--disk", type=int, metavar="GB", help="Its container disk: what it writes outside /workspace."),
        click.option("--volume", metavar="NAME[:GB]", help="The disk at /workspace, made at its first use."),
        click.option("--no-volume", is_flag=True, help="Attach none."),
        click.option("--env", "-e", multiple=True, metavar="KEY=VALUE",
                     help="A variable; KEY alone takes the value from here. Repeatable."),
        click.option("--secret-env", multiple=True, metavar="VARIABLE=SECRET",
                     help="A variable that holds a secret of the owner's; see `neuropod secret ls`. Repeatable."),
        click.option("--command", metavar="WORDS", help="What to run instead, split into words as a shell would."),
        click.option("--jupyter", type=choice_of(JupyterMode), help="Where Jupyter's token comes from."),
        click.option("--stop-after", metavar="SPAN",
                     help="Stop each run so long after it began: 8h, 90m, 1d12h; or never."),
        click.option("--idle-stop-after", metavar="SPAN",
                     help="Stop it once nobody used it and nothing worked in it for so long; or never."),
    )):  # fmt: skip
        command = option(command)
    return command


def create_options(command: F) -> F:
    """Add all that says what a new pod shall be; `asked_of` reads it."""
    for option in reversed((
        click.option("--template", "-t", metavar="NAME", help="What to start from; see `neuropod template ls`."),
        click.option("--for", "owner", metavar="E-MAIL", help="Make it for a client; for administrators."),
        click.option("--image", metavar="IMAGE", help="Or any container image, where a runtime runs images."),
        click.option("--port", multiple=True, metavar="PORT[:NAME[:ACCESS]]",
                     help="A port to expose instead of the template's; ACCESS is private, members or public. "
                     "Repeatable."),
        _size_options,
    )):  # fmt: skip
        command = option(command)
    return command


def asked_of(name: str, given: Mapping[str, Any], environ: Mapping[str, str]) -> PodCreate:
    """Return the request for a new pod from what was given to `create_options`."""
    if (given["template"] is None) == (given["image"] is None):
        raise click.UsageError("say what to start: --template NAME (see `neuropod template ls`) or --image IMAGE")
    values = _values(given, environ)
    if given["port"]:
        values["ports"] = [port_of(text) for text in given["port"]]
    return PodCreate(name=name, **values)


@click.command(
    "create",
    cls=UserCommand,
    examples=[
        "neuropod pod create lab --template jupyterlab --wait",
        "neuropod pod create site -t python-web --port 8000:site:public --disk 5",
        "neuropod pod create big -t jupyterlab-scientific --gpu-type rtx-4090 --volume data:100 -e TOKEN",
        "neuropod pod create lab -t jupyterlab --secret-env HF_TOKEN=HF_TOKEN",
        "neuropod pod create lab -t jupyterlab --for ada@example.org",
        "neuropod pod create lab -t jupyterlab --stop-after 8h --idle-stop-after 30m",
        "neuropod pod create job --image ubuntu:24.04 --command 'sleep 3600' --no-volume",
    ],
)
@click.argument("name")
@create_options
@waiting_options
@click.pass_obj
def create(call: UserCall, /, name: str, **given: Any) -> None:
    """Launch a pod.

    It starts as soon as there is room, and waiting is free. What is not given comes from the template.
    """
    pods = pods_of(call)
    pod = pods.create_pod(asked_of(name, given, call.environ))
    if given["wait"]:
        pod = Waiting(call, pods, timeout_seconds=given["timeout"]).wait(pod, Goal.RUNNING) or pod
    after_wish(call, pod)


def _values(given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a request that were given."""
    values = {field: given[name] for name, field in _FIELDS.items() if given.get(name) is not None}
    if given["volume"] is not None and given["no_volume"]:
        raise click.UsageError("--volume and --no-volume exclude each other")
    if given["no_volume"]:
        values["volume"] = None
    elif given["volume"] is not None:
        values["volume"] = volume_of(given["volume"])
    if given["env"] or given["secret_env"]:
        values["env"] = {**env_of(given["env"], environ), **secret_env_of(given["secret_env"])}
    if given["command"] is not None:
        values["command"] = command_of(given["command"])
    for name in ("stop_after", "idle_stop_after"):
        if given[name] is not None:
            values[f"{name}_seconds"] = limit_of(given[name])
    return values


@click.command(
    "edit",
    cls=UserCommand,
    examples=[
        "neuropod pod edit lab --gpu-type rtx-4070 --restart --wait",
        "neuropod pod edit lab --disk 20",
        "neuropod pod edit lab --stop-after 12h --idle-stop-after never",
        "neuropod pod edit lab --volume data:50 --restart",
    ],
)
@click.argument("name")
@click.option("--image", metavar="IMAGE", help="Another container image.")
@_size_options
@click.option("--no-command", is_flag=True, help="Run the template's or the image's own command again.")
@click.option("--no-env", is_flag=True, help="Take all variables away.")
@click.option("--restart", is_flag=True, help="If it runs: start it anew, changed. Its container disk is lost.")
@waiting_options
@click.pass_obj
def edit(call: UserCall, /, name: str, **given: Any) -> None:
    """Change a pod.

    All changes but limits of time need a new run, so a pod that runs is changed only with --restart. --env and
    --secret-env replace all variables.
    """
    values = _values(given, call.environ)
    if given["no_command"]:
        values["command"] = None
    if given["no_env"]:
        values["env"] = {}
    if not values:
        raise click.UsageError("say what to change, as in --gpu-type rtx-4070 or --disk 20")
    if given["restart"]:
        values["restart"] = True
    pods = pods_of(call)
    pod = pods.edit_pod(name, PodEdit(**values))
    if given["wait"] and pod.status not in {Status.STOPPED, Status.FAILED, Status.FINISHED}:
        pod = Waiting(call, pods, timeout_seconds=given["timeout"]).wait(pod, Goal.RUNNING) or pod
    after_wish(call, pod)


def after_wish(call: UserCall, pod: Pod) -> None:
    """Print a pod after a change, and what one may do next."""
    if call.show_json(pod):
        return
    show_pod(call.screen, pod, call.clock.now())
    if pod.status is Status.RUNNING and pod.ports:
        call.screen.note(f"\nOpen it: {call.program} pod open {pod.name} {pod.ports[0].port}")
    elif pod.status in {Status.STARTING, Status.WAITING}:
        call.screen.note(
            f"\nLook again: {call.program} pod show {pod.name}   Its log: {call.program} pod logs -f {pod.name}"
        )
