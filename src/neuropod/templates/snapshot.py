"""What a template says of a pod, as a value: stored with the template, copied to the pod at launch, kept as it was."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from neuropod.ids import UserId
from neuropod.words import Access, JupyterMode, ReadyWhen


@dataclass(frozen=True, slots=True)
class TemplatePort:
    """A port that the template opens."""

    port: int
    name: str
    access: Access = Access.PRIVATE


@dataclass(frozen=True, slots=True)
class LocalRecipe:
    """How to run it without a container engine: exact packages (`name==version`) and a command (argv)."""

    packages: tuple[str, ...]
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TemplateSnapshot:
    """The parts of a template that shape a pod."""

    name: str
    title: str
    author_id: UserId | None = None  # None: a starter
    shared: bool = False  # a starter's or an administrator's: its built environment may serve all users
    image: str | None = None
    command: tuple[str, ...] | None = None
    recipe: LocalRecipe | None = None
    env: dict[str, str] = field(default_factory=dict)
    env_secrets: dict[str, str] = field(default_factory=dict)  # variable → name of a secret of the pod's owner
    ports: tuple[TemplatePort, ...] = ()
    container_disk_gb: int = 10
    volume_gb: int | None = 10  # size of the user's workspace when this pod is the first; None: no volume
    gpu_type: str = "cpu"
    jupyter: JupyterMode = JupyterMode.OFF
    ready_when: ReadyWhen = ReadyWhen.PROCESS
    ready_port: int | None = None
    ready_http: bool = True
    stop_after_seconds: int | None = None  # what a pod has that asks for nothing else; None: as the settings say
    idle_stop_after_seconds: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, equal to what a database gives back."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "TemplateSnapshot":
        """Read what `to_json` wrote; fields that a newer version added have their defaults."""
        values = dict(stored)
        recipe = values.get("recipe")
        values["recipe"] = recipe and LocalRecipe(tuple(recipe["packages"]), tuple(recipe["command"]))
        values["ports"] = tuple(
            TemplatePort(port["port"], port["name"], Access(port["access"])) for port in values.get("ports", ())
        )
        values["command"] = values.get("command") and tuple(values["command"])
        values["jupyter"] = JupyterMode(values.get("jupyter", JupyterMode.OFF))
        values["ready_when"] = ReadyWhen(values.get("ready_when", ReadyWhen.PROCESS))
        return cls(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)  # of a word its plain text
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return dict(value)
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return value
