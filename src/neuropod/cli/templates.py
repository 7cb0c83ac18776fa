"""`neuropod template create|edit|duplicate|rm`: templates written in a file. `ls` and `show` are in `offers`."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from neuropod.cli.commands import UserCall
from neuropod.cli.offers import template
from neuropod.client.templates import Templates
from neuropod.wire.templates import Template, TemplateCopy, TemplateCreate, TemplateEdit

_FILE = click.option(
    "--file", "-f", "file", required=True, metavar="FILE", help="TOML, or JSON where it ends in .json; - is stdin."
)


def _read(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        values = json.loads(text) if file.endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise click.BadParameter(f"{file} cannot be understood: {error}") from None
    if not isinstance(values, dict):
        raise click.BadParameter(f"{file} holds no object")
    return values


def _wrong(error: ValidationError) -> click.BadParameter:
    wrong = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
    return click.BadParameter("; ".join(wrong))


def _say(call: UserCall, found: Template, what: str) -> None:
    if call.show_json(found):
        return
    call.screen.say(f"{found.name}: {what}")
    call.screen.note(f"Launch it: {call.program} pod create NAME --template {found.name} --wait")


@template.command(
    "create", examples=["neuropod template create --file mine.toml", "neuropod template create -f mine.json --public"]
)
@_FILE
@click.option("--public", is_flag=True, help="For everybody; by administrators.")
@click.pass_obj
def create(call: UserCall, file: str, public: bool) -> None:
    """Write a template: name, title, image or recipe, and what else the API names.

    In TOML, for example:

    \b
        name = "mine"
        title = "My web server"
        volume_gb = 10
        ports = [{port = 8000, name = "Web"}]
        env = {MODE = "test", HF_TOKEN = {secret = "HF_TOKEN"}}
        [recipe]
        packages = []
        command = ["python3", "-m", "http.server", "8000"]
    """
    values = _read(file) | ({"public": True} if public else {})
    try:
        asked = TemplateCreate.model_validate(values)
    except ValidationError as error:
        raise _wrong(error) from None
    _say(call, Templates(call.connection()).create_template(asked), "written")


@template.command("edit", examples=["neuropod template edit mine --file changes.toml"])
@click.argument("name")
@_FILE
@click.pass_obj
def edit(call: UserCall, name: str, file: str) -> None:
    """Change a template by the fields in the file. Pods go on with what they were launched from."""
    try:
        asked = TemplateEdit.model_validate(_read(file))
    except ValidationError as error:
        raise _wrong(error) from None
    _say(call, Templates(call.connection()).edit_template(name, asked), "changed")


@template.command("duplicate", examples=["neuropod template duplicate jupyterlab my-lab"])
@click.argument("name")
@click.argument("new_name")
@click.pass_obj
def duplicate(call: UserCall, name: str, new_name: str) -> None:
    """Make a private copy of your own."""
    _say(call, Templates(call.connection()).duplicate_template(name, TemplateCopy(name=new_name)), f"a copy of {name}")


@template.command("rm", examples=["neuropod template rm my-lab"])
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.pass_obj
def rm(call: UserCall, names: tuple[str, ...]) -> None:
    """Delete templates. Pods that came from them go on."""
    templates = Templates(call.connection())
    for name in names:
        templates.delete_template(name)
        if not call.screen.json:
            call.screen.say(f"{name}: deleted")
