"""`neuropod port …`: the ports of a pod."""

from typing import Any

import click

from neuropod.cli.asked import access_of, port_of
from neuropod.cli.context import Shared, as_json, shared, show_json, show_table
from neuropod.cli.outcome import explained
from neuropod.cli.text import clean_line
from neuropod.wire.pods import Port, PortEdit
from neuropod.words import Access


@click.group("port")
def port() -> None:
    """Expose ports of a pod, and say who may pass."""


@port.command("ls")
@click.argument("pod")
@as_json
@shared
@explained
def ls(use: Shared, /, pod: str, as_json: bool) -> None:
    """List the ports of a pod.

    \b
    Examples:
      neuropod port ls lab
    """
    ports = use.api.pod(pod).ports
    if as_json:
        show_json(ports)
        return
    rows = [[str(one.port), one.name, one.access, one.url] for one in ports]
    show_table(["PORT", "NAME", "ACCESS", "URL"], rows, f"No port yet. Add one: neuropod port add {pod} 8000")


@port.command("add")
@click.argument("pod")
@click.argument("asked", metavar="PORT[:NAME[:ACCESS]]")
@as_json
@shared
@explained
def add(use: Shared, /, pod: str, asked: str, as_json: bool) -> None:
    """Expose a port; the pod need not be restarted.

    \b
    Examples:
      neuropod port add lab 6006:tensorboard
      neuropod port add lab 8000::public
    """
    _show(use.api.add_port(pod, port_of(asked)), as_json=as_json)


@port.command("set")
@click.argument("pod")
@click.argument("number", type=int, metavar="PORT")
@click.option("--name", help="Another name.")
@click.option("--access", type=click.Choice([level.value for level in Access]), help="Who may pass.")
@as_json
@shared
@explained
def set_(use: Shared, /, pod: str, number: int, name: str | None, access: str | None, as_json: bool) -> None:
    """Rename a port, or change who may pass.

    \b
    Examples:
      neuropod port set lab 8888 --access members
      neuropod port set lab 8000 --name demo
    """
    values: dict[str, Any] = {}
    if name is not None:
        values["name"] = name
    if access is not None:
        values["access"] = access_of(access)
    if not values:
        raise click.UsageError("say what to change: --name or --access")
    _show(use.api.edit_port(pod, number, PortEdit.model_validate(values)), as_json=as_json)


@port.command("rm")
@click.argument("pod")
@click.argument("number", type=int, metavar="PORT")
@shared
@explained
def rm(use: Shared, /, pod: str, number: int) -> None:
    """Expose a port no more.

    \b
    Examples:
      neuropod port rm lab 8000
    """
    use.api.remove_port(pod, number)
    click.echo(f"{pod}: port {number} is no longer exposed")


def _show(one: Port, *, as_json: bool) -> None:
    if as_json:
        show_json(one)
    else:
        click.echo(clean_line(f"{one.port} ({one.name}, {one.access}): {one.url}"))
