"""The templates that Neuropod ships with, read from the files in `starters/`. Used by service.

A file that is wrong is a defect of ours and fails the start: unknown keys are refused, as in a request.
"""

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from neuropod.templates.snapshot import LocalRecipe, TemplatePort, TemplateSnapshot
from neuropod.words import Access, JupyterMode, ReadyWhen


@dataclass(frozen=True, slots=True)
class Starter:
    """A template as shipped."""

    description: str
    readme: str
    snapshot: TemplateSnapshot


def starters() -> list[Starter]:
    """Return all of them, by name."""
    folder = resources.files("neuropod.templates").joinpath("starters")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return [starter_from(tomllib.loads(file.read_text("utf-8"))) for file in files]


def starter_from(values: dict[str, Any]) -> Starter:
    """Read one file's content; a missing or an unknown key raises KeyError or ValueError."""
    values = dict(values)
    recipe = values.pop("recipe", None)
    command = values.pop("command", None)
    starter = Starter(
        description=values.pop("description"),
        readme=values.pop("readme").strip() + "\n",
        snapshot=TemplateSnapshot(
            name=values.pop("name"),
            title=values.pop("title"),
            shared=True,
            image=values.pop("image", None),
            command=tuple(command) if command is not None else None,
            recipe=recipe and LocalRecipe(packages=tuple(recipe["packages"]), command=tuple(recipe["command"])),
            env=values.pop("env", {}),
            ports=tuple(
                TemplatePort(port["port"], port["name"], Access(port.get("access", Access.PRIVATE)))
                for port in values.pop("ports", ())
            ),
            container_disk_gb=values.pop("container_disk_gb"),
            volume_gb=values.pop("volume_gb", None),
            gpu_type=values.pop("gpu_type"),
            jupyter=JupyterMode(values.pop("jupyter", JupyterMode.OFF)),
            ready_when=ReadyWhen(values.pop("ready_when")),
            ready_port=values.pop("ready_port", None),
            ready_http=values.pop("ready_http", True),
        ),
    )
    if values:
        raise ValueError(f"unknown keys in the starter {starter.snapshot.name}: {', '.join(values)}")
    return starter
