"""Templates that one writes."""

from urllib.parse import quote

from neuropod.client.connection import Connection
from neuropod.wire.templates import Template, TemplateCopy, TemplateCreate, TemplateEdit


class Templates:
    """`/api/v1/templates`; reading them is in `client.offers`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create_template(self, asked: TemplateCreate) -> Template:
        """Write a template."""
        return self._connection.ask(Template, "POST", "/templates", body=asked)

    def edit_template(self, template: str, asked: TemplateEdit) -> Template:
        """Change a template."""
        return self._connection.ask(Template, "PATCH", _path(template), body=asked)

    def duplicate_template(self, template: str, asked: TemplateCopy) -> Template:
        """Make a copy of one's own."""
        return self._connection.ask(Template, "POST", f"{_path(template)}/duplicate", body=asked)

    def delete_template(self, template: str) -> None:
        """Delete a template."""
        self._connection.send("DELETE", _path(template))


def _path(template: str) -> str:
    return f"/templates/{quote(template, safe='')}"
