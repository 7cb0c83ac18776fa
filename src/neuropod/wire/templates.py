"""Templates: named starting points for pods."""

from neuropod.wire.shapes import Answer, Page
from neuropod.words import Access, JupyterMode


class TemplatePort(Answer):
    """A port that the template opens."""

    port: int
    name: str
    access: Access


class Template(Answer):
    """A template."""

    id: str
    name: str
    """As typed after `--template`."""

    title: str
    description: str
    readme: str
    """Markdown."""

    author: str | None
    """The id of the person who wrote it; null for those that come with Neuropod."""

    public: bool
    image: str | None
    command: list[str] | None
    env: dict[str, str]
    ports: list[TemplatePort]
    gpu_type: str
    container_disk_gb: int
    volume_gb: int | None
    """The size of the workspace when this pod is the first to use it; null: none is attached."""

    jupyter: JupyterMode
    runnable: bool
    """Whether a runtime here can run it."""

    why_not: str | None = None
    """The sentence that says why not."""


class TemplatePage(Page[Template]):
    """A part of the list of templates."""
