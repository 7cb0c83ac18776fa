"""`neuropod template …` and `neuropod gpu …`: what there is to choose from."""

import click

from neuropod.cli.context import Shared, as_json, shared, show_json, show_table
from neuropod.cli.outcome import explained
from neuropod.cli.text import clean, clean_line


@click.group("template")
def template() -> None:
    """Look at templates."""


@template.command("ls")
@as_json
@shared
@explained
def ls_templates(use: Shared, /, as_json: bool) -> None:
    """List templates.

    \b
    Examples:
      neuropod template ls
    """
    found = list(use.api.templates())
    if as_json:
        show_json(found)
        return
    rows = [
        [one.name, one.gpu_type, one.title, one.description if one.runnable else one.why_not or "cannot run here"]
        for one in found
    ]
    show_table(["NAME", "TYPE", "TITLE", "DESCRIPTION"], rows, "No templates.")


@template.command("show")
@click.argument("name")
@as_json
@shared
@explained
def show_template(use: Shared, /, name: str, as_json: bool) -> None:
    """Show one template.

    \b
    Examples:
      neuropod template show jupyterlab
    """
    one = use.api.template(name)
    if as_json:
        show_json(one)
        return
    click.echo(clean_line(f"{one.title} ({one.name})"))
    click.echo(clean(one.description))
    if not one.runnable:
        click.echo(clean_line(f"Cannot run here: {one.why_not}"))
    for port in one.ports:
        click.echo(clean_line(f"port {port.port}: {port.name} ({port.access})"))
    click.echo()
    click.echo(clean(one.readme))


@click.group("gpu")
def gpu() -> None:
    """Look at GPU types, prices and what is free."""


@gpu.command("ls")
@as_json
@shared
@explained
def ls_types(use: Shared, /, as_json: bool) -> None:
    """List GPU types.

    \b
    Examples:
      neuropod gpu ls
    """
    found = list(use.api.gpu_types())
    if as_json:
        show_json(found)
        return
    rows = [
        [
            one.name,
            f"{one.price.per_hour} {one.price.currency}",
            str(one.cpu_cores),
            f"{one.memory_gb} GB",
            f"{one.free} of {one.total}",
            one.title,
        ]
        for one in found
    ]
    show_table(["NAME", "PRICE/H", "CORES", "MEMORY", "FREE", "TITLE"], rows, "No types are on offer.")
