"""`neuropod port …`: which ports of a pod have an address, and who may pass."""

import click

from neuropod.cli.commands import UserCall, UserGroup
from neuropod.cli.connecting import complete_pod, pods_of
from neuropod.cli.showing import show_ports
from neuropod.kit.terminal.commands import choice_of
from neuropod.wire.pods import PortCreate, PortEdit
from neuropod.words import Access

_NAME = click.option("--name", "title", metavar="TEXT", help="What it is called.")
_ACCESS = click.option(
    "--access", type=choice_of(Access), help="Who may pass: its owner, all who are signed in, or everybody."
)


@click.group("port", cls=UserGroup)
def port() -> None:
    """Expose ports of pods, rename them, change who may pass."""


@port.command("ls", examples=["neuropod port ls lab"])
@click.argument("pod", shell_complete=complete_pod)
@click.pass_obj
def list_(call: UserCall, pod: str) -> None:
    """List the ports of a pod with their addresses."""
    ports = pods_of(call).list_ports(pod)
    if call.show_json(ports):
        return
    if not ports:
        call.screen.note(f"{pod} exposes no port. Expose one: {call.program} port add {pod} 8000")
        return
    show_ports(call.screen, ports)


@port.command(
    "add",
    examples=["neuropod port add lab 8000", "neuropod port add lab 6006 --name TensorBoard --access members"],
)
@click.argument("pod", shell_complete=complete_pod)
@click.argument("number", metavar="PORT", type=int)
@_NAME
@_ACCESS
@click.pass_obj
def add(call: UserCall, pod: str, number: int, title: str | None, access: str | None) -> None:
    """Expose a port. It has its address at once, and the pod runs on."""
    given = {"name": title, "access": None if access is None else Access(access)}
    asked = PortCreate(port=number, **{name: value for name, value in given.items() if value is not None})
    made = pods_of(call).add_port(pod, asked)
    if not call.show_json(made):
        show_ports(call.screen, [made])


@port.command(
    "set",
    examples=["neuropod port set lab 8000 --access public", "neuropod port set lab 8000 --name 'My site'"],
)
@click.argument("pod", shell_complete=complete_pod)
@click.argument("number", metavar="PORT", type=int)
@_NAME
@_ACCESS
@click.pass_obj
def set_(call: UserCall, pod: str, number: int, title: str | None, access: str | None) -> None:
    """Rename a port, or change who may pass. Less access cuts open connections within seconds."""
    if title is None and access is None:
        raise click.UsageError("say what to change: --name TEXT or --access LEVEL")
    given = {"name": title, "access": None if access is None else Access(access)}
    asked = PortEdit(**{name: value for name, value in given.items() if value is not None})
    changed = pods_of(call).edit_port(pod, number, asked)
    if not call.show_json(changed):
        show_ports(call.screen, [changed])


@port.command("rm", examples=["neuropod port rm lab 8000"])
@click.argument("pod", shell_complete=complete_pod)
@click.argument("number", metavar="PORT", type=int)
@click.pass_obj
def rm(call: UserCall, pod: str, number: int) -> None:
    """Take a port's address away; the pod runs on."""
    pods_of(call).remove_port(pod, number)
    if call.screen.json:
        call.screen.data({"pod": pod, "port": number, "removed": True})
    else:
        call.screen.say(f"Port {number} of {pod} has no address any more.")
