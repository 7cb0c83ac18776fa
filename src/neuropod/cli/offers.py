"""`neuropod template …`: what there is to start from."""

import click

from neuropod.cli.commands import UserCall, UserGroup
from neuropod.client.offers import Offers
from neuropod.kit.terminal.tables import Column
from neuropod.wire.templates import SecretName, Template
from neuropod.words import JupyterMode

_TEMPLATE_COLUMNS = (
    Column("NAME"),
    Column("RUNS HERE"),
    Column("TYPE"),
    Column("TITLE", shrinks=True),
    Column("", shrinks=True),
)


@click.group("template", cls=UserGroup)
def template() -> None:
    """Look at templates: named starting points for pods."""


@template.command("ls", examples=["neuropod template ls"])
@click.pass_obj
def list_templates(call: UserCall) -> None:
    """List what you may start from."""
    found = list(Offers(call.connection()).list_templates())
    if call.show_json(found):
        return
    if not found:
        call.screen.note(f"There is no template. Start from an image: {call.program} pod create NAME --image IMAGE")
        return
    rows = [
        [
            one.name,
            "yes" if one.runnable else "no",
            one.gpu_type,
            one.title,
            (one.why_not or "") if not one.runnable else one.description,
        ]
        for one in found
    ]
    call.screen.table(_TEMPLATE_COLUMNS, rows, {"no": "yellow"})


@template.command("show", examples=["neuropod template show jupyterlab"])
@click.argument("name")
@click.pass_obj
def show_template(call: UserCall, name: str) -> None:
    """Show all about a template."""
    found = Offers(call.connection()).show_template(name)
    if call.show_json(found):
        return
    call.screen.fields(_fields(found))
    if found.readme:
        call.screen.say()
        call.screen.say(found.readme.strip())
    if found.runnable:
        call.screen.note(f"\nLaunch it: {call.program} pod create NAME --template {found.name} --wait")


def _variable(name: str, value: str | SecretName) -> str:
    return f"{name}={value}" if isinstance(value, str) else f"{name} (your secret {value.secret})"


def _fields(found: Template) -> list[tuple[str, str]]:
    ports = ", ".join(f"{port.port} ({port.name}, {port.access})" for port in found.ports)
    pairs = [
        ("Template", f"{found.name}: {found.title}"),
        ("", found.description),
        ("For", "everybody" if found.public else "its author and administrators"),
        ("Runs here", "yes" if found.runnable else f"no: {found.why_not}"),
        ("Image", found.image or ""),
        ("Command", " ".join(found.command or ())),
        ("Type", found.gpu_type),
        ("Disk", f"{found.container_disk_gb} GB"),
        ("Volume", "none" if found.volume_gb is None else f"workspace, {found.volume_gb} GB when it is made"),
        ("Ports", ports or "none"),
        ("Variables", ", ".join(_variable(name, value) for name, value in sorted(found.env.items()))),
        ("Jupyter", "" if found.jupyter is JupyterMode.OFF else "opens signed in"),
    ]
    return [(name, value) for name, value in pairs if value]
