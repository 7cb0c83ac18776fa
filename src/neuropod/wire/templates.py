"""Templates: named starting points for pods."""

from typing import Annotated

from pydantic import Field

from neuropod.wire.pods import (
    LEAST_LIMIT_SECONDS,
    MOST_LIMIT_SECONDS,
    POD_NAME_PATTERN,
    PlainEnvValue,
    PortCreate,
)
from neuropod.wire.shapes import Answer, Page, Request, limits
from neuropod.words import Access, JupyterMode, ReadyWhen

_Seconds = Annotated[int, limits(LEAST_LIMIT_SECONDS, MOST_LIMIT_SECONDS)]


class RecipeAsk(Request):
    """How to run it on a machine without a container engine."""

    packages: list[str]
    """All Python packages with exact versions, `name==1.2.3`, dependencies too; wheels only."""

    command: list[str]
    """What runs, as a list of arguments; no shell."""


class TemplateEdit(Request):
    """Changes to a template; what is absent stays. Pods go on with what they were launched from."""

    name: Annotated[str, Field(json_schema_extra={"pattern": POD_NAME_PATTERN})] | None = None
    title: str | None = None
    description: str | None = None
    readme: str | None = None
    """Markdown."""

    public: bool | None = None
    """Whether everybody may start from it; by administrators alone."""

    image: str | None = None
    """A container image; or a recipe, or both. Null: none."""

    command: list[str] | None = None
    """Null: the image's own."""

    recipe: RecipeAsk | None = None
    """Null: none."""

    env: dict[str, PlainEnvValue] | None = None
    """Seen by all who see the template. For what is secret `{"secret": "HF_TOKEN"}`: each pod is given the secret of
    that name of its own owner, who needs one to launch it, or gives the variable another value."""

    ports: list[PortCreate] | None = None
    gpu_type: str | None = None
    container_disk_gb: Annotated[int, limits(1, 100)] | None = None
    volume_gb: Annotated[int, limits(1, 150)] | None = None
    """The size of the workspace when this pod is the first to use it; null: none is attached."""

    jupyter: JupyterMode | None = None
    ready_when: ReadyWhen | None = None
    ready_port: Annotated[int, limits(1, 65535)] | None = None
    ready_http: bool | None = None
    """Whether the ready port speaks HTTP and has to answer it."""

    stop_after_seconds: _Seconds | None = None
    idle_stop_after_seconds: _Seconds | None = None


class TemplateCreate(TemplateEdit):
    """A template to write. It needs a name, a title, and an image or a recipe."""

    name: Annotated[str, Field(json_schema_extra={"pattern": POD_NAME_PATTERN})]
    title: str


class TemplateCopy(Request):
    """A copy of one's own."""

    name: Annotated[str, Field(json_schema_extra={"pattern": POD_NAME_PATTERN})]
    """What it is called."""


class TemplatePort(Answer):
    """A port that the template opens."""

    port: int
    name: str
    access: Access


class Recipe(Answer):
    """How it runs on a machine without a container engine."""

    packages: list[str]
    command: list[str]


class SecretName(Answer):
    """Stands for the value of a secret of the pod's owner."""

    secret: str


class Template(Answer):
    """A template."""

    id: str
    name: str
    """As typed after `--template`."""

    title: str
    description: str
    readme: str
    """Markdown, as it was written."""

    readme_html: str | None = None
    """The same as HTML that holds no script, style or form, fit to be put into a page. Null in lists."""

    author: str | None
    """The id of the person who wrote it; null for those that come with Neuropod."""

    public: bool
    image: str | None
    command: list[str] | None
    env: dict[str, str | SecretName]
    ports: list[TemplatePort]
    gpu_type: str
    container_disk_gb: int
    volume_gb: int | None
    """The size of the workspace when this pod is the first to use it; null: none is attached."""

    jupyter: JupyterMode
    recipe: Recipe | None = None
    ready_when: ReadyWhen = ReadyWhen.PROCESS
    ready_port: int | None = None
    ready_http: bool = True
    stop_after_seconds: int | None = None
    idle_stop_after_seconds: int | None = None
    runnable: bool
    """Whether a runtime here can run it."""

    why_not: str | None = None
    """The sentence that says why not."""


class TemplatePage(Page[Template]):
    """A part of the list of templates."""
